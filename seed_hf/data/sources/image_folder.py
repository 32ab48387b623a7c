"""Rows of a folder: every image in it, with what `metadata.csv`, `.jsonl` or `.parquet` says of it.

The format is that of datasets' imagefolder. It is read here, because datasets finds the files by patterns that pass
over some without a word: one file called `train.png` hides all others.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any

from .columns import ColumnChoice, Columns
from .folder_files import folder_files, is_image, is_metadata, is_read, split_filter
from .metadata import NoRowReadable, metadata_columns, metadata_rows
from .remote import is_remote
from .source_row import SourceRow, bad_source_row, source_row
from .text import BadText, read_text


_ONLY_IMAGES = Columns("image", None, None)


def image_folder_columns(folder: str, split: str, choice: ColumnChoice) -> Columns:
    """The columns of a folder; those of the first metadata file, if there are several.

    Args:
        folder: The folder.
        split: The split of the folder.
        choice: Which columns to look for.

    Raises:
        ValueError: The folder has no such split, or a metadata file lacks the columns or cannot be read.
    """
    metadata, _, _ = _read_files(folder, split)
    found, unreadable = [], None
    for file in metadata:
        try:
            found.append(_found_in(os.path.join(folder, file), choice))
        except NoRowReadable as error:
            unreadable = unreadable or error
    if unreadable and not found:
        raise unreadable
    return found[0] if found else _without_metadata(folder, choice)


def image_folder_rows(
    folder: str, root: str, split: str, choice: ColumnChoice, start: int, stop: int | None
) -> Iterator[SourceRow]:
    """Rows `start` to `stop` (exclusive; `None`: to the end): those of the metadata, then images that no row names.

    Args:
        folder: The folder.
        root: The folder that names of files in ids and reports are relative to.
        split: The split of the folder; a folder without splits is read whole.
        choice: Which columns to read.
        start, stop: The range of rows.

    Raises:
        ValueError: The folder cannot be read or lacks the columns.
    """
    for number, (values, columns, place) in enumerate(islice(_rows(folder, split, choice), start, stop), start):
        file = os.path.relpath(place, root)
        if isinstance(values, BadText):
            yield bad_source_row(number, values, f"{file}:{number}", file)
            continue
        path, row_id = values.get(str(columns.image)), f"{file}:{number}"
        if isinstance(path, str):
            row_id = file = os.path.relpath(path, root)
        yield source_row(number, values, columns, default_id=row_id, file=file)


def image_folder_files(folder: str) -> Iterator[str]:
    """The paths of all images and metadata files in a folder and its sub-folders, always in the same order."""
    for name in folder_files(folder):
        if is_read(name):
            yield os.path.join(folder, name)


def _read_files(folder: str, split: str) -> tuple[list[str], list[str], Callable[[str], bool]]:
    """The metadata files and the images of a split, relative to the folder, and which files belong to the split."""
    metadata, images = [], []
    for name in folder_files(folder):
        if is_metadata(name):
            metadata.append(name)
        elif is_image(name):
            images.append(name)
    places = [os.path.dirname(name) for name in metadata]
    if twice := [name for name, place in zip(metadata, places) if places.count(place) > 1]:
        raise ValueError(
            f"{folder}: several metadata files for the same images: {', '.join(twice)}. Keep one of them."
        )
    of_split = split_filter(images, split, folder)
    return list(filter(of_split, metadata)), sorted(filter(of_split, images)), of_split


def _rows(folder: str, split: str, choice: ColumnChoice) -> Iterator[tuple[Mapping[str, Any] | BadText, Columns, str]]:
    """The values of each row, images as their paths; its columns; and the file that the row is in."""
    metadata, images, of_split = _read_files(folder, split)
    if not metadata:
        _without_metadata(folder, choice)
    unnamed = dict.fromkeys(images)
    for name in metadata:
        file = os.path.join(folder, name)
        try:
            columns = _found_in(file, choice)
        except NoRowReadable:  # each of its rows is bad
            columns = _ONLY_IMAGES
        for row in metadata_rows(file):
            if isinstance(row, BadText):
                yield row, columns, file
                continue
            values, named = _with_paths(row, folder, os.path.dirname(name))
            for image in named:
                unnamed.pop(image, None)
            if not named or any(map(of_split, named)):
                yield values, columns, file
    for image in unnamed:
        path = os.path.join(folder, image)
        yield {"image": path}, _ONLY_IMAGES, path


def _with_paths(row: Mapping[str, Any], folder: str, parent: str) -> tuple[dict[str, Any], list[str]]:
    """A row of metadata with the paths of its images, and their names relative to the folder.

    Args:
        row: Its values by column.
        folder: The folder that the images must be in.
        parent: The folder of the metadata, relative to it, where the names start from.
    """
    values, names = dict(row), []
    for column in row:
        if (image := _image_column(column)) is None:
            continue
        name = values.pop(column)
        if isinstance(name, bytes):
            name = read_text(name, column)
        if isinstance(name, str) and name:
            path = os.path.normpath(os.path.join(parent, name))
            if os.path.isabs(path) or path.split(os.sep)[0] == os.pardir or is_remote(name):
                name = BadText(f"{column} leads out of the folder ({name})")
            else:
                names.append(path)
                name = os.path.join(folder, path)
        values[image] = name or None
    return values, names


def _without_metadata(folder: str, choice: ColumnChoice) -> Columns:
    """The columns of a folder that holds images alone.

    Raises:
        ValueError: Captions, or a column, are asked for.
    """
    if choice.captions and choice.caption is None:
        beside = any(name.lower().endswith(".txt") for name in folder_files(folder))
        raise ValueError(
            f"{folder}: images without captions. Add a metadata.csv or metadata.jsonl with the columns file_name and "
            "caption, or say that there are none (captions=False; --no-captions)."
            + (" A tar of the folder has the text file beside an image as its caption." if beside else "")
        )
    return choice.find(["image"], folder)


def _found_in(file: str, choice: ColumnChoice) -> Columns:
    return choice.find(_columns(file), file)


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
