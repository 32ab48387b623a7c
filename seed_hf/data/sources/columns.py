"""Which columns of a source hold the image, the caption and the id."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from .text import BadText, described, printable


class Columns(NamedTuple):
    """Names of the columns; `json.caption` is the field `caption` of the column `json`. `None`: there is none."""

    image: str | None
    caption: str | None
    id: str | None


# The usual names of each column; the first that is present is taken.
IMAGE_ENDINGS = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff")
IMAGE_NAMES = ("image", "img", "picture", "photo", *IMAGE_ENDINGS, "image_bytes", "bytes")
CAPTION_NAMES = ("caption", "captions", "text", "txt", "description", "alt_text", "json.caption", "json.text")
ID_NAMES = ("id", "image_id", "uid", "key", "__key__", "sample_id", "json.id", "json.key")


@dataclass(frozen=True)
class ColumnChoice:
    """The columns that a caller names; the others are found by their usual names.

    Args:
        image, caption, id: Names of columns, or `None` to look for the usual names. An empty `id`: there is none.
        captions: Whether captions are read.
        expected: The columns of the source's first part. A caption or an id that is a field of a column is looked for
            in other parts too, where none of the first rows may have that field.
    """

    image: str | None = None
    caption: str | None = None
    id: str | None = None
    captions: bool = True
    expected: Columns | None = None

    def find(self, present, where: str) -> Columns:
        """The columns of one file.

        Args:
            present: The names of its columns, or its Arrow schema.
            where: The file's name, for messages.

        Raises:
            ValueError: A named column is missing, no column looks like an image or a caption, or a column has a type
                that cannot be one.
        """
        types = column_types(present)
        names = list(types)
        image = _find("image", self.image, IMAGE_NAMES, names, where)
        caption = _find("caption", self.caption, CAPTION_NAMES, names, where) if self.captions else None
        row_id = None if self.id == "" else _find("id", self.id, ID_NAMES, names, where)
        if self.expected is not None:
            caption = caption or self._expected(self.expected.caption, names) if self.captions else None
            row_id = row_id or self._expected(self.expected.id, names)
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
        for what, name in (("image", image), ("caption", caption), ("id", row_id)):
            if name is not None and types.get(name) is not None:
                check_type(what, name, types[name], where)
        return Columns(image, caption, row_id)

    @staticmethod
    def _expected(name: str | None, names: list[str]) -> str | None:
        return name if name and "." in name and column_of(name, names) in names else None


def check_type(what: str, name: str, column_type, where: str) -> None:
    """Raise `ValueError` if the values of an Arrow column cannot be what they are read as.

    Args:
        what: "image", "caption", "id", "text" or "questions".
        name: The column.
        column_type: Its `pyarrow.DataType`.
        where: The file's name, for the message.
    """
    import pyarrow.types as pt

    value_type = _value_type(column_type)
    if what == "image":
        fields = {field.name for field in column_type} if pt.is_struct(column_type) else set()
        fits = is_text_type(value_type) or not fields.isdisjoint({"bytes", "path"})
        wanted = "encoded images or their paths"
    elif what == "caption":
        fits, wanted = is_text_type(_value_type(item_type(column_type))), "text or lists of texts"
    elif what == "questions":
        pair = item_type(column_type)
        if pt.is_struct(pair):
            kinds = {field.name: field.type for field in pair}
            texts = [kinds.get("question"), kinds.get("answer")]
        else:
            texts = [None if item_type(pair) is pair else item_type(pair)]
        fits = pt.is_null(pair) or pair is not column_type and all(kind and is_text_type(kind) for kind in texts)
        wanted = "lists of pairs of question and answer"
    else:
        fits, wanted = is_text_type(value_type) or what == "id" and pt.is_integer(value_type), "text"
    if fits:
        return
    advice = "Leave it out"
    if what in ("image", "caption", "id"):
        advice = f"Name another column ({what}_column{', or an empty name for none' if what == 'id' else ''})"
    if pt.is_struct(column_type) and len(column_type):
        advice += f", or a field of this one, such as {name}.{next(iter(column_type)).name}"
    raise ValueError(f"{where}: the column {name!r} holds {column_type}, not {wanted}. {advice}, or convert it.")


def item_type(column_type):
    """The type of the items of an Arrow list; any other type itself."""
    import pyarrow.types as pt

    lists = (pt.is_list, pt.is_large_list, pt.is_fixed_size_list, pt.is_list_view, pt.is_large_list_view)
    return column_type.value_type if any(is_list(column_type) for is_list in lists) else column_type


def holds_lists(schema, name: str) -> bool | None:
    """Whether a column, or a field of one, holds lists; `None` if it has no value at all.

    Args:
        schema: The Arrow schema of its file.
        name: As `ColumnChoice.find` gives it.
    """
    import pyarrow.types as pt

    column_type = column_types(schema)[name]
    return None if pt.is_null(column_type) else item_type(column_type) is not column_type


def is_text_type(value_type) -> bool:
    """Whether an Arrow type holds text, or bytes that may be UTF-8; also the type of columns without any value."""
    import pyarrow.types as pt

    texts = (pt.is_string, pt.is_large_string, pt.is_string_view)
    bytes_ = (pt.is_binary, pt.is_large_binary, pt.is_binary_view, pt.is_fixed_size_binary)
    return any(is_kind(value_type) for is_kind in (*texts, *bytes_, pt.is_null))


def plain_type(column_type):
    """The Arrow type of the same values without views and dictionaries, which not everything reads; also in structs.

    Args:
        column_type: Any `pyarrow.DataType`.
    """
    import pyarrow as pa
    import pyarrow.types as pt

    if pt.is_dictionary(column_type):
        return plain_type(column_type.value_type)
    if pt.is_large_string(column_type) or pt.is_string_view(column_type):
        return pa.string()
    if pt.is_large_binary(column_type) or pt.is_binary_view(column_type):
        return pa.binary()
    if pt.is_struct(column_type):
        return pa.struct([field.with_type(plain_type(field.type)) for field in column_type])
    return column_type


def _value_type(column_type):
    """What the values are once they are read: Arrow may store them by number or by runs."""
    import pyarrow.types as pt

    encoded = pt.is_dictionary(column_type) or pt.is_run_end_encoded(column_type)
    return column_type.value_type if encoded else column_type


def column_of(name: str, present) -> str:
    """The column to read for a name: `name` itself, or the column that it is a field of."""
    return name if name in present else name.rpartition(".")[0]


def values_in(table, name: str):
    """The values of a column of an Arrow table, or of a field of one.

    Args:
        table: A `pyarrow.Table`.
        name: As in `column_types` of its schema.
    """
    import pyarrow.compute as pc

    if name in table.column_names:
        return table[name]
    column, _, field = name.rpartition(".")
    return pc.struct_field(table[column], field)


def value_of(values: Mapping[str, Any], name: str) -> Any:
    """The value of a column, or of a field of one; `None` where it is missing, a `BadText` where it cannot be read."""
    if name in values:
        return values[name]
    column, _, field = name.rpartition(".")
    inner = values.get(column)
    if inner is None or isinstance(inner, BadText):
        return inner
    if not isinstance(inner, Mapping):
        return BadText(f"{column} is {described(inner)}, not a mapping with {field}")
    return inner.get(field)


def _find(what: str, chosen: str | None, usual: Iterable[str], names: list[str], where: str) -> str | None:
    if chosen is None:
        return next((name for name in usual if name in names), None)
    if chosen not in names:
        raise ValueError(f"{where}: no column {chosen!r} for the {what}; it has {_listed(names)}.")
    return chosen


def column_types(present) -> dict[str, Any]:
    """The types of the columns by name, in an Arrow schema also those of the fields of structs.

    Args:
        present: An Arrow schema, or names, of which the types are not known and `None`.
    """
    if not hasattr(present, "field"):
        return dict.fromkeys(present)
    import pyarrow as pa

    types = dict(zip(present.names, present.types))
    for column in present:
        if pa.types.is_struct(column.type):
            types.update({f"{column.name}.{field.name}": field.type for field in column.type})
    return types


def _listed(names: Iterable[str]) -> str:
    return printable(", ".join(names)) or "no columns"
