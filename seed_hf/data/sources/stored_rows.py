"""Rows with all their columns, as JSON Lines, Parquet files and tars hold them, or as a dataset in memory has them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple

from .locating import Located
from .parquet import parquet_schema, parquet_values
from .remote import is_remote, open_binary
from .tars import is_image_ending, tar_values
from .text import BadText, json_objects, printable


class StoredRow(NamedTuple):
    """A row.

    Args:
        name: What messages call it: file and number.
        values: Of its columns, or why it cannot be read.
        folder: That relative paths of images start from; empty if there is none.
    """

    name: str
    values: Mapping[str, Any] | BadText
    folder: str = ""


def stored_rows(located: Located) -> Iterator[StoredRow]:
    """The rows of JSON Lines, Parquet files or tars, in their order.

    Args:
        located: What `locate_rows` gives, of the format "jsonl", "parquet" or "webdataset".

    Raises:
        ValueError: A file is damaged.
    """
    reader = {"jsonl": _json_lines, "parquet": _parquet, "webdataset": _tar}[located.format]
    for file in located.files:
        yield from reader(file)


def rows_in_memory(rows: Iterable[Any]) -> Iterator[StoredRow]:
    """The rows of a dataset, such as a `datasets.Dataset` or a list of mappings.

    Args:
        rows: In their order.
    """
    for number, row in enumerate(rows):
        values = row if isinstance(row, Mapping) else BadText("not a mapping from columns to values")
        yield StoredRow(f"row {number}", values)


def columns_of(located: Located) -> list[str]:
    """The columns of the first file of a source; of a tar, the fields of its JSON; of a folder of images, those of its
    `metadata.jsonl`.

    Args:
        located: What `locate_rows` gives.

    Raises:
        ValueError: The file is damaged.
    """
    if located.format == "parquet":
        return list(parquet_schema(located.files[0]).names)
    if located.format == "imagefolder":
        described = os.path.join(located.files[0], "metadata.jsonl")
        if not os.path.isfile(described):
            return []
        located = Located("jsonl", [described])
    first = islice(stored_rows(located), 8)
    return sorted({name for row in first if isinstance(row.values, Mapping) for name in row.values})


def _json_lines(path: str) -> Iterator[StoredRow]:
    folder = _folder_of(path)
    with open_binary(path) as file:
        for number, values in enumerate(json_objects(file)):
            yield StoredRow(f"{_short(path)}, row {number}", values, folder)


def _parquet(path: str) -> Iterator[StoredRow]:
    folder = _folder_of(path)
    for number, values in enumerate(parquet_values(path)):
        yield StoredRow(f"{_short(path)}, row {number}", values, folder)


def _tar(path: str) -> Iterator[StoredRow]:
    """The fields of a sample's JSON are its columns; its images, in the order of their endings, are `images`."""
    for key, sample in tar_values(path):
        name = f"{_short(path)}/{printable(key)}"
        images = [content for ending, content in sorted(sample.items()) if is_image_ending(ending)]
        fields = next((content for ending, content in sample.items() if ending.endswith("json")), None)
        bad = next((content for content in (fields, *images) if isinstance(content, BadText)), None)
        if bad is None and not isinstance(fields, Mapping):
            bad = BadText("no JSON object among the files of the sample")
        values = {**fields, **({"images": images} if images else {})} if isinstance(fields, Mapping) else {}
        yield StoredRow(name, bad or values)


def _folder_of(path: str) -> str:
    return "" if is_remote(path) else os.path.dirname(os.path.abspath(path))


def _short(path: str) -> str:
    return printable(os.path.basename(path) or path)
