"""Which columns of a source hold the image, the caption and the id."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple


class Columns(NamedTuple):
    """Names of the columns; `json.caption` is the field `caption` of the column `json`. `None`: there is none."""

    image: str | None
    caption: str | None
    id: str | None


# The usual names of each column; the first that is present is taken.
IMAGE_NAMES = ("image", "img", "picture", "photo", "jpg", "jpeg", "png", "webp", "image_bytes", "bytes")
CAPTION_NAMES = ("caption", "captions", "text", "txt", "description", "alt_text", "json.caption", "json.text")
ID_NAMES = ("id", "image_id", "uid", "key", "__key__", "sample_id", "json.id", "json.key")


@dataclass(frozen=True)
class ColumnChoice:
    """The columns that a caller names; the others are found by their usual names.

    Args:
        image, caption, id: Names of columns, or `None` to look for the usual names.
        captions: Whether captions are read.
    """

    image: str | None = None
    caption: str | None = None
    id: str | None = None
    captions: bool = True

    def find(self, present, where: str) -> Columns:
        """The columns of one file.

        Args:
            present: The names of its columns, or its Arrow schema.
            where: The file's name, for messages.

        Raises:
            ValueError: A named column is missing, or no column looks like an image or a caption.
        """
        names = _names(present)
        image = _find("image", self.image, IMAGE_NAMES, names, where)
        caption = _find("caption", self.caption, CAPTION_NAMES, names, where) if self.captions else None
        row_id = _find("id", self.id, ID_NAMES, names, where)
        if image is None:
            raise ValueError(
                f"{where}: none of its columns looks like an image: {_listed(names)}. Name the right one "
                "(image_column)."
            )
        if caption is None and self.captions:
            raise ValueError(
                f"{where}: none of its columns looks like a caption: {_listed(names)}. Name the right one "
                "(caption_column), or say that there are none (captions=False; --no-captions)."
            )
        return Columns(image, caption, row_id)


def column_of(name: str, present) -> str:
    """The column to read for a name: `name` itself, or the column that it is a field of."""
    return name if name in present else name.rpartition(".")[0]


def value_of(values: Mapping[str, Any], name: str) -> Any:
    """The value of a column, or of a field of one; `None` where it is missing."""
    if name in values:
        return values[name]
    column, _, field = name.rpartition(".")
    inner = values.get(column)
    return inner.get(field) if isinstance(inner, Mapping) else None


def _find(what: str, chosen: str | None, usual: Iterable[str], names: list[str], where: str) -> str | None:
    if chosen is None:
        return next((name for name in usual if name in names), None)
    if chosen not in names:
        raise ValueError(f"{where}: no column {chosen!r} for the {what}; it has {_listed(names)}.")
    return chosen


def _names(present) -> list[str]:
    """The names of the columns, and in an Arrow schema also of the fields of structs."""
    if not hasattr(present, "field"):
        return list(present)
    import pyarrow as pa

    names = list(present.names)
    for column in present:
        if pa.types.is_struct(column.type):
            names += [f"{column.name}.{field.name}" for field in column.type]
    return names


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "no columns"
