"""Shards of JSON Lines, and the one file that they become when all are there."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch

from seed_hf.files import disk_errors

from .shard_folder import STAYS, ShardFolder, ShardRows


FOLDER = ".job"  # after the name of the file: `captions.jsonl.job`


class LineFolder(ShardFolder):
    """A folder of shards with a JSON object for each row: its id, and what each of the batches has for it.

    Args:
        path: Made if it is missing.
    """

    # The report of bad rows ends with .jsonl, too.
    stem, suffix, format = "part", ".rows.jsonl", "JSON Lines"

    def write_file(self, path: Path, shard: ShardRows) -> None:
        columns = {name: _values(batches) for name, batches in shard.batches.items()}
        with open(path, "w", encoding="utf-8") as file:
            for number, row in enumerate(shard.rows):
                line = {"id": row.id, **{name: values[number] for name, values in columns.items()}}
                file.write(_json_line(line))

    def unfinished(self, part: int, index: int, name: str) -> Path:
        """A temporary file for something that goes with a shard; after a kill, the next start removes it."""
        return self.path / f".{self.stem}-{part:05d}-{index:05d}.{name}.{os.getpid()}.unfinished"

    def join(self, manifest: dict[str, Any], out: Path) -> None:
        """Write the shards of a finished job one after the other into one file. An unfinished job writes none.

        Args:
            manifest: From `finish`.
            out: The file.
        """
        if not manifest["complete"]:
            return
        temporary = self.unfinished(0, 0, "joined")
        with disk_errors(out.absolute().parent, STAYS):
            try:
                with open(temporary, "wb") as whole:
                    for shard in manifest["shards"]:
                        with open(self.path / shard["file"], "rb") as file:
                            shutil.copyfileobj(file, whole)
                os.replace(temporary, out)
            finally:
                temporary.unlink(missing_ok=True)


def _json_line(value: Any) -> str:
    """JSON with a line end. Other characters that Python's `splitlines` takes for one are escaped."""
    text = json.dumps(value, ensure_ascii=False)
    return "".join(f"\\u{ord(each):04x}" if each in "\x85\u2028\u2029" else each for each in text) + "\n"


def folder_of(out: str | os.PathLike, *, new_parent: bool = False) -> Path:
    """The folder beside a file of JSON Lines in which its job keeps shards, manifest and report.

    Args:
        out: The file.
        new_parent: Whether the folder around it is made if it is missing.

    Raises:
        ValueError: The file is there, and no job has made it; or the folder around it is missing.
    """
    out = Path(out)
    folder = out.with_name(out.name + FOLDER)
    if out.is_dir():
        raise ValueError(f"{out}: this is a folder. Give the name of a file, such as {out / 'rows.jsonl'}.")
    if out.exists() and not folder.exists():
        raise ValueError(f"{out}: this file exists, and was not written by this command. Give another --out.")
    if not new_parent and not out.absolute().parent.is_dir():
        raise ValueError(f"{out}: the folder {out.parent} does not exist. Make it first.")
    return folder


def _values(batches: list) -> list:
    return [value for batch in batches for value in (batch.tolist() if isinstance(batch, torch.Tensor) else batch)]
