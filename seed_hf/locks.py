"""Locks that let one process have a folder. They end with the process that holds them, however it ends."""

from __future__ import annotations

import json
import logging
import os
import socket
import weakref
from pathlib import Path
from typing import IO, Any


try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)


class LockFile:
    """A file whose lock a process holds, and in which it says who it is. The file stays; the lock does not.

    Args:
        path: The file, in an existing folder; made if it is missing.
    """

    def __init__(self, path: Path):
        self._file: IO[str] = open(
            path, "a+", encoding="utf-8"
        )  # closes on exec: no program that is started inherits it
        _open_files.add(self)

    def hold(self, *, shared: bool = False, wait: bool = False) -> bool:
        """Take the lock; `False` if another process has it. Warns where the file system has no locks.

        Args:
            shared: Several processes may hold it so.
            wait: Until the other process lets go.
        """
        if fcntl is None:
            logger.warning(
                "%s: this system has no locks. Make sure that no two processes write here.", self._file.name
            )
            return True
        try:
            fcntl.flock(self._file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
        except OSError as error:
            logger.warning(
                "%s: this file system has no locks (%s). Make sure that no two processes write here.",
                self._file.name, error,
            )  # fmt: skip
        return True

    def write(self, **value: Any) -> None:
        """Say something to the other processes, in place of what was said."""
        self._file.truncate(0)
        json.dump(value, self._file)
        self._file.flush()

    def read(self) -> dict[str, Any]:
        """What was said last; empty while it is being written, and where the file is damaged."""
        self._file.seek(0)
        try:
            said = json.load(self._file)
        except (ValueError, RecursionError):
            return {}
        return said if isinstance(said, dict) else {}

    def close(self) -> None:
        """Let go."""
        self._file.close()


class FolderLock:
    """Holds a folder for one process; a context manager, which that process may enter again.

    Args:
        folder: Made if it is missing. The lock is the file `.run/lock` in it.
        work: What the holder does there, for the message to others: "training".

    Raises:
        BlockingIOError: Another process holds the folder; the message names it.
        OSError: The folder cannot be made or written.
    """

    _held: dict[Path, tuple[LockFile, int]] = {}  # with how often this process has entered

    def __init__(self, folder: str | os.PathLike, work: str):
        self._folder, self._work = Path(folder).resolve(), work

    def __enter__(self) -> FolderLock:
        file, times = self._held.get(self._folder, (None, 0))
        if file is None:
            (self._folder / ".run").mkdir(parents=True, exist_ok=True)
            file = LockFile(self._folder / ".run" / "lock")
            if not file.hold():
                other = file.read()
                file.close()
                raise BlockingIOError(
                    f"{self._folder}: process {other.get('pid', '?')} on {other.get('host', '?')} is {self._work} "
                    "here. Wait for it, stop it, or choose another folder."
                )
            file.write(**this_process())
        self._held[self._folder] = (file, times + 1)
        return self

    def __exit__(self, *exception) -> None:
        file, times = self._held.pop(self._folder)
        if times > 1:
            self._held[self._folder] = (file, times - 1)
        else:
            file.close()


def this_process() -> dict[str, Any]:
    """What a lock's holder says of itself."""
    return {"pid": os.getpid(), "host": socket.gethostname()}


_open_files: weakref.WeakSet[LockFile] = weakref.WeakSet()


def _forget_in_child() -> None:
    """A forked process, such as a loader of data, must not hold its parent's locks: it may outlive it."""
    for file in _open_files:
        file.close()
    FolderLock._held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)
