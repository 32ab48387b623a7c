"""Parquet files of rows to evaluate on: their columns, and their rows one by one."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any


_ROWS_AT_ONCE = 64  # with their images


def has_columns(path: str | Path, names: Collection[str]) -> bool:
    """Whether this is a Parquet file with these columns.

    Args:
        path: A file, or something else.
        names: Of the columns.
    """
    file = Path(path)
    if file.suffix.lower() != ".parquet" or not file.is_file():
        return False
    import pyarrow.parquet as pq

    try:
        return set(names) <= set(pq.read_schema(file).names)
    except (ValueError, OSError):
        return False


def table_rows(file: Path, columns: Collection[str] | None = None) -> Iterator[dict[str, Any]]:
    """The rows of a Parquet file, some in memory at a time.

    Args:
        file: To read.
        columns: Those that are read, if they are there; `None` for all.
    """
    import pyarrow.parquet as pq

    with pq.ParquetFile(file) as table:
        names = [name for name in table.schema_arrow.names if columns is None or name in columns]
        for batch in table.iter_batches(_ROWS_AT_ONCE, columns=names):
            yield from batch.to_pylist()
