"""One row of a source, as every format's reader gives it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .columns import Columns, value_of
from .remote import is_remote
from .text import caption_of, id_of


@dataclass(slots=True)
class SourceRow:
    """One row as it is stored.

    Args:
        row: Its number in its part, from 0.
        id: From the id column, or else made of the file's name and the row.
        image: The encoded image (`bytes`), its path (`str`), or `None` where the row has none.
        caption: One text, a list of texts, or `None`.
        file: The file that holds the image.
    """

    row: int
    id: str
    image: bytes | str | None
    caption: str | list[str] | None
    file: str


def source_row(
    number: int, values: Mapping[str, Any], columns: Columns, *, default_id: str, file: str, folder: str = ""
) -> SourceRow:
    """The row that stored values make.

    Args:
        number: The row's number in its part.
        values: The stored value of each column that was read. An image is bytes, a path, or a mapping of `bytes` and
            `path` as `datasets` stores it.
        columns: Which columns hold image, caption and id.
        default_id: The id of a row without one.
        file: The file that holds the image, for reports.
        folder: The folder that an image's relative path starts from; empty if paths stay as they are.
    """
    image: Any = values.get(columns.image) if columns.image is not None else None
    if isinstance(image, dict):
        image = image.get("path") if image.get("bytes") is None else image["bytes"]
    if isinstance(image, str) and folder and not is_remote(image) and not image.startswith("data:"):
        image = os.path.join(folder, image)
    caption = caption_of(value_of(values, columns.caption)) if columns.caption else None
    row_id = value_of(values, columns.id) if columns.id else None
    return SourceRow(number, id_of(row_id, default_id), image, caption, file)
