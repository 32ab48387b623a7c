"""Codes from the device to shards, on a thread of its own."""

from __future__ import annotations

import queue
import threading
from dataclasses import dataclass, field

import numpy as np

from .code_shards import CodeFolder


_END = object()


@dataclass
class ShardRows:
    """The rows of one shard as they come in.

    Args:
        part, index: Which shard.
        ids, captions: Of the good rows, in order.
        codes: One array `(rows, num_query_tokens)` for each batch.
        account: What the shard's account says beside file, size and hash.
    """

    part: int
    index: int
    ids: list[str] = field(default_factory=list)
    captions: list = field(default_factory=list)
    codes: list[np.ndarray] = field(default_factory=list)
    account: dict = field(default_factory=dict)


class CodeWriter:
    """Takes batches of codes off the device and writes finished shards; a context manager.

    At most a few batches wait; then `add` does. An error of the thread is raised by the next call. If the block is
    left by an error, a shard that is not complete is not written.

    Args:
        folder: Where to.
        num_codes: Codes of a picture.
        caption_column: "caption" (one text), "captions" (lists of texts) or `None`.
    """

    def __init__(self, folder: CodeFolder, num_codes: int, caption_column: str | None):
        self._folder, self._num_codes, self._caption_column = folder, num_codes, caption_column
        self._queue: queue.Queue = queue.Queue(maxsize=4)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="code-writer", daemon=True)

    def __enter__(self) -> CodeWriter:
        self._thread.start()
        return self

    def __exit__(self, kind, *exception) -> None:
        self._queue.put((_END, None, None))
        self._thread.join()
        if kind is None:
            self._check()

    def add(self, shard: ShardRows, codes, ready=None) -> None:
        """A batch of the shard: codes `(rows, num_codes)`, a tensor on the CPU that is valid once the event `ready`
        has happened."""
        self._check()
        self._queue.put((shard, codes, ready))

    def finish(self, shard: ShardRows) -> None:
        """There is no more of this shard: write it."""
        self._check()
        self._queue.put((shard, None, None))

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        while True:
            shard, codes, ready = self._queue.get()
            if shard is _END:
                return
            if self._error is not None:
                continue  # nothing more is written, but nobody is left waiting
            try:
                if codes is None:
                    self._write(shard)
                else:
                    if ready is not None:
                        ready.synchronize()
                    shard.codes.append(codes.numpy().astype(np.uint16))
            except BaseException as error:
                self._error = error

    def _write(self, shard: ShardRows) -> None:
        import pyarrow as pa

        codes = np.concatenate([np.zeros((0, self._num_codes), np.uint16), *shard.codes])
        values = pa.array(codes.reshape(-1), type=pa.uint16())
        columns = {"id": pa.array(shard.ids, type=pa.string())}
        if self._caption_column == "captions":
            columns["captions"] = pa.array(shard.captions, type=pa.list_(pa.string()))
        elif self._caption_column:
            columns["caption"] = pa.array(shard.captions, type=pa.string())
        columns["codes"] = pa.FixedSizeListArray.from_arrays(values, self._num_codes)
        self._folder.write_shard(
            shard.part, shard.index, pa.table(columns), {**shard.account, "written": len(shard.ids)}
        )
