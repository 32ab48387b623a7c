"""Rows of WebDataset tars: neighbouring files whose names differ only in the ending are one row."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from itertools import islice
from typing import Any, Literal

from .columns import IMAGE_NAMES, ColumnChoice, Columns, column_of
from .remote import is_remote, open_binary
from .source_row import SourceRow, source_row
from .text import BadText, read_text


_SAMPLES_LOOKED_AT = 8  # to find the columns


def tar_columns(path: str) -> list[str]:
    """The file endings of the first samples, and the fields of their JSON files; `ValueError` if it is damaged."""
    names = {}
    looked_at = 0
    for _, sample in _samples(path):
        names.update(dict.fromkeys(sample))
        for ending, data in sample.items():
            if not ending.endswith("json"):
                continue
            fields = read_text(data, ending)
            if isinstance(fields, dict):
                names.update(dict.fromkeys(f"{ending}.{field}" for field in fields))
            elif isinstance(fields, BadText):
                looked_at -= 1  # a bad row shows nothing
        looked_at += 1
        if looked_at == _SAMPLES_LOOKED_AT:
            break
    return list(names)


def tar_rows(path: str, name: str, choice: ColumnChoice, start: int, stop: int | None) -> Iterator[SourceRow]:
    """Rows `start` to `stop` (exclusive; `None`: to the end) of a tar.

    Args:
        path: The file or its URL.
        name: The file's name in reports.
        choice: Which columns, that is file endings, to read.
        start, stop: The range of rows. What comes before `start` is passed over without being read.

    Raises:
        ValueError: The file is damaged or lacks the columns.
    """
    present = tar_columns(path)
    if not present:
        return
    columns = choice.find(present, path)
    samples = islice(_samples(path, start), None if stop is None else stop - start)
    for number, (key, sample) in enumerate(samples, start):
        here = columns
        if columns.image not in sample and choice.image is None:
            # The ending was found, not chosen: a .png among .jpg files is as good.
            here = columns._replace(image=next((ending for ending in sample if ending in IMAGE_NAMES), None))
        values = _values(sample, here)
        yield source_row(number, values, here, default_id=key, file=f"{name}/{key}.{here.image}")


def _samples(path: str, start: int = 0) -> Iterator[tuple[str, dict[str, bytes]]]:
    """(key, contents by ending) of the samples from `start` on.

    This is not datasets' own reader, because that one has a trap: if the working directory holds a file with the name
    of a sample's file, it reads that file instead of the one in the tar.
    """
    import tarfile

    mode: Literal["r|*", "r:*"] = "r|*" if is_remote(path) else "r:*"
    try:
        with open_binary(path) as file, tarfile.open(fileobj=file, mode=mode) as tar:
            count, current = -1, ""  # no key is empty
            sample: dict[str, bytes] = {}
            while (member := tar.next()) is not None:
                # Else tarfile keeps the headers of all files that it has passed.
                tar.members = []  # type: ignore[attr-defined]
                folder, _, name = member.name.rpartition("/")
                stem, dot, ending = name.partition(".")
                if not member.isfile() or not stem or not dot or name.startswith("__"):
                    continue
                key = f"{folder}/{stem}" if folder else stem
                if key != current:
                    if sample:
                        yield current, sample
                    count, current, sample = count + 1, key, {}
                if count >= start:
                    content = tar.extractfile(member)
                    assert content is not None  # it is a file
                    sample[ending.lower()] = content.read()
            if sample:
                yield current, sample
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path}: not an intact tar file ({error}).") from error


def _values(sample: dict[str, bytes], columns: Columns) -> dict:
    """The value of each column of a sample: texts and JSON decoded, the image as it is."""
    values: dict[str, Any] = {} if columns.image is None else {columns.image: sample.get(columns.image)}
    for name in (columns.caption, columns.id):
        column = column_of(name, sample) if name else None
        if column in sample and column not in values:
            values[column] = read_text(sample[column], column)
    return values
