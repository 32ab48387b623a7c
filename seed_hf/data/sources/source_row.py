"""One row of a source, as every format's reader gives it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .columns import Columns, value_of
from .remote import is_remote
from .text import BadText, caption_of, described, id_of, printable


@dataclass(frozen=True)
class Rejection:
    """Why a row is not used.

    Args:
        bad: `True` for a row that cannot be read, `False` for one that a filter dropped.
        reason: What is wrong with the image, the caption or the id, or the filter's name.
    """

    bad: bool
    reason: str


@dataclass(slots=True)
class SourceRow:
    """One row as it is stored.

    Args:
        row: Its number in its part, from 0.
        id: From the id column, or else made of the file's name and the row.
        image: The encoded image (`bytes`), its path (`str`), or `None` where the row has none.
        caption: One text, a list of texts, or `None`.
        file: The file that holds the image, printable.
        rejection: Why the row is bad, if what is stored cannot be its image, caption or id. Captions and images of bad
            rows are `None`.
    """

    row: int
    id: str
    image: bytes | str | None
    caption: str | list[str] | None
    file: str
    rejection: Rejection | None = None


def source_row(
    number: int, values: Mapping[str, Any], columns: Columns, *, default_id: str, file: str, folder: str = ""
) -> SourceRow:
    """The row that stored values make.

    Args:
        number: The row's number in its part.
        values: The stored value of each column that was read, or a [`BadText`] in its place. An image is bytes, a
            path, or a mapping of `bytes` and `path` as `datasets` stores it.
        columns: Which columns hold image, caption and id.
        default_id: The id of a row without one.
        file: The file that holds the image, for reports.
        folder: The folder that an image's relative path starts from; empty if paths stay as they are.
    """
    file = printable(file)
    try:
        row_id = id_of(value_of(values, columns.id) if columns.id else None, default_id, columns.id or "id")
    except BadText as error:
        return SourceRow(number, printable(default_id), None, None, file, Rejection(True, str(error)))
    try:
        image = image_of(values.get(columns.image), columns.image, folder) if columns.image is not None else None
        caption = caption_of(value_of(values, columns.caption), columns.caption) if columns.caption else None
    except BadText as error:
        return SourceRow(number, row_id, None, None, file, Rejection(True, str(error)))
    return SourceRow(number, row_id, image, caption, file)


def bad_source_row(number: int, error: BadText, row_id: str, file: str) -> SourceRow:
    """A row of which nothing can be read.

    Args:
        number: Its number in its part.
        error: Why.
        row_id: What reports call it.
        file: The file that holds it.
    """
    return SourceRow(number, printable(row_id), None, None, printable(file), Rejection(True, str(error)))


def image_of(value: Any, name: str, folder: str = "") -> bytes | str | None:
    """A stored image as its bytes or its path; `None` where there is none.

    Args:
        value: Bytes, a path, or a mapping of `bytes` and `path` as `datasets` stores it.
        name: What the message calls it: the column.
        folder: As for `source_row`.

    Raises:
        BadText: It is anything else.
    """
    if isinstance(value, Mapping):
        value = value.get("path") if value.get("bytes") is None else value["bytes"]
    if isinstance(value, BadText):
        raise value
    if isinstance(value, str) and not value.strip():
        return None
    if isinstance(value, str) and folder and not is_remote(value) and not value.startswith("data:"):
        return os.path.join(folder, value)
    if value is not None and not isinstance(value, (bytes, str)):
        raise BadText(f"{name} is {described(value)}, not an image")
    return value


def with_caption_as(row: SourceRow, lists: bool) -> SourceRow:
    """The row, its caption a list of texts where the source has lists, otherwise one text.

    Args:
        row: As it is stored; changed in place. Several captions where one is expected make it bad.
        lists: Whether the source has lists.
    """
    caption = row.caption
    if lists and isinstance(caption, str):
        row.caption = [caption] if caption.strip() else []
    elif not lists and isinstance(caption, list):
        row.caption = caption[0] if caption else None
        if len(caption) > 1:
            row.caption, row.image = None, None
            row.rejection = Rejection(True, f"{len(caption)} captions, where this source has one text for each image")
    return row
