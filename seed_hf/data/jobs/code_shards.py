"""Shards of codes: Parquet with the columns `id`, `caption` (or `captions`, or none) and `codes`."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from .shard_folder import ShardFolder, ShardRows


class CodeFolder(ShardFolder):
    """The folder that pre-tokenizing writes. The batches of its shards are `codes`, `(rows, num_codes)`.

    Args:
        path: Made if it is missing.
        num_codes: Codes of an image.
        caption_column: "caption" (one text), "captions" (lists of texts) or `None`.

    Raises:
        ValueError: The folder holds Parquet files that no manifest accounts for.
    """

    stem, suffix, format = "codes", ".parquet", "Parquet"

    def __init__(self, path: str | os.PathLike, num_codes: int = 32, caption_column: str | None = "caption"):
        super().__init__(path)
        self._num_codes, self._caption_column = num_codes, caption_column

    def write_file(self, path: Path, shard: ShardRows) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        batches = [batch.numpy() for batch in shard.batches.get("codes", [])]
        codes = np.concatenate([np.zeros((0, self._num_codes), np.int32), *batches])
        if (codes < 0).any():
            row = shard.rows[int((codes < 0).any(1).argmax())]
            raise ValueError(f"{row.file}, row {row.row} (id {row.id}): its features are NaN or infinite.")
        codes = codes.astype(np.uint16)
        columns = {"id": pa.array([row.id for row in shard.rows], type=pa.string())}
        captions = [row.caption for row in shard.rows]
        if self._caption_column == "captions":
            columns["captions"] = pa.array(captions, type=pa.list_(pa.string()))
        elif self._caption_column:
            columns["caption"] = pa.array(captions, type=pa.string())
        values = pa.array(codes.reshape(-1), type=pa.uint16())
        columns["codes"] = pa.FixedSizeListArray.from_arrays(values, self._num_codes)
        # Opened here, so that a full disk raises its OSError here and not in a finalizer.
        with open(path, "wb") as file:
            pq.write_table(pa.table(columns), file, compression="zstd")
