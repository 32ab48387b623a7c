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
        folder: the folder that `seed_hf.pictograms.building.build_pictograms` wrote, with one Parquet file per split.
        split: "train", "validation", "test_concept" or "test_style". Only "train" is for training.

    Returns:
        A `datasets.Dataset` with the columns as stored (id, image, caption, rich_caption, style, style_phrase,
        concept, category, subcategory, keywords, colours, definition, licence, source). `image` becomes a 128 x 128
        RGB PIL picture when a row is read, not before.

    Raises:
        ValueError: the split has no such name.
        FileNotFoundError: the folder does not hold the split.
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

    table = pq.read_table(path)  # 30 MB at most: held in memory, so that nothing is copied to the user's cache folder
    info = DatasetInfo(features=Features.from_arrow_schema(table.schema))
    return Dataset(table, info=info, split=NamedSplit(split))
