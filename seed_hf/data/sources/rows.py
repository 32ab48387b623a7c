"""The rows that a stage trains on: Parquet held in memory, or any source as a stream."""

from collections.abc import Mapping
from pathlib import Path


def open_rows(path: str, split: str, columns: Mapping[str, str] | None = None):
    """A `datasets.Dataset` over Parquet files, held in memory; nothing is copied to the user's cache folder.

    Args:
        path: A Parquet file, or a folder: its files named after `split`, or else all its Parquet files.
        columns: The columns to read and what to call them. A `caption` column of lists is called `captions`.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq
    from datasets import Dataset, DatasetInfo, Features, Image

    source = Path(path)
    files = sorted(source.glob(f"{split}*.parquet")) or sorted(source.glob("*.parquet"))
    files = [source] if source.is_file() else files
    if not files:
        raise FileNotFoundError(f"data.{split}: {source} is not a Parquet file, nor a folder with Parquet files.")
    present = pq.read_schema(files[0]).names
    if missing := sorted(set(columns or ()) - set(present)):
        raise ValueError(f"data.{split}: {files[0]} has no column {', '.join(missing)}; it has {', '.join(present)}.")
    table = pa.concat_tables([pq.read_table(file, columns=list(columns) if columns else None) for file in files])
    rows = Dataset(table, info=DatasetInfo(features=Features.from_arrow_schema(table.schema)))
    rows = rows.rename_columns({old: new for old, new in (columns or {}).items() if old != new})
    if "image" in rows.column_names and not isinstance(rows.features["image"], Image):
        rows = rows.cast_column("image", Image())
    return with_caption(rows, "caption") if "caption" in rows.column_names else rows


def with_caption(rows, column: str):
    """The same rows with `column` called what the collators call it: `caption` for one text, `captions` for a list."""
    if rows is None:
        return None
    if column not in rows.column_names:
        if column == "caption" and "captions" in rows.column_names:
            return rows
        raise ValueError(f"The data has no column {column!r}; it has {', '.join(rows.column_names)}.")
    name = "caption" if getattr(rows.features[column], "dtype", None) in ("string", "large_string") else "captions"
    if name == column:
        return rows
    return (rows.remove_columns(name) if name in rows.column_names else rows).rename_column(column, name)


def stream_rows(source: str | list[str], split: str, data, captions: bool, seed: int):
    """A `datasets.IterableDataset` of pictures from anything that `image_text_dataset` opens.

    Args:
        split: "train", which is shuffled within `data.shuffle_buffer` rows, or "validation".
        captions: Whether the rows need captions.
    """
    from seed_hf.data.sources.filters import RowFilters
    from seed_hf.data.sources.image_text import image_text_dataset

    filters = RowFilters(min_side=data.min_side or 0, max_aspect=data.max_aspect, empty_captions=not captions)
    rows = image_text_dataset(
        source,
        filters=filters,
        on_error=data.on_error or "raise",
        split=split,
        image_column=data.image_column,
        caption_column=data.caption_column,
        captions=captions,
    )
    buffer = 1000 if data.shuffle_buffer is None else data.shuffle_buffer
    return rows.shuffle(seed=seed, buffer_size=buffer) if split == "train" and buffer else rows
