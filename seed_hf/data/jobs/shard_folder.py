"""The folder that a job over a source writes: shards, an account of each, and a manifest of all.

    OUT/codes-00000-00000.parquet   part 0 of the source, its first `rows_per_shard` rows
    OUT/manifest.json               source, tokenizer and settings; row ranges and hashes of the shards; totals
    OUT/bad_images.jsonl            file, row, id and reason of every bad image
    OUT/.job/                       one account for each finished shard, and the locks

A shard's account is written after the shard, and a shard without an account is written again. So a kill leaves nothing
half finished. `CodeFolder` and `FeatureFolder` decide what a shard holds.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from seed_hf.data.sources.source_row import SourceRow
from seed_hf.files import whole_file


if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)
FORMAT = 1


@dataclass
class ShardRows:
    """The rows of one shard as they come in.

    Args:
        part, index: Which shard.
        rows: The good rows in order, without their images.
        batches: For each tensor's name its batches `(rows, ...)`, on the CPU.
        account: What the shard's account says besides file, size and hash.
    """

    part: int
    index: int
    rows: list[SourceRow] = field(default_factory=list)
    batches: dict[str, list[torch.Tensor]] = field(default_factory=dict)
    account: dict = field(default_factory=dict)


class ShardFolder:
    """A folder of shards. A subclass names the files and writes one.

    Args:
        path: Made if it is missing.

    Raises:
        ValueError: The folder holds files of this format but no manifest.
    """

    stem: str  # what the files' names begin with
    suffix: str
    format: str  # of the files, for messages

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        self.manifest_path = self.path / "manifest.json"
        self.job = self.path / ".job"
        if not self.manifest_path.exists() and any(self.path.glob(f"*{self.suffix}")) and not self.job.is_dir():
            raise ValueError(f"{self.path}: holds {self.format} files but no manifest.json. Choose an empty folder.")
        with disk_errors(self.path):
            self.job.mkdir(parents=True, exist_ok=True)

    def begin(self, identity: dict) -> None:
        """Write what the results depend on, or compare it with what was written when the job was begun.

        Args:
            identity: Source, tokenizer and settings; JSON-ready.

        Raises:
            ValueError: The folder was begun with another source, tokenizer or setting; the message lists them.
        """
        with self._one_at_a_time():
            if self.manifest_path.exists():
                there = json.loads(self.manifest_path.read_text(encoding="utf-8"))
                if differing := differences(there, identity):
                    raise ValueError(
                        f"{self.path} was begun with something else: {'; '.join(differing)}. Choose another "
                        "folder, or the same source, tokenizer and settings to go on."
                    )
                return
            self._write_json(self.manifest_path, {**identity, "complete": False})

    def file_name(self, part: int, index: int) -> str:
        """The name of a shard's file."""
        return f"{self.stem}-{part:05d}-{index:05d}{self.suffix}"

    def write_file(self, path: Path, shard: ShardRows) -> None:
        """Write the rows of a shard into a new file."""
        raise NotImplementedError

    def account(self, part: int, index: int) -> dict | None:
        """The account of a shard; `None` unless the shard is finished and its file still has its size."""
        path = self._account_path(part, index)
        try:
            account = json.loads(path.read_text(encoding="utf-8"))
            size = (self.path / account["file"]).stat().st_size
        except FileNotFoundError:
            return None
        if size != account["bytes"]:
            logger.warning("%s: %d bytes instead of %d; made again.", account["file"], size, account["bytes"])
            return None
        return account

    def write_shard(self, shard: ShardRows) -> None:
        """Write a shard and then its account. After an error neither exists.

        Raises:
            OSError: The disk is full or the folder cannot be written; the message says how to resume.
        """
        path = self.path / self.file_name(shard.part, shard.index)
        with disk_errors(self.path):
            with whole_file(path) as temporary:
                self.write_file(temporary, shard)
                with open(temporary, "rb+") as file:
                    os.fsync(file.fileno())
                written = {"bytes": temporary.stat().st_size, "sha256": sha256_of(temporary)}
            account = {"file": path.name, **shard.account, "written": len(shard.rows), **written}
            self._write_json(self._account_path(shard.part, shard.index), account)

    def remove_unfinished(self, mine) -> None:
        """Remove the half-written files of a killed job, of the shards for which `mine(part, index)` is true."""
        for folder in (self.path, self.job):
            for file in folder.glob(f".{self.stem}-*.unfinished"):
                part, index = file.name.removeprefix(f".{self.stem}-").partition(".")[0].split("-")
                if mine(int(part), int(index)):
                    file.unlink(missing_ok=True)

    def finish(self, parts: int) -> dict:
        """Complete the manifest with shards and totals if every part is finished; return it.

        Args:
            parts: Number of parts of the source.
        """
        with self._one_at_a_time(), disk_errors(self.path):
            manifest = json.loads(self.manifest_path.read_text(encoding="utf-8"))
            if manifest["complete"] or not all(self._whole(part) for part in range(parts)):
                return manifest
            totals, dropped, reasons = Counter[str](), Counter[str](), Counter[str]()
            shards = []
            report = self.path / "bad_images.jsonl"
            with whole_file(report) as temporary:
                with open(temporary, "w", encoding="utf-8") as file:
                    for account in self._accounts(parts):
                        totals.update(read=account["rows"][1] - account["rows"][0], written=account["written"])
                        dropped.update(account["dropped"])
                        for bad in account.pop("bad"):
                            totals.update(bad=1)
                            reasons.update([bad["reason"].partition(" (")[0]])
                            file.write(json.dumps(bad, ensure_ascii=False) + "\n")
                        shards.append(account)
            manifest.update(
                complete=True,
                rows={name: totals[name] for name in ("read", "written", "bad")},
                dropped=dict(dropped),
                bad_images={
                    "file": report.name,
                    "sha256": sha256_of(report),
                    "reasons": dict(reasons.most_common(50)),
                },
                shards=shards,
            )
            self._write_json(self.manifest_path, manifest)
            return manifest

    def _whole(self, part: int) -> bool:
        for account in self._accounts_of(part):
            if account["last"]:
                return True
        return False

    def _accounts(self, parts: int) -> Iterator[dict]:
        for part in range(parts):
            yield from self._accounts_of(part)

    def _accounts_of(self, part: int) -> Iterator[dict]:
        """The accounts of a part in order, up to the last one or the first missing one."""
        index = 0
        while (account := self.account(part, index)) is not None:
            yield account
            if account["last"]:
                return
            index += 1

    def _account_path(self, part: int, index: int) -> Path:
        return self.job / f"{self.stem}-{part:05d}-{index:05d}.json"

    @contextmanager
    def _one_at_a_time(self):
        """Only one of the processes that share the folder runs this block at a time."""
        with open(self.job / "manifest.lock", "a", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
            except OSError:  # this file system has no locks; JobLock has warned
                pass
            # No other process writes these now: half-written ones were left by a killed job.
            for name in ("manifest.json", "bad_images.jsonl"):
                for left in self.path.glob(f".{name}.*.unfinished"):
                    left.unlink(missing_ok=True)
            yield

    @staticmethod
    def _write_json(path: Path, value: dict) -> None:
        text = json.dumps(value, indent=1, ensure_ascii=False)
        with whole_file(path) as temporary:
            with open(temporary, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())


def differences(there: dict, here: dict, prefix: str = "") -> list[str]:
    """Every value of `here` that `there` lacks or has differently: "settings.batch_size is 64 there, 32 here".

    Args:
        there: As stored.
        here: As asked for.
        prefix: What the names begin with.
    """
    found = []
    for key, value in here.items():
        old = there.get(key)
        if isinstance(value, dict) and isinstance(old, dict):
            found += differences(old, value, f"{prefix}{key}.")
        elif old != value:
            found.append(f"{prefix}{key} is {old!r} there, {value!r} here")
    return found


@contextmanager
def disk_errors(path: Path):
    """Turn an `OSError` while writing into `path` into one that says what to do."""
    try:
        yield
    except OSError as error:
        raise OSError(
            error.errno,
            f"{error.strerror or error} while writing into {path}. Finished shards stay. Free some room or repair the "
            "folder, then run the same command again to go on",
        ) from error


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
