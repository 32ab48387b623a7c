"""Shards of cached features: safetensors that are read row by row, mapped into memory.

    causal_embeddings   (rows, views, num_query_tokens, hidden)   view 0 is the image as it is
    target_embeddings   (rows, generation tokens, width)          text target: of the caption, shared by all views
                        (rows, views, width)                      image target: of each view
                                                                  absent if there was no encoder

The header's `rows` is JSON: for each row its number in the part of the source, and its id.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch
from safetensors.torch import save_file

from seed_hf.data.jobs.shard_folder import ShardFolder, ShardRows


class FeatureFolder(ShardFolder):
    """The folder that `cache_features` writes.

    Args:
        path: Made if it is missing.
        shapes: For each tensor its shape without the rows.
        dtype: Of the tensors.

    Raises:
        ValueError: The folder holds safetensors files but no manifest. While writing: a value is not finite in this
            number type.
    """

    stem, suffix, format = "features", ".safetensors", "safetensors"

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
        # Only one entry: safetensors writes several entries in no fixed order, so that equal files would differ.
        metadata = {"rows": json.dumps([[row.row, row.id] for row in shard.rows], ensure_ascii=False)}
        save_file(tensors, path, metadata=metadata)
