"""Rows of a folder of images and `metadata.csv`, `.jsonl` or `.parquet`, read by datasets' imagefolder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice

from .columns import ColumnChoice
from .source_row import SourceRow, source_row


METADATA_FILES = frozenset({"metadata.csv", "metadata.jsonl", "metadata.parquet"})


def image_folder_columns(folder: str, split: str) -> list[str]:
    """The names of the columns; `ValueError` if the folder cannot be read."""
    return list(_opened(folder, split).features)


def image_folder_rows(
    folder: str, root: str, split: str, choice: ColumnChoice, start: int, stop: int | None
) -> Iterator[SourceRow]:
    """Rows `start` to `stop` (exclusive; `None`: to the end) of a folder of images.

    Args:
        folder: The folder.
        root: The folder that names of files in ids and reports are relative to.
        split: The split of the folder; a folder without splits is read whole.
        choice: Which columns to read.
        start, stop: The range of rows.

    Raises:
        ValueError: The folder cannot be read or lacks the columns.
    """
    rows = _opened(folder, split)
    columns = choice.find(list(rows.features), folder)
    for number, values in enumerate(islice(rows, start, stop), start):
        path = (values[columns.image] or {}).get("path")
        file = os.path.relpath(path or folder, root)
        yield source_row(number, values, columns, default_id=file, file=file)


def image_folder_files(folder: str) -> Iterator[str]:
    """The paths of all files in a folder and its sub-folders, always in the same order."""
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            yield os.path.join(parent, name)


def _opened(folder: str, split: str):
    import datasets

    try:
        splits = datasets.load_dataset("imagefolder", data_dir=folder, streaming=True, drop_labels=True)
    except (ValueError, FileNotFoundError, datasets.exceptions.DatasetsError) as error:
        raise ValueError(f"{folder}: not a folder of images that can be read. {error}") from error
    if split not in splits and list(splits) != ["train"]:  # without splits, all images are "train" to datasets
        raise ValueError(f"{folder}: no split {split!r}; it has {', '.join(map(str, splits))}.")
    return splits[split if split in splits else "train"].decode(False)
