"""Shards of cached features: safetensors that are read row by row, mapped into memory.

    causal_embeddings   (rows, views, num_query_tokens, hidden)   view 0 is the picture as it is
    target_embeddings   (rows, generation tokens, width)          of the caption, so one for all views; may be absent
                        (rows, views, width)                      for the image target, of each view

The header's `rows` is JSON: for each row its number in the part of the source and its id. In the same file as the
tensors, it cannot get out of step with them.
"""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from seed_hf.data.jobs.shard_folder import ShardFolder, ShardRows


class FeatureFolder(ShardFolder):
    """The folder that `cache_features` writes.

    Args:
        path: Made if it is missing.
        shapes: For each tensor its shape without the rows.
        dtype: Of the tensors.

    Raises:
        ValueError: The folder holds safetensors files that no manifest accounts for. While writing: a value is not
            finite in this number type.
    """

    stem, suffix, kind = "features", ".safetensors", "safetensors"

    def __init__(self, path: str | os.PathLike, shapes: dict[str, tuple[int, ...]], dtype: torch.dtype):
        super().__init__(path)
        self._shapes, self._dtype = shapes, dtype

    def write_file(self, path: Path, shard: ShardRows) -> None:
        tensors = {}
        for name, shape in self._shapes.items():
            none = torch.empty(0, *shape, dtype=self._dtype)
            tensors[name] = torch.cat([none, *shard.batches.get(name, [])])
            finite = tensors[name].flatten(1).isfinite().all(1) if shard.rows else torch.ones(0, dtype=torch.bool)
            if not finite.all():
                row = shard.rows[int((~finite).nonzero()[0])]
                raise ValueError(
                    f"{row.file}, row {row.row} (id {row.id}): {name} are not finite in {str(self._dtype)[6:]}. Store "
                    "float32 (--dtype float32); if they are not finite there either, the encoder overflows."
                )
        # One entry of metadata only: safetensors writes several in no fixed order, and the files would differ.
        metadata = {"rows": json.dumps([[row.row, row.id] for row in shard.rows], ensure_ascii=False)}
        try:
            save_file(tensors, path, metadata=metadata)
        except SafetensorError as error:  # a full disk, for instance
            raise OSError(errno.EIO, str(error)) from error
