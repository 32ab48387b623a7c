"""Locks that let only one process of each rank write into a folder. They end with the process that holds them."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import socket
from pathlib import Path
from typing import IO


logger = logging.getLogger(__name__)


class JobLock:
    """Holds a folder for one rank of a job; a context manager.

    Args:
        folder: The existing folder of the lock files.
        rank, world_size: The number of this process and how many share the folder.

    Raises:
        BlockingIOError: Another process holds the folder with the same rank, or with another world size.
    """

    def __init__(self, folder: Path, rank: int, world_size: int):
        self._folder, self._rank, self._world_size = folder, rank, world_size
        self._files: list[IO[str]] = []

    def __enter__(self) -> JobLock:
        try:
            self._enter()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception) -> None:
        while self._files:
            self._files.pop().close()

    def _enter(self) -> None:
        world = self._open("world.lock")
        # The first process of a job writes how many there are; the others share the lock and compare.
        if self._lock(world, fcntl.LOCK_EX | fcntl.LOCK_NB):
            self._write(world, {"world_size": self._world_size})
        self._lock(world, fcntl.LOCK_SH)
        running = _read(world).get("world_size", self._world_size)
        if running != self._world_size:
            raise BlockingIOError(
                f"{self._folder.parent}: a job of {running} processes is writing here, but this one has "
                f"{self._world_size}. Wait for it or stop it."
            )
        rank = self._open(f"rank-{self._rank:05d}.lock")
        if not self._lock(rank, fcntl.LOCK_EX | fcntl.LOCK_NB):
            other = _read(rank)
            raise BlockingIOError(
                f"{self._folder.parent}: process {other.get('pid', '?')} on {other.get('host', '?')} is writing here "
                f"as rank {self._rank}. Wait for it, stop it, or choose another folder."
            )
        self._write(rank, {"pid": os.getpid(), "host": socket.gethostname()})

    def _open(self, name: str):
        file = open(self._folder / name, "a+", encoding="utf-8")  # closes on exec: no worker process inherits it
        self._files.append(file)
        return file

    def _lock(self, file, how: int) -> bool:
        try:
            fcntl.flock(file, how)
        except BlockingIOError:
            return False
        except OSError as error:
            logger.warning(
                "%s: this file system has no locks (%s). Make sure that no two jobs write here.", file.name, error
            )
        return True

    @staticmethod
    def _write(file, value: dict) -> None:
        file.truncate(0)
        json.dump(value, file)
        file.flush()


def _read(file) -> dict:
    file.seek(0)
    try:
        return json.load(file)
    except ValueError:  # the other process is about to write it
        return {}
