"""Batches from the device to shards, on a thread of its own."""

from __future__ import annotations

import queue
import threading

from .shard_folder import ShardFolder, ShardRows


_END = object()


class ShardWriter:
    """Takes batches off the device and writes finished shards; a context manager.

    At most a few batches wait; then `add` does. An error of the thread is raised by the next call. If the block is
    left by an error, a shard that is not complete is not written.

    Args:
        folder: Where to.
    """

    def __init__(self, folder: ShardFolder):
        self._folder = folder
        self._queue: queue.Queue = queue.Queue(maxsize=4)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="shard-writer", daemon=True)

    def __enter__(self) -> ShardWriter:
        self._thread.start()
        return self

    def __exit__(self, kind, *exception) -> None:
        self._queue.put((_END, None, None))
        self._thread.join()
        if kind is None:
            self._check()

    def add(self, shard: ShardRows, batch, ready=None) -> None:
        """A batch of the shard: for each name a tensor `(rows, ...)` on the CPU that is valid once the event `ready`
        has happened."""
        self._check()
        self._queue.put((shard, batch, ready))

    def finish(self, shard: ShardRows) -> None:
        """There is no more of this shard: write it."""
        self._check()
        self._queue.put((shard, None, None))

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        while True:
            shard, batch, ready = self._queue.get()
            if shard is _END:
                return
            if self._error is not None:
                continue  # nothing more is written, but nobody is left waiting
            try:
                if batch is None:
                    self._folder.write_shard(shard)
                    shard.batches.clear()
                    continue
                if ready is not None:
                    ready.synchronize()
                for name, tensor in batch.items():
                    shard.batches.setdefault(name, []).append(tensor)
            except BaseException as error:
                self._error = error
