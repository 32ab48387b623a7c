"""Rows of any source of images with captions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from seed_hf.evaluation.rows import EvaluationData, EvaluationRow


def source_data(source: Any, split: str | None = None) -> EvaluationData:
    """The rows of an opened source: a folder of images, Parquet, WebDataset tars or a Hub dataset.

    Args:
        source: An `ImageTextSource`, from `open_source`.
        split: That chose among its files, for the result; `None` if it has none.
    """
    return EvaluationData(source.format, _SourceRows(source), {"split": split, **source.identity()})


class _SourceRows:
    def __init__(self, source: Any):
        self._source = source

    def __iter__(self) -> Iterator[EvaluationRow]:
        for part in range(len(self._source)):
            for row in self._source.rows(part):
                captions = (row.caption,) if isinstance(row.caption, str) else tuple(row.caption or ())
                captions = tuple(caption for caption in captions if caption.strip())
                fault = row.rejection.reason if row.rejection else ""
                yield EvaluationRow(row.id, row.image, captions, fault=fault)
