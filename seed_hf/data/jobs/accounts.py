"""The accounts of a job's finished shards: one JSON file each, which nothing but the same job can have written.

An account is sealed with what the job depends on. So one that is cut, edited or of another job counts as none, and its
shard is made again.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

from seed_hf.files import whole_file


class Accounts:
    """The accounts in a folder.

    Args:
        folder: Of the JSON files.
        stem: What their names begin with.
        identity: What the job depends on; JSON-ready.
    """

    def __init__(self, folder: Path, stem: str, identity: dict):
        self._folder, self._stem = folder, stem
        self._key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).digest()

    def path(self, part: int, index: int) -> Path:
        """The file of a shard's account."""
        return self._folder / f"{self._stem}-{part:05d}-{index:05d}.json"

    def write(self, part: int, index: int, account: dict) -> None:
        """Seal and write a shard's account."""
        write_json(self.path(part, index), {**account, "seal": self._seal(account)})

    def read(self, part: int, index: int) -> dict | None:
        """A shard's account without its seal; `None` if what is there was not written by this job, or was changed.

        Raises:
            FileNotFoundError: There is none.
        """
        account = _json(self.path(part, index))
        return account if account is not None and account.pop("seal", None) == self._seal(account) else None

    def marks(self) -> dict[Path, tuple[int, int]]:
        """Time and number of every file, by which one that was written since is known whatever the clocks say."""
        return {path: _mark(path) for path in self._files()}

    def written_since(self, marks: dict[Path, tuple[int, int]], part: int, index: int) -> bool:
        """Whether a shard's account is not one of those that had these marks."""
        path = self.path(part, index)
        return marks.get(path) != _mark(path)

    def shards(self) -> list[tuple[int, int]]:
        """Part and index of every file."""
        names = (path.stem.removeprefix(f"{self._stem}-") for path in self._files())
        numbers = (re.fullmatch(r"(\d+)-(\d+)", name) for name in names)
        return sorted((int(found[1]), int(found[2])) for found in numbers if found)

    def owners(self) -> set[bool]:
        """Whose accounts there are: `True` for this job's, `False` for another job's. Damaged ones are nobody's."""
        found = set()
        for path in self._files():
            if (account := _json(path)) is not None and (seal := account.pop("seal", None)) is not None:
                found.add(seal == self._seal(account))
        return found

    def _files(self) -> Iterator[Path]:
        return self._folder.glob(f"{self._stem}-*.json")

    def _seal(self, account: dict) -> str:
        return hashlib.sha256(self._key + json.dumps(account, sort_keys=True).encode()).hexdigest()


def write_json(path: Path, value: dict) -> None:
    """Write a JSON object whole, and onto the disk before it gets its name."""
    text = json.dumps(value, indent=1, ensure_ascii=False)
    with whole_file(path) as temporary:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())


def _mark(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_ino


def _json(path: Path) -> dict | None:
    """A JSON object; `None` if the file holds anything else."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
