"""Rows of Parquet files. A row group of any size streams through a small buffer."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from .columns import ColumnChoice, column_of, column_types, plain_type, value_of
from .remote import is_remote, open_binary
from .source_row import SourceRow, image_of, source_row
from .text import BadText, not_utf8


_ROWS_AT_ONCE = 32  # in memory with their images


def parquet_schema(path: str):
    """The Arrow schema of a Parquet file; `ValueError` if it is damaged."""
    with open_binary(path) as file:
        return _opened(file, path).schema_arrow


def parquet_length(path: str) -> int:
    """The number of rows of a Parquet file; `ValueError` if it is damaged."""
    with open_binary(path) as file:
        return _opened(file, path).metadata.num_rows


def parquet_rows(path: str, name: str, choice: ColumnChoice, start: int, stop: int | None) -> Iterator[SourceRow]:
    """Rows `start` to `stop` (exclusive; `None`: to the end) of a Parquet file.

    Args:
        path: The file or its URL. Relative paths of images start from its folder.
        name: The file's name in ids and reports.
        choice: Which columns to read.
        start, stop: The range of rows.

    Raises:
        ValueError: The file is damaged or lacks the columns.
    """
    folder = "" if is_remote(path) else os.path.dirname(os.path.abspath(path))
    with open_binary(path) as file:
        opened = _opened(file, path)
        columns = choice.find(opened.schema_arrow, path)
        needed = sorted({column_of(column, opened.schema_arrow.names) for column in columns if column})
        first = 0
        for group in range(opened.num_row_groups):
            count = opened.metadata.row_group(group).num_rows
            begin, end = max(start - first, 0), count if stop is None else min(stop - first, count)
            if begin < end:
                batches = opened.iter_batches(_ROWS_AT_ONCE, row_groups=[group], columns=needed)
                for index, values in islice(_numbered(batches, path), begin, end):
                    number = first + index
                    yield source_row(number, values, columns, default_id=f"{name}:{number}", file=name, folder=folder)
            first += count


def named_images(path: str, column: str | None) -> Iterator[str]:
    """The image files that rows of a Parquet file name by path, instead of holding the images.

    Args:
        path: The file or its URL; of those on this machine it gives the ones that are there, in the order of the rows.
        column: Of the images, or a field of a column.
    """
    import pyarrow.types as pt

    if column is None or is_remote(path):
        return
    folder = os.path.dirname(os.path.abspath(path))
    with open_binary(path) as file:
        opened = _opened(file, path)
        present = column_types(opened.schema_arrow)
        kind = plain_type(present[column]) if column in present else None
        if kind is None or not (pt.is_string(kind) or pt.is_struct(kind)):
            return
        stored = column_of(column, opened.schema_arrow.names)
        for group in range(opened.num_row_groups):
            if _holds_all(opened.metadata.row_group(group), column):
                continue
            for _, values in _numbered(opened.iter_batches(_ROWS_AT_ONCE, row_groups=[group], columns=[stored]), path):
                try:
                    image = image_of(value_of(values, column), column, folder)
                except BadText:
                    continue  # whoever reads the row says so
                if isinstance(image, str) and os.path.isfile(image):
                    yield image


def _holds_all(group, column: str) -> bool:
    """Whether every row of a group has the bytes of its image, as far as its statistics tell."""
    for number in range(group.num_columns):
        chunk = group.column(number)
        if chunk.path_in_schema == f"{column}.bytes":
            return chunk.statistics is not None and chunk.statistics.null_count == 0
    return False


def parquet_values(path: str) -> Iterator[dict[str, Any]]:
    """The values of every row of a Parquet file by column; a `BadText` in the place of each that is not UTF-8.

    Args:
        path: The file or its URL.

    Raises:
        ValueError: The file is damaged.
    """
    with open_binary(path) as file:
        for _, values in _numbered(_opened(file, path).iter_batches(_ROWS_AT_ONCE), path):
            yield values


def _opened(file, path: str):
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # Pre-buffering would hold a whole row group in memory.
        return pq.ParquetFile(file, pre_buffer=False, buffer_size=1 << 20)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path}: not an intact Parquet file ({error}).") from error


def _numbered(batches, path: str) -> Iterator[tuple[int, dict]]:
    import pyarrow as pa

    index = 0
    try:
        for batch in batches:
            for values in batch_values(batch):
                yield index, values
                index += 1
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path}: damaged after {index} rows of a row group ({error}).") from error


def batch_values(batch) -> Iterable[dict[str, Any]]:
    """The values of each row by column; a `BadText` in the place of each that holds text that is not UTF-8.

    Args:
        batch: A `pyarrow.RecordBatch`.
    """
    try:
        return batch.to_pylist()
    except UnicodeDecodeError:
        return [{name: _value(batch[name][row], name) for name in batch.schema.names} for row in range(len(batch))]


def _value(scalar, name: str) -> Any:
    import pyarrow as pa

    if isinstance(scalar, pa.StructScalar) and scalar.is_valid:
        return {field: _value(scalar[field], f"{name}.{field}") for field in scalar}
    try:
        return scalar.as_py()
    except UnicodeDecodeError as error:
        return not_utf8(error, name)
