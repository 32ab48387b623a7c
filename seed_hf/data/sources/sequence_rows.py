"""The rows of the language-model and instruction stages from any source, in one form, held in memory."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from numbers import Real
from typing import Any

from PIL import Image

from seed_hf.images import SeedImageError
from seed_hf.modeling.visual_tokens_seed import IMAGE_TOKEN

from .checked_table import ROW
from .filters import RowDropped, RowFilters
from .locating import Located, locate_rows
from .messages import HOW_TO_ENCODE, read_codes, read_messages, read_parts
from .remote import is_remote
from .row_checks import RowReport, check_on_error, read_image
from .source import open_source
from .source_row import Rejection, SourceRow, image_of
from .stored_rows import StoredRow, columns_of, rows_in_memory, stored_rows
from .text import BadText, caption_of, described, id_of, question_pairs, text_of


Encode = Callable[[list[Image.Image]], list[list[int]]]
SETTINGS = ("direction", "loss_on", "max_length", "swap_images")  # of a row: see `LanguageModelCollator`
# What a row is made of, and the columns that go with it.
_WITH_IMAGES, _WITH_CAPTIONS = {"images", "file_name"}, {"caption", "captions", "questions"}
_CONTENTS: dict[str, set[str]] = {
    "messages": _WITH_IMAGES,
    "document": _WITH_IMAGES,
    "text": set(),
    "codes": _WITH_CAPTIONS,
    "image": _WITH_CAPTIONS,
}
_COLUMNS = {*_CONTENTS, *SETTINGS, *_WITH_IMAGES, *_WITH_CAPTIONS, "id", ROW}
_IMAGES_AT_ONCE = 64  # encoded together
_ROWS_AT_ONCE = 1000  # of an Arrow table

logger = logging.getLogger(__name__)


def sequence_rows(
    source: str | list[str] | Iterable[Mapping[str, Any]],
    split: str = "train",
    *,
    encode: Encode | None = None,
    ignore_columns: Sequence[str] = (),
    caption_column: str | None = None,
    on_error: str = "raise",
    where: str = "the data",
):
    """A `datasets.Dataset` of conversations, documents, images with captions, or texts, in which images are codes.

    A row has one of these columns, and only those that are listed here:

    - `messages`: a conversation, as [`read_messages`] takes it. Its parts of the type "image" may have no image of
      their own: then `images` has them in order (encoded images, paths, or codes), or `file_name` the only one.
    - `document`: texts and images in order, as the content of a message.
    - `codes` or `image`, with `caption` or `captions`, and maybe `questions`.
    - `text`.
    - Besides: `id`, and `direction`, `loss_on`, `max_length`, `swap_images` of [`LanguageModelCollator`].

    Args:
        source: A `.jsonl` file, Parquet, WebDataset tars whose JSON has these columns, a folder, glob or list of them,
            or a Hub dataset. Or any source of images with captions that `open_source` reads. Or the rows themselves,
            such as a `datasets.Dataset`.
        split: Of a folder or Hub dataset.
        encode: From RGB images to their codes. Without it rows with images are refused.
        ignore_columns: Columns that are not read. Others that are not listed above are refused.
        caption_column: Of a source of images with captions, if it has an unusual name.
        on_error: What to do about a row that is wrong: "raise", or "skip" it and count.
        where: What messages call the source.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A file cannot be read, or no row is left; `SeedImageError` (a `ValueError`) for a wrong row. The
            message names the row and says what is wrong.
    """
    import pyarrow as pa
    from datasets import Dataset, DatasetInfo, Features

    check_on_error(on_error)
    stored = _opened(source, split, caption_column)
    report, schema = RowReport(), _schema()
    tables, waiting, marked = [], [], []
    for row in _encoded(
        _read(stored, set(ignore_columns), report, on_error, encode is not None), encode, report, on_error
    ):
        waiting.append(row)
        if any(IMAGE_TOKEN in (part.get("text") or "") for part in _parts(row)):
            marked.append(row[ROW])
        if len(waiting) == _ROWS_AT_ONCE:
            tables.append(pa.Table.from_pylist(waiting, schema))
            waiting = []
    table = pa.concat_tables([*tables, pa.Table.from_pylist(waiting, schema)])
    if report.kept < report.read:
        logger.warning("%s: %s", where, report)
    if marked:
        logger.warning(
            "%s: %d rows have %s in a text, where it is plain text and no image; the first is %s. An image is a part "
            "of its own: docs/instruction_tuning.md makes some of LLaVA's conversations.",
            where, len(marked), IMAGE_TOKEN, marked[0],
        )  # fmt: skip
    if not len(table):
        raise ValueError(f"{where}: no row can be used: {report}.")
    table = table.select([name for name in table.column_names if table[name].null_count < len(table)])
    return Dataset(table, info=DatasetInfo(features=Features.from_arrow_schema(table.schema)))


def holds_conversations(source: str | list[str], split: str) -> bool:
    """Whether a source has conversations or documents, by its first rows.

    Args:
        source, split: As for [`sequence_rows`].
    """
    return not {"messages", "document"}.isdisjoint(columns_of(locate_rows(source, split)))


def sequence_files(source: str | list[str], split: str) -> tuple[list[str], list[str]]:
    """The files of a source with the images that its rows name, and the addresses that it is read from.

    Args:
        source, split: As for [`sequence_rows`].
    """
    located, stored = _located(source, split)
    files = [file for file in located.files if not is_remote(file)]
    if stored is None:
        opened = open_source(source, split=split, captions=False)
        read = [*opened.local_files(), *opened.named_images()]
        return list(map(str, read)), [file for file in located.files if is_remote(file)]
    images = set()
    for row in stored:
        try:
            found = {} if isinstance(row.values, BadText) else _in_form(row.values, None, row.folder)
        except (BadText, RowDropped):
            continue  # `sequence_rows` says so
        images |= {part["image"] for part in _images(found) if isinstance(part.get("image"), str)}
    return files + sorted(filter(os.path.isfile, images)), [file for file in located.files if is_remote(file)]


def _located(source: str | list[str], split: str) -> tuple[Located, Iterator[StoredRow] | None]:
    """The files of a source, and its rows, unless they are images with captions."""
    located = locate_rows(source, split)
    columns = set(columns_of(located))
    if located.format == "imagefolder" and {"messages", "document"} & columns:
        located = Located("jsonl", [os.path.join(located.files[0], "metadata.jsonl")])
    if located.format == "jsonl" or {"messages", "document"} & columns:
        return located, stored_rows(located)
    if located.format == "parquet" and {"codes", "text"} & columns and "image" not in columns:
        return located, stored_rows(located)
    return located, None


def _opened(source, split: str, caption_column: str | None) -> Iterator[StoredRow]:
    if not isinstance(source, str) and not (isinstance(source, list) and all(isinstance(s, str) for s in source)):
        return rows_in_memory(source)
    _, stored = _located(source, split)
    if stored is not None:
        return stored
    return _with_captions(open_source(source, split=split, caption_column=caption_column))


def _with_captions(source) -> Iterator[StoredRow]:
    for part in range(len(source)):
        for row in source.rows(part):
            caption = {"captions" if isinstance(row.caption, list) else "caption": row.caption}
            bad = row.rejection and BadText(row.rejection.reason)
            yield StoredRow(f"{row.file}, row {row.row}", bad or {"id": row.id, "image": row.image, **caption})


def _read(
    stored: Iterable[StoredRow], ignored: set[str], report: RowReport, on_error: str, encodes: bool
) -> Iterator[dict[str, Any]]:
    """The rows in one form. Images are bytes or paths still."""
    for number, row in enumerate(stored):
        report.read += 1
        try:
            if isinstance(row.values, BadText):
                raise row.values
            found = _in_form(row.values, ignored, row.folder)
            if not encodes and any("image" in part for part in _images(found)):
                raise BadText(f"an image without codes. {HOW_TO_ENCODE}")
        except BadText as error:
            _reject(row.name, number, str(error), report, on_error)
        except RowDropped as dropped:
            report.add(SourceRow(number, row.name, None, None, row.name), Rejection(False, str(dropped)))
        else:
            yield {**found, ROW: row.name}


def _in_form(values: Mapping[str, Any], ignored: set[str] | None, folder: str) -> dict[str, Any]:
    """A row in the form of the table; `ignored=None` reads it whatever columns it has."""
    dropped = values.keys() - _COLUMNS if ignored is None else ignored
    values = {name: value for name, value in values.items() if value is not None and name not in dropped}
    if unknown := sorted(values.keys() - _COLUMNS):
        raise BadText(
            f"unknown columns: {', '.join(unknown)[:120]}. Known are {', '.join(sorted(_COLUMNS - {ROW}))}. Rename or "
            "remove them, or name them in data.ignore_columns"
        )
    contents = [name for name in _CONTENTS if name in values]
    if len(contents) != 1:
        found = " and ".join(contents) or f"none of them, but {', '.join(sorted(values)) or 'nothing'}"
        raise BadText(f"a row has one of {', '.join(_CONTENTS)}; this one has {found}")
    kind = contents[0]
    if unused := sorted(values.keys() & (_WITH_IMAGES | _WITH_CAPTIONS) - _CONTENTS[kind]):
        raise BadText(
            f"{', '.join(unused)} is not used in a row with {kind}. Remove it, or name it in data.ignore_columns"
        )
    read: dict[str, Any] = {name: _setting(name, values[name]) for name in SETTINGS if name in values}
    if "id" in values:
        read["id"] = id_of(values["id"], "")
    images = values.get("images")
    if images is None and "file_name" in values:
        images = [values["file_name"]]
    if images is not None:
        images = images.tolist() if hasattr(images, "tolist") else images
        if isinstance(images, (str, bytes)) or not isinstance(images, Sequence):
            raise BadText(f"images is {described(images)}, not a list")
    if kind == "messages":
        return {**read, "messages": read_messages(values[kind], images, folder=folder)}
    if kind == "document":
        return {**read, "document": read_parts(values[kind], images, folder=folder)}
    if kind == "text":
        if not (text := text_of(values[kind], "text")).strip():
            raise RowDropped("empty_text")
        return {**read, "text": text}
    captions = caption_of(values.get("captions", values.get("caption")), "caption")
    captions = captions if isinstance(captions, list) else [captions or ""]
    if not any(caption.strip() for caption in captions):
        raise RowDropped("empty_caption")
    given: dict[str, Any]
    if kind == "codes":
        given = {"codes": read_codes(values["codes"], "codes")}
    else:
        given = {"image": image_of(values[kind], kind, folder)}
    pairs = [{"question": q, "answer": a} for q, a in question_pairs(values.get("questions")) or []]
    return {**read, **given, "captions": captions, "questions": pairs or None}


def _setting(name: str, value: Any) -> Any:
    """A setting of a row, of the type that the table has for it."""
    if name in ("direction", "loss_on"):
        return text_of(value, name)
    whole = name == "max_length"
    number = float(value) if isinstance(value, Real) else -1.0
    if not 0 <= number < 2**31 or whole and (isinstance(value, bool) or not number.is_integer()):
        raise BadText(f"{name} is {described(value)}, not a {'whole ' if whole else ''}number from 0 on")
    return int(number) if whole else number


def _images(row: dict[str, Any]) -> list[dict[str, Any]]:
    """The mappings of a row that have an image or codes."""
    if "image" in row or "codes" in row:
        return [row]
    return [part for part in _parts(row) if part["type"] == "image"]


def _parts(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The parts of the document or of the messages of a row."""
    yield from row.get("document") or []
    for message in row.get("messages") or []:
        yield from message["content"]


def _encoded(
    rows: Iterable[dict[str, Any]], encode: Encode | None, report: RowReport, on_error: str
) -> Iterator[dict[str, Any]]:
    """The rows, images replaced by their codes, some rows at a time."""
    waiting: list[dict[str, Any]] = []
    images: list[tuple[dict[str, Any], Image.Image]] = []
    for row in rows:
        try:
            images += [(part, _loaded(part["image"])) for part in _images(row) if "image" in part]
        except SeedImageError as error:
            _reject(row[ROW], report.read - 1, str(error), report, on_error)
            continue
        waiting.append(row)
        if len(images) >= _IMAGES_AT_ONCE or len(waiting) >= _ROWS_AT_ONCE:
            yield from _with_codes(waiting, images, encode, report)
            waiting, images = [], []
    yield from _with_codes(waiting, images, encode, report)


def _with_codes(waiting: list, images: list, encode: Encode | None, report: RowReport) -> list[dict[str, Any]]:
    while images and encode is not None:  # a row may have many
        some, images = images[:_IMAGES_AT_ONCE], images[_IMAGES_AT_ONCE:]
        for (part, _), codes in zip(some, encode([image for _, image in some])):
            del part["image"]
            part["codes"] = codes
    report.kept += len(waiting)
    return waiting


def _loaded(image: Any) -> Image.Image:
    if isinstance(image, Image.Image):
        from seed_hf.images import load_image

        return load_image(image)
    return read_image(image, RowFilters())


def _reject(name: str, number: int, reason: str, report: RowReport, on_error: str) -> None:
    if on_error == "raise":
        raise SeedImageError(f"{name}: {reason}{'' if reason.endswith('.') else '.'}")
    report.add(SourceRow(number, name, None, None, name), Rejection(True, reason))


def _schema():
    import pyarrow as pa

    codes = pa.list_(pa.int32())
    content = pa.list_(pa.struct([("type", pa.string()), ("text", pa.string()), ("codes", codes)]))
    pairs = pa.list_(pa.struct([("question", pa.string()), ("answer", pa.string())]))
    return pa.schema(
        [
            ("messages", pa.list_(pa.struct([("role", pa.string()), ("content", content)]))),
            ("document", content),
            ("text", pa.string()),
            ("codes", codes),
            ("captions", pa.list_(pa.string())),
            ("questions", pairs),
            ("id", pa.string()),
            ("direction", pa.string()),
            ("loss_on", pa.string()),
            ("max_length", pa.int32()),
            ("swap_images", pa.float64()),
            (ROW, pa.string()),
        ]
    )
