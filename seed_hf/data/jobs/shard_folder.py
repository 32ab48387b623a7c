"""The folder that a job over a source writes: shards, an account of each, and a manifest of all.

    OUT/codes-00000-00000.parquet   part 0 of the source, its first `rows_per_shard` rows
    OUT/manifest.json               source, tokenizer and settings; row ranges and hashes of the shards; totals
    OUT/bad_images.jsonl            file, row, id and reason of every bad row
    OUT/.job/                       one account for each finished shard, and the locks

A shard's account is written after the shard, and a shard without an account is written again. So a kill leaves nothing
half finished. What is found when a job begins is not believed: a shard counts as finished if its account is this job's
and its content has the account's hash; manifest and report are made of the accounts. Subclasses decide what a shard
holds.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seed_hf.data.sources.fingerprint import RowsDigest
from seed_hf.data.sources.source_row import SourceRow
from seed_hf.files import disk_errors, read_json, sha256_of, whole_file
from seed_hf.locks import LockFile

from .accounts import Accounts, write_json


logger = logging.getLogger(__name__)
FORMAT = 1
STAYS = "Finished shards stay."  # said where the disk is full
_OF_ACCOUNTS = ("bad", "stamp", "rows_sha256")  # what accounts say and the manifest does not


@dataclass
class ShardRows:
    """The rows of one shard as they come in.

    Args:
        part, index: Which shard.
        rows: The good rows in order, without their images.
        batches: For each name its batches: tensors `(rows, ...)` on the CPU, or lists of what JSON can hold.
        account: What the shard's account says besides file, size and hashes.
        digest: Of the rows of the source, bad and dropped ones too.
    """

    part: int
    index: int
    rows: list[SourceRow] = field(default_factory=list)
    batches: dict[str, list[Any]] = field(default_factory=dict)
    account: dict = field(default_factory=dict)
    digest: RowsDigest = field(default_factory=RowsDigest)


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
        self._identity: dict = {}
        self._accounts: Accounts  # from `begin` on
        self._found: dict[Path, tuple[int, int]] = {}  # the accounts that were there when the job began
        self._hashed: set[str] = set()  # names of shards that were there and have their hash
        self._named: set[str] = set()  # of shards that a warning was about
        if not self.manifest_path.exists() and any(self.path.glob(f"*{self.suffix}")) and not self.job.is_dir():
            raise ValueError(f"{self.path}: holds {self.format} files but no manifest.json. Choose an empty folder.")
        with disk_errors(self.path, STAYS):
            self.job.mkdir(parents=True, exist_ok=True)

    def begin(self, identity: dict) -> None:
        """Write what the results depend on, or compare it with what was written when the job was begun.

        Args:
            identity: Source, tokenizer and settings; JSON-ready.

        Raises:
            ValueError: The folder was begun with another source, tokenizer or setting; the message lists them.
        """
        self._identity, self._accounts = identity, Accounts(self.job, self.stem, identity)
        self._hashed, self._named = set(), set()
        with disk_errors(self.path, STAYS), self._one_at_a_time():
            self._found = self._accounts.marks()
            there = self._stored_manifest()
            if there is not None and not (differing := differences(there, identity)):
                return
            owners = self._accounts.owners()
            if True not in owners and there is not None:
                raise ValueError(
                    f"{self.path} was begun with something else: {'; '.join(differing)}. Choose another "
                    "folder, or the same source, tokenizer and settings to go on."
                )
            if True not in owners and False in owners:
                raise ValueError(
                    f"{self.path} holds shards of another source, tokenizer or setting, and its manifest.json is "
                    "missing or damaged. Choose another folder."
                )
            if owners or self.manifest_path.exists():
                logger.warning("%s: missing, damaged or of another job; made again.", self.manifest_path)
            self._write_manifest({**identity, "complete": False})

    def file_name(self, part: int, index: int) -> str:
        """The name of a shard's file."""
        return f"{self.stem}-{part:05d}-{index:05d}{self.suffix}"

    def write_file(self, path: Path, shard: ShardRows) -> None:
        """Write the rows of a shard into a new file."""
        raise NotImplementedError

    def account(self, part: int, index: int) -> dict | None:
        """The account of a shard; `None` unless the shard is finished. One that is damaged is named once."""
        if (account := self._account(part, index)) is None:
            return None
        name = account["file"]
        # What was written after this process has begun was written by a process of this job: maybe by this one.
        if name in self._hashed or self._accounts.written_since(self._found, part, index):
            return account
        if sha256_of(self.path / name) != account["sha256"]:
            self.warn(name, "damaged or of another job")
            return None
        self._hashed.add(name)
        return account

    def shards(self) -> list[tuple[int, int]]:
        """Part and index of every shard that has an account, whatever it is worth, in order."""
        return self._accounts.shards()

    def stamp(self, part: int, index: int, stamp: str | None) -> None:
        """Say in a shard's account that the source's rows were found unchanged, when its files had this stamp."""
        account = self.account(part, index)
        if account is not None and account["stamp"] != stamp:
            with disk_errors(self.path, STAYS):
                self._accounts.write(part, index, {**account, "stamp": stamp})

    def reopen(self) -> None:
        """Say in the manifest that the folder is not complete, because a shard is about to be made."""
        with disk_errors(self.path, STAYS), self._one_at_a_time():
            self._write_manifest({**self._identity, "complete": False})

    def write_shard(self, shard: ShardRows) -> None:
        """Write a shard and then its account. After an error neither exists.

        Raises:
            OSError: The disk is full or the folder cannot be written; the message says how to resume.
        """
        path = self.path / self.file_name(shard.part, shard.index)
        with disk_errors(self.path, STAYS):
            with whole_file(path) as temporary:
                self.write_file(temporary, shard)
                with open(temporary, "rb+") as file:
                    os.fsync(file.fileno())
                written = {"bytes": temporary.stat().st_size, "sha256": sha256_of(temporary)}
            written["rows_sha256"] = shard.digest.as_dict()
            account = {"file": path.name, "stamp": None, **shard.account, "written": len(shard.rows), **written}
            self._accounts.write(shard.part, shard.index, account)

    def remove_unfinished(self, mine) -> None:
        """Remove the half-written files of a killed job, of the shards for which `mine(part, index)` is true."""
        for folder in (self.path, self.job):
            for file in folder.glob(f".{self.stem}-*.unfinished"):
                numbers = re.match(r"(\d+)-(\d+)\.", file.name.removeprefix(f".{self.stem}-"))
                if numbers and mine(int(numbers[1]), int(numbers[2])):
                    file.unlink(missing_ok=True)

    def finish(self, parts: int) -> dict:
        """If every part is finished, write manifest and report with shards and totals; return the manifest.

        Args:
            parts: Number of parts of the source.

        Raises:
            ValueError: The folder also holds shards that are not of this job; the message names them.
        """
        with disk_errors(self.path, STAYS), self._one_at_a_time():
            manifest = {**self._identity, "complete": False}
            accounts = self._accounts_of(parts, self._account)  # the content is read only if all are there
            if accounts is None or (accounts := self._accounts_of(parts, self.account)) is None:
                return manifest
            self._check_strangers({account["file"] for account in accounts})
            totals, dropped, reasons = Counter[str](), Counter[str](), Counter[str]()
            shards = []
            report = self.path / "bad_images.jsonl"
            there = sha256_of(report) if report.exists() else None
            with whole_file(report) as temporary:
                with open(temporary, "w", encoding="utf-8") as file:
                    for account in accounts:
                        totals.update(read=account["rows"][1] - account["rows"][0], written=account["written"])
                        dropped.update(account["dropped"])
                        for bad in account["bad"]:
                            totals.update(bad=1)
                            reasons.update([bad["reason"].partition(" (")[0]])
                            file.write(json.dumps(bad, ensure_ascii=False) + "\n")
                        shards.append({name: value for name, value in account.items() if name not in _OF_ACCOUNTS})
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
            stored = self._stored_manifest()
            if stored == manifest and there != manifest["bad_images"]["sha256"]:
                self.warn(report.name, "missing or damaged")
            if stored is not None and stored.get("complete") and stored != manifest:
                self.warn(self.manifest_path.name, "its totals or shards are not those of the accounts")
            self._write_manifest(manifest)
            return manifest

    def _check_strangers(self, ours: set[str]) -> None:
        strangers = sorted({path.name for path in self.path.glob(f"*{self.suffix}")} - ours)
        if strangers:
            more = f" and {len(strangers) - 3} more" if len(strangers) > 3 else ""
            raise ValueError(
                f"{self.path}: not of this job: {', '.join(strangers[:3])}{more}. Whoever reads the folder would mix "
                "them in. Move them elsewhere, then run the same command again."
            )

    def _account(self, part: int, index: int) -> dict | None:
        """The account of a shard whose file has the right size; `None` if there is none."""
        name = self.file_name(part, index)
        try:
            account = self._accounts.read(part, index)
        except FileNotFoundError:
            return None
        if account is None or account["file"] != name:
            self.warn(name, f"its account {self._accounts.path(part, index)} is damaged or of another job")
            return None
        try:
            size = (self.path / name).stat().st_size
        except FileNotFoundError:
            self.warn(name, "missing")
            return None
        if size != account["bytes"]:
            self.warn(name, f"{size} bytes instead of {account['bytes']}")
            return None
        return account

    @staticmethod
    def _accounts_of(parts: int, account: Callable[[int, int], dict | None]) -> list[dict] | None:
        """The accounts of all shards in order; `None` if one is missing."""
        found: list[dict] = []
        for part in range(parts):
            index = 0
            while not found or found[-1]["part"] != part or not found[-1]["last"]:
                if (one := account(part, index)) is None:
                    return None
                found.append(one)
                index += 1
        return found

    def warn(self, name: str, fault: str) -> None:
        """Say once why a shard or another file is made again."""
        if name not in self._named:
            logger.warning("%s: %s; made again.", self.path / name, fault)
            self._named.add(name)

    def _stored_manifest(self) -> dict | None:
        """The manifest that is there; `None` if there is none, or if it is damaged."""
        try:
            return read_json(self.manifest_path)
        except (FileNotFoundError, ValueError, RecursionError):
            return None

    def _write_manifest(self, manifest: dict) -> None:
        if self._stored_manifest() != manifest:
            write_json(self.manifest_path, manifest)

    @contextmanager
    def _one_at_a_time(self):
        """Only one of the processes that share the folder runs this block at a time."""
        lock = LockFile(self.job / "manifest.lock")
        try:
            lock.hold(wait=True)
            # No other process writes these now: half-written ones were left by a killed job.
            for name in ("manifest.json", "bad_images.jsonl"):
                for left in self.path.glob(f".{name}.*.unfinished"):
                    left.unlink(missing_ok=True)
            yield
        finally:
            lock.close()


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
