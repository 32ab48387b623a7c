"""The rows of a table in memory, checked like those of a streamed source: what cannot be read is named by its row."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from .columns import check_type
from .filters import RowDropped, RowFilters
from .parquet import batch_values
from .row_checks import RowReport, bad_row_error, check_on_error, judge_image
from .source_row import Rejection, SourceRow, image_of
from .text import BadText, caption_of, question_pairs


ROW = "__row__"  # the column with the place of each row: "train.parquet, row 7"
_READERS: dict[str, Callable[[Any, str], Any]] = {
    "caption": caption_of,
    "captions": caption_of,
    "text": caption_of,
    "questions": question_pairs,
}
_IMAGES_AT_ONCE = 32  # copied

logger = logging.getLogger(__name__)


def checked_table(
    table, files: list[tuple[str, int]], where: str, *, filters: RowFilters, on_error: str
) -> tuple[Any, list[int]]:
    """A table whose texts are text, and the numbers of the rows that are used; a log line counts the others.

    A row with `codes` needs a caption, a row without them `text`; in a table without codes and text, a caption.

    Args:
        table: A `pyarrow.Table` with some of the columns `image`, `caption` or `captions`, `text`, `codes` and
            `questions`. It gets one more, `ROW`.
        files: Name and number of rows of each file that it was read from.
        where: What messages call the table.
        filters: Rows to leave out. Images are looked at only if it limits their size.
        on_error: "raise" at a row that cannot be read, or "skip" it. To skip, every image is decoded once.

    Raises:
        ValueError: A column has a type that cannot be text, or no row is left; `SeedImageError` for a bad row.
    """
    check_on_error(on_error)
    with_codes = "codes" in table.column_names
    names = [name for name in _READERS if name in table.column_names]
    if "text" in names and not with_codes:
        names = ["text"]
    has_image = "image" in table.column_names and not with_codes and "text" not in names
    for name in [*names, *(["image"] if has_image else [])]:
        check_type("caption" if name == "captions" else name, name, table.schema.field(name).type, where)
    looks = has_image and (on_error == "skip" or filters.min_side > 0 or filters.max_aspect is not None)
    has_codes = table["codes"].is_valid().to_pylist() if with_codes else None
    places = [(file, row) for file, count in files for row in range(count)]
    kept, report, blank = list(range(len(places))), RowReport(), 0
    texts: dict[str, list] = {name: [] for name in names}
    if names or looks:
        kept = []
        stored = _values(table.select([*names, *(["image"] if looks else [])]), _IMAGES_AT_ONCE if looks else 1024)
        for number, ((file, row), values) in enumerate(zip(places, stored)):
            read, rejection = _judged(values, names, None if has_codes is None else has_codes[number], filters)
            if rejection is None and looks:
                image = judge_image(image_of(values["image"], "image"), filters)
                rejection = image if isinstance(image, Rejection) else None
            for name in names:
                texts[name].append(read.get(name))
            blank += len(values.get("questions") or ()) - len(read.get("questions") or ())
            at = SourceRow(row, f"{file}:{row}", None, None, file)
            if rejection is not None and rejection.bad and on_error == "raise":
                raise bad_row_error(at, rejection.reason)
            report.read += 1
            report.add(at, rejection)
            if rejection is None:
                kept.append(number)
        if len(kept) < len(places):
            logger.warning("%s: %s", where, report)
            if not kept:
                raise ValueError(f"{where}: no row can be used: {report}.")
        if blank:
            logger.warning("%s: %d questions are left out, because they or their answers are blank", where, blank)
    return _with_texts(table, texts, places), kept


def _values(table, rows: int) -> Iterator[Mapping[str, Any]]:
    for batch in table.to_batches(max_chunksize=rows):
        yield from batch_values(batch)


def _judged(
    values: Mapping[str, Any], names: list[str], has_codes: bool | None, filters: RowFilters
) -> tuple[dict[str, Any], Rejection | None]:
    """The texts of a row, and why it is not used."""
    try:
        read = {name: _READERS[name](values[name], name) for name in names}
    except BadText as error:
        return {}, Rejection(True, str(error))
    if has_codes is False and "text" not in names:
        return {}, Rejection(True, "neither codes nor text")
    if "text" in names and not has_codes:
        return read, None if (read["text"] or "").strip() else Rejection(False, "empty_text")
    caption = read.get("caption") if read.get("captions") is None else read["captions"]
    try:
        if "caption" in names or "captions" in names:
            filters.check_caption(caption)
    except RowDropped as dropped:
        return read, Rejection(False, str(dropped))
    return read, None


def _with_texts(table, texts: dict[str, list], places: list[tuple[str, int]]):
    """The table with these texts where they differ from what it holds, and with the places of its rows."""
    import pyarrow as pa

    pair = pa.struct([("question", pa.string()), ("answer", pa.string())])
    types = {"captions": pa.list_(pa.string()), "questions": pa.list_(pair)}
    for name, values in texts.items():
        number, wanted = table.column_names.index(name), types.get(name, pa.string())
        new = pa.chunked_array([pa.array(values, wanted)], wanted)
        table = table if table[name].equals(new) else table.set_column(number, name, new)
    return table.append_column(ROW, pa.array([f"{file}, row {row}" for file, row in places], pa.string()))
