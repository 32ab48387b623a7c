"""Which columns of a source hold the picture, the caption and the id."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple


class Columns(NamedTuple):
    """Names of the columns; `json.caption` is the field `caption` of the column `json`. `None`: there is none."""

    image: str | None
    caption: str | None
    id: str | None


# What the columns are usually called; the first that is there is taken.
IMAGE_NAMES = ("image", "img", "picture", "photo", "jpg", "jpeg", "png", "webp", "image_bytes", "bytes")
CAPTION_NAMES = ("caption", "captions", "text", "txt", "description", "alt_text", "json.caption", "json.text")
ID_NAMES = ("id", "image_id", "uid", "key", "__key__", "sample_id", "json.id", "json.key")


def find_columns(
    present,
    where: str,
    *,
    captions: bool = True,
    image_column: str | None = None,
    caption_column: str | None = None,
    id_column: str | None = None,
) -> Columns:
    """The columns by the names given, or else by the usual names.

    Args:
        present: Names of the columns there are, or an Arrow schema.
        where: The file, for messages.
        captions: Whether a caption is wanted.

    Raises:
        ValueError: A column that is named is missing, or no picture or caption can be found.
    """
    names = _names(present)
    found: dict[str, str | None] = {}
    for what, chosen, usual in (
        ("image", image_column, IMAGE_NAMES),
        ("caption", caption_column, CAPTION_NAMES),
        ("id", id_column, ID_NAMES),
    ):
        if what == "caption" and not captions:
            found[what] = None
        elif chosen is not None:
            if chosen not in names:
                raise ValueError(f"{where}: no column {chosen!r} for the {what}; it has {_listed(names)}.")
            found[what] = chosen
        else:
            found[what] = next((name for name in usual if name in names), None)
    if found["image"] is None:
        raise ValueError(
            f"{where}: none of its columns looks like a picture: {_listed(names)}. Name the right one (image_column)."
        )
    if found["caption"] is None and captions:
        raise ValueError(
            f"{where}: none of its columns looks like a caption: {_listed(names)}. Name the right one "
            "(caption_column), or say that there are none (captions=False; --no-captions)."
        )
    return Columns(**found)


def holder_of(name: str, present) -> str:
    """The column to read for a name: itself, or the one that it is a field of."""
    return name if name in present else name.rpartition(".")[0]


def value_of(values: Mapping[str, Any], name: str) -> Any:
    """The value of a column, or of a field of one; `None` where it is missing."""
    if name in values:
        return values[name]
    column, _, field = name.rpartition(".")
    inner = values.get(column)
    return inner.get(field) if isinstance(inner, Mapping) else None


def _names(present) -> list[str]:
    """Names of columns, and of the fields of Arrow structs that are no picture."""
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
