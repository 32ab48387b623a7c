"""A thread that takes batches off the device and writes shards."""

from __future__ import annotations

import queue
import threading

from .shard_folder import ShardFolder, ShardRows


_END = object()


class ShardWriter:
    """Takes batches off the device and writes finished shards; a context manager.

    `add` blocks while a few batches wait. An error in the thread is raised by the next call. If the block ends with an
    error, an incomplete shard is not written.

    Args:
        folder: Where the shards go.
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
        """Add a batch to a shard.

        Args:
            shard: The shard.
            batch: For each name a tensor `(rows, ...)` on the CPU, or a list of what JSON can hold.
            ready: The event after which the tensors are valid; `None` if they are valid now.
        """
        self._check()
        self._queue.put((shard, batch, ready))

    def finish(self, shard: ShardRows) -> None:
        """Write a shard; nothing more is added to it."""
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
                continue  # write nothing more, but let no caller wait for room in the queue
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
