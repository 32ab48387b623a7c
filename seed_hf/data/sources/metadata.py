"""The rows of a folder's `metadata.csv`, `.jsonl` or `.parquet`, read as they are written.

Every field of a CSV file is text: `007` and `1.50` are not numbers, `NA` and `true` are words, and an empty field is
an empty text. A record that cannot be read is one bad row; the records around it are read.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from typing import Any

from .parquet import parquet_schema, parquet_values
from .text import BadText, json_objects


METADATA_FILES = frozenset({"metadata.csv", "metadata.jsonl", "metadata.parquet"})
_ROWS_LOOKED_AT = 8  # to find the columns of JSON
_LONGEST_FIELD = 1 << 20  # characters; so much is read in vain at each quote that is never closed
_BEGINS_UTF16 = (b"\xff\xfe", b"\xfe\xff")


class NoRowReadable(ValueError):
    """Of a metadata file's rows none can be read, so nobody knows its columns."""


def metadata_columns(path: str):
    """The columns of a metadata file: their names, or the Arrow schema of Parquet.

    Args:
        path: The file.

    Raises:
        ValueError: The file is damaged or empty; `NoRowReadable`, which is one, where all its rows are bad.
    """
    if path.lower().endswith(".parquet"):
        return parquet_schema(path)
    if path.lower().endswith(".csv"):
        with _opened_csv(path) as file:
            return _header(_Records(file), path)
    names: dict[str, None] = {}
    readable, bad = 0, None
    for row in metadata_rows(path):
        if isinstance(row, BadText):
            bad = bad or row
            continue
        names.update(dict.fromkeys(row))
        readable += 1
        if readable == _ROWS_LOOKED_AT:
            break
    if not readable:
        raise NoRowReadable(f"{path}: no row can be read{f'; the first: {bad}' if bad else ', it is empty'}.")
    return list(names)


def metadata_rows(path: str) -> Iterator[Mapping[str, Any] | BadText]:
    """The values of each row by column; a `BadText` in the place of a row that cannot be read.

    Args:
        path: The file. Its ending names the format.

    Raises:
        ValueError: The file is damaged, or has no header.
    """
    if path.lower().endswith(".parquet"):
        return parquet_values(path)
    return _csv_rows(path) if path.lower().endswith(".csv") else _jsonl_rows(path)


def _jsonl_rows(path: str) -> Iterator[Mapping[str, Any] | BadText]:
    _refuse_utf16(path)
    with open(path, "rb") as file:
        yield from json_objects(file)


def _csv_rows(path: str) -> Iterator[Mapping[str, Any] | BadText]:
    with _opened_csv(path) as file:
        records = _Records(file)
        header = _header(records, path)
        records.width = len(header)
        for record in records:
            yield record if isinstance(record, BadText) else dict(zip(header, record))


def _header(records: _Records, path: str) -> list[str]:
    header = next(records, None)
    if header is None or isinstance(header, BadText):
        raise ValueError(f"{path}: no header with the names of the columns ({header or 'the file is empty'}).")
    named = [name for name in header if name]  # a comma at the end of the line makes a column without a name
    if len(set(named)) < len(named):
        raise ValueError(f"{path}: two columns have one name: {', '.join(named)}.")
    return header


def _opened_csv(path: str):
    _refuse_utf16(path)
    # Bytes that are not UTF-8 become surrogates, by which the value's row is found out later.
    return open(path, encoding="utf-8-sig", errors="surrogateescape", newline="")


def _refuse_utf16(path: str) -> None:
    with open(path, "rb") as file:
        if file.read(2) in _BEGINS_UTF16:
            raise ValueError(f"{path}: UTF-16 text. Save the file as UTF-8.")


class _Records:
    """The records of CSV text. One that cannot be parsed is given as a `BadText`, and ends with its line.

    A quote that is never closed would make the rest of the file one field; so the lines after its own are read anew.

    Args:
        lines: The text.
    """

    def __init__(self, lines: Iterator[str]):
        csv.field_size_limit(max(csv.field_size_limit(), _LONGEST_FIELD))
        self.width: int | None = None  # the number of columns, once it is known
        self._lines = iter(lines)
        self._taken: list[str] = []  # lines of the record that is being read
        self._again: list[str] = []  # lines to read anew, last first

    def __iter__(self) -> Iterator[list[str] | BadText]:
        return self

    def __next__(self) -> list[str] | BadText:
        while True:
            self._taken = []
            try:
                record = next(csv.reader(self._next_lines(), strict=True), None)
            except csv.Error as error:
                return self._bad(f"not valid CSV ({error})")
            if record is None:
                raise StopIteration
            if self.width is not None and len(record) != self.width:
                if len(record) > self.width or len(self._taken) > 1:
                    return self._bad(f"{len(record)} fields, where the header has {self.width} columns")
            if record:
                return record

    def _next_lines(self) -> Iterator[str]:
        while True:
            line = self._again.pop() if self._again else next(self._lines, None)
            if line is None:
                return
            self._taken.append(line)
            yield line

    def _bad(self, reason: str) -> BadText:
        self._again += reversed(self._taken[1:])
        return BadText(reason)
