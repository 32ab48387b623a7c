"""Rows of a folder of images and `metadata.csv`, `.jsonl` or `.parquet`, as datasets' imagefolder has them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from .columns import ColumnChoice
from .metadata import METADATA_FILES, metadata_columns, metadata_rows
from .source_row import SourceRow, bad_source_row, source_row
from .text import BadText, read_text


def image_folder_columns(folder: str, split: str):
    """The columns, as names or as an Arrow schema; `ValueError` if the folder cannot be read."""
    metadata = [file for file in _files(folder, split) if os.path.basename(file) in METADATA_FILES]
    return _columns(metadata[0]) if metadata else ["image"]


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
    present = image_folder_columns(folder, split)
    columns = choice.find(present, folder)
    for number, (values, place) in enumerate(islice(_rows(folder, split), start, stop), start):
        file = os.path.relpath(place, root)
        if isinstance(values, BadText):
            yield bad_source_row(number, values, f"{file}:{number}", file)
            continue
        path = values.get(columns.image or "")
        file = os.path.relpath(path, root) if isinstance(path, str) else file
        yield source_row(number, values, columns, default_id=file, file=file)


def image_folder_files(folder: str) -> Iterator[str]:
    """The paths of all files in a folder and its sub-folders, always in the same order."""
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            yield os.path.join(parent, name)


def _rows(folder: str, split: str) -> Iterator[tuple[Mapping[str, Any] | BadText, str]]:
    """The values of each row, images as their paths, and the file that the row is in."""
    files = _files(folder, split)
    metadata = [file for file in files if os.path.basename(file) in METADATA_FILES]
    if not metadata:
        yield from (({"image": file}, file) for file in files)
    for file in metadata:
        parent = os.path.dirname(file)
        for row in metadata_rows(file):
            yield row if isinstance(row, BadText) else _with_paths(row, parent), file


def _with_paths(row: Mapping[str, Any], parent: str) -> dict[str, Any]:
    """A row of metadata with the paths of its images."""
    values = dict(row)
    for name in row:
        if (image := _image_column(name)) is not None:
            path = values.pop(name)
            if isinstance(path, bytes):
                path = read_text(path, name)
            values[image] = os.path.join(parent, path) if isinstance(path, str) and path else path or None
    return values


def _columns(file: str):
    """The columns of a metadata file; those with the names of images are called by what they hold."""
    present = metadata_columns(file)
    names = [_image_column(name) or name for name in getattr(present, "names", present)]
    if names == list(getattr(present, "names", present)):
        raise ValueError(f"{file}: no column file_name with the names of the images; it has {', '.join(names)}.")
    if isinstance(present, list):
        return names
    import pyarrow as pa

    return pa.schema([field.with_name(name) for field, name in zip(present, names)])


def _image_column(name: str) -> str | None:
    """What datasets calls the images that a column of file names stands for: `image` for `file_name`."""
    return (name[: -len("_file_name")] or "image") if f"_{name}".endswith("_file_name") else None


def _files(folder: str, split: str) -> list[str]:
    """The images of a split and its metadata files."""
    import datasets
    from datasets.packaged_modules.imagefolder.imagefolder import ImageFolder

    try:
        splits = datasets.load_dataset_builder("imagefolder", data_dir=folder).config.data_files
    except (ValueError, FileNotFoundError, datasets.exceptions.DatasetsError) as error:
        raise ValueError(f"{folder}: not a folder of images that can be read. {error}") from error
    if split not in splits and list(splits) != ["train"]:  # without splits, all images are "train" to datasets
        raise ValueError(f"{folder}: no split {split!r}; it has {', '.join(map(str, splits))}.")
    endings = tuple(ImageFolder.EXTENSIONS)
    names = (str(file) for file in splits[split if split in splits else "train"])
    return [name for name in names if os.path.basename(name) in METADATA_FILES or name.lower().endswith(endings)]
