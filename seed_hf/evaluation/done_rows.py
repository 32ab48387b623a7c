"""The rows that an evaluation has done, in files beside its result: a killed evaluation goes on where it was.

`RESULT.rows.jsonl` has one JSON object for each row, after a line that says what is evaluated. Under torchrun each
process writes a file of its own, `RESULT.rows-1.jsonl` and so on; all of them count, however many processes go on.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch

from seed_hf.locks import LockFile


_BEGIN = b'{"evaluation": '  # of the first line


class DoneRows:
    """What was recorded of each row that is done; iterating gives the records in the order of the rows.

    Args:
        out: The JSON file of the result.
        identity: What is evaluated, and how. Records of another evaluation are not mixed in.
        rank: Number of this process, from 0.

    Raises:
        ValueError: The files beside `out` belong to another evaluation.
        BlockingIOError: Another process writes the same file.
    """

    def __init__(self, out: Path, identity: Mapping[str, Any], rank: int = 0):
        self._out, self._identity = out, json.loads(json.dumps(identity))
        self.path = out.with_name(f"{out.stem}.rows{f'-{rank}' if rank else ''}.jsonl")
        for file in self._files():
            self._check(file)
        self._lock = LockFile(self.path)
        if not self._lock.hold():
            raise BlockingIOError(
                f"{self.path}: another evaluation is writing here. Wait for it, or give another --out."
            )
        end = max((end for _, end, _ in _lines(self.path)), default=0)
        self._file = open(self.path, "r+b")
        self._file.truncate(end)  # the line that was being written when the evaluation was killed
        self._file.seek(end)
        if not end:
            self._write({"evaluation": self._identity})
        self._places: dict[int, tuple[Path, int]] = {}
        self.read()

    def read(self) -> None:
        """Look which rows are done, by this process or by others."""
        self._file.flush()
        self._places = {}
        for file in self._files():
            for start, _, record in _lines(file):
                # A row that was bad may have been mended since.
                if "row" in record and not ("bad" in record and record["row"] in self._places):
                    self._places[record["row"]] = (file, start)

    def __contains__(self, row: int) -> bool:
        return row in self._places

    def __getitem__(self, row: int) -> dict[str, Any]:
        path, start = self._places[row]
        with open(path, "rb") as file:
            file.seek(start)
            return json.loads(file.readline())

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        with ExitStack() as stack:
            files = {path: stack.enter_context(open(path, "rb")) for path in self._files()}
            for row in sorted(self._places):
                path, start = self._places[row]
                files[path].seek(start)
                yield json.loads(files[path].readline())

    def add(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Record rows.

        Args:
            records: Each with the number of its row as `row`.
        """
        for record in records:
            self._places[record["row"]] = (self.path, self._file.tell())
            self._write(record)
        self._file.flush()

    def forget(self, rows: Iterable[int]) -> None:
        """Take rows as not done: the next record of each counts.

        Args:
            rows: Their numbers.
        """
        for row in rows:
            del self._places[row]

    def close(self) -> None:
        """Let others write."""
        self._file.close()
        self._lock.close()

    def _write(self, value: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(value, ensure_ascii=False).encode() + b"\n")

    def _files(self) -> list[Path]:
        name = re.compile(re.escape(self._out.stem) + r"\.rows(-\d+)?\.jsonl")
        return sorted(path for path in self._out.parent.iterdir() if name.fullmatch(path.name))

    def _check(self, file: Path) -> None:
        """Raises `ValueError` if a file belongs to another evaluation."""
        first = next(_lines(file), None)
        if first is None or "evaluation" not in first[-1]:
            with open(file, "rb") as opened:
                begun = opened.read(len(_BEGIN))
            if first is None and _BEGIN.startswith(begun):  # killed while it wrote its first line
                return
            raise ValueError(f"{file}: no rows of an evaluation. Give another --out, whose rows have another name.")
        found = first[-1]["evaluation"]
        names = [name for name in {**found, **self._identity} if found.get(name) != self._identity.get(name)]
        if names:
            raise ValueError(
                f"{file}: rows of another evaluation; {', '.join(_difference(found, self._identity, names))}. Give "
                "another --out, or remove the file."
            )


def _lines(path: Path) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """The whole lines of a file, each with where it starts and ends; nothing after a damaged one."""
    start = 0
    with open(path, "rb") as file:
        for line in file:
            try:
                value = json.loads(line) if line.endswith(b"\n") else None
            except ValueError:
                value = None
            if not isinstance(value, dict):
                return
            yield start, start + len(line), value
            start += len(line)


def _difference(old: Mapping, new: Mapping, names: Iterable[str]) -> Iterator[str]:
    for name in names:
        before, now = old.get(name), new.get(name)
        if isinstance(before, dict) and isinstance(now, dict):
            inner = [key for key in {**before, **now} if before.get(key) != now.get(key)]
            yield from (f"{name} {text}" for text in _difference(before, now, inner))
        else:
            yield f"{name} was {before!r:.60} and is {now!r:.60}"


def features_to_text(features: torch.Tensor) -> str:
    """Features of a record, ready for JSON: float32 in base64."""
    return base64.b64encode(features.numpy().astype("<f4").tobytes()).decode()


def features_of_text(text: str) -> torch.Tensor:
    """What [`features_to_text`] wrote."""
    return torch.from_numpy(np.frombuffer(base64.b64decode(text), "<f4").copy())
