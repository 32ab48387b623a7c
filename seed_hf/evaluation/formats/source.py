"""Rows of any source of images with captions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from seed_hf.evaluation.rows import EvaluationData, EvaluationRow, Reread

from .annotation_files import with_words


def source_data(source: Any, split: str | None = None) -> EvaluationData:
    """The rows of an opened source: a folder of images, Parquet, WebDataset tars or a Hub dataset.

    Args:
        source: An `ImageTextSource`, from `open_source`.
        split: That chose among its files, for the result; `None` if it has none.
    """
    return EvaluationData(source.format, Reread(_rows, source), {"split": split, **source.identity()})


def _rows(source: Any) -> Iterator[EvaluationRow]:
    for part in range(len(source)):
        for row in source.rows(part):
            captions = with_words((row.caption,) if isinstance(row.caption, str) else row.caption or ())
            yield EvaluationRow(row.id, row.image, captions, fault=row.rejection.reason if row.rejection else "")
