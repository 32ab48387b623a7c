"""Reading the pictogram set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from datasets import Dataset


SPLITS = ("train", "validation", "test_concept", "test_style")


def load_pictograms(folder: str | Path, split: str) -> Dataset:
    """Open one split of the pictogram set.

    Args:
        folder: The folder that `build_pictograms` wrote, with one Parquet file for each split.
        split: "train", "validation", "test_concept" or "test_style". Only "train" is for training.

    Returns:
        A `datasets.Dataset` with the columns as stored (id, image, caption, rich_caption, style, style_phrase,
        concept, category, subcategory, keywords, colours, definition, licence, source). `image` is decoded to a
        128 x 128 RGB PIL image when a row is read.

    Raises:
        ValueError: There is no such split.
        FileNotFoundError: The folder does not hold the split.
    """
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; the pictogram set has {', '.join(SPLITS)}")
    path = Path(folder) / f"{split}.parquet"
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} does not exist; build the pictogram set with `seed-hf data pictograms --out {folder}`"
        )
    import pyarrow.parquet as pq
    from datasets import Dataset, DatasetInfo, Features, NamedSplit

    table = pq.read_table(path)  # 30 MB at most: held in memory, nothing is copied to the user's cache folder
    info = DatasetInfo(features=Features.from_arrow_schema(table.schema))
    return Dataset(table, info=info, split=NamedSplit(split))
