"""Locks that let only one process of each rank write into a folder."""

from __future__ import annotations

from pathlib import Path

from seed_hf.files import disk_errors
from seed_hf.locks import LockFile, this_process

from .shard_folder import STAYS


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
        self._files: list[LockFile] = []

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
        if world.hold():
            self._say(world, world_size=self._world_size)
        world.hold(shared=True, wait=True)
        running = world.read().get("world_size", self._world_size)
        if running != self._world_size:
            raise BlockingIOError(
                f"{self._folder.parent}: a job of {running} processes is writing here, but this one has "
                f"{self._world_size}. Wait for it or stop it."
            )
        rank = self._open(f"rank-{self._rank:05d}.lock")
        if not rank.hold():
            other = rank.read()
            raise BlockingIOError(
                f"{self._folder.parent}: process {other.get('pid', '?')} on {other.get('host', '?')} is writing here "
                f"as rank {self._rank}. Wait for it, stop it, or choose another folder."
            )
        self._say(rank, **this_process())

    def _open(self, name: str) -> LockFile:
        with disk_errors(self._folder.parent, STAYS):
            file = LockFile(self._folder / name)
        self._files.append(file)
        return file

    def _say(self, file: LockFile, **value) -> None:
        with disk_errors(self._folder.parent, STAYS):
            file.write(**value)
