"""The rows that a stage trains on: Parquet held in memory, or any source as a stream."""

from collections.abc import Mapping
from pathlib import Path

from .filters import RowFilters
from .image_text import image_text_dataset


def open_rows(path: str, split: str, columns: Mapping[str, str] | None = None):
    """A `datasets.Dataset` over Parquet files, held in memory; nothing is copied to the user's cache folder.

    Args:
        path: A Parquet file, or a folder: its files whose names begin with `split`, or else all its Parquet files.
        split: Which files of a folder to read; also names the setting in messages.
        columns: The columns to read, and their new names. A `caption` column of lists is renamed to `captions`.

    Raises:
        FileNotFoundError: There is no Parquet file.
        ValueError: A column is missing.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq
    from datasets import Dataset, DatasetInfo, Features, Image

    files = parquet_files(path, split)
    present = pq.read_schema(files[0]).names
    if missing := sorted(set(columns or ()) - set(present)):
        raise ValueError(f"data.{split}: {files[0]} has no column {', '.join(missing)}; it has {', '.join(present)}.")
    table = pa.concat_tables([pq.read_table(file, columns=list(columns) if columns else None) for file in files])
    rows = Dataset(table, info=DatasetInfo(features=Features.from_arrow_schema(table.schema)))
    rows = rows.rename_columns({old: new for old, new in (columns or {}).items() if old != new})
    if "image" in rows.column_names and not isinstance(rows.features["image"], Image):
        rows = rows.cast_column("image", Image())
    return with_caption(rows, "caption") if "caption" in rows.column_names else rows


def parquet_files(path: str, split: str) -> list[Path]:
    """The files that [`open_rows`] reads.

    Args:
        path, split: As for [`open_rows`].

    Raises:
        FileNotFoundError: There is no Parquet file.
    """
    if not holds_parquet(path):
        raise FileNotFoundError(
            f"data.{split}: {path} is not a Parquet file, nor a folder with Parquet files. Stages I and II read other "
            "sources with data.streaming: true."
        )
    source = Path(path)
    if source.is_file():
        return [source]
    return sorted(source.glob(f"{split}*.parquet")) or sorted(source.glob("*.parquet"))


def holds_parquet(path: str) -> bool:
    """Whether this is a Parquet file, judged by its first bytes, or a folder with files that are called so.

    Args:
        path: Of the file or folder.
    """
    source = Path(path)
    if not source.is_file():
        return any(source.glob("*.parquet"))
    with open(source, "rb") as file:
        return file.read(4) == b"PAR1"


def with_caption(rows, column: str):
    """Rename `column` to the name that the collators read: `caption` for one text, `captions` for a list of texts."""
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


def stream_rows(
    source: str | list[str],
    split: str,
    *,
    captions: bool,
    seed: int,
    shuffle_buffer: int = 1000,
    min_side: int = 0,
    max_aspect: float | None = None,
    on_error: str = "raise",
    image_column: str | None = None,
    caption_column: str | None = None,
):
    """A `datasets.IterableDataset` of images from any source that `image_text_dataset` opens.

    Args:
        source: As for `open_source`.
        split: "train", which is shuffled, or "validation".
        captions: Whether the rows need captions.
        seed: Of the shuffling.
        shuffle_buffer: Rows held in memory to shuffle within; 0 for no shuffling.
        min_side, max_aspect: As for `RowFilters`.
        on_error: What to do about a missing or damaged image: "raise" or "skip".
        image_column, caption_column: As for `open_source`.
    """
    rows = image_text_dataset(
        source,
        filters=RowFilters(min_side=min_side, max_aspect=max_aspect, empty_captions=not captions),
        on_error=on_error,
        split=split,
        image_column=image_column,
        caption_column=caption_column,
        captions=captions,
    )
    return rows.shuffle(seed=seed, buffer_size=shuffle_buffer) if split == "train" and shuffle_buffer else rows
