"""`image_text_dataset`: images with captions from any source, as a streaming dataset for training."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from .filters import RowFilters
from .row_checks import RowReport, bad_row_error, check_on_error, judge_caption, judge_image
from .source import ImageTextSource, open_source
from .source_row import Rejection


if TYPE_CHECKING:
    from datasets import IterableDataset

logger = logging.getLogger(__name__)


def image_text_dataset(
    source: str | os.PathLike | list[str] | ImageTextSource,
    *,
    filters: RowFilters | None = None,
    on_error: str = "raise",
    report: RowReport | None = None,
    **columns,
) -> IterableDataset:
    """Stream images with captions.

    The result is a `datasets.IterableDataset` with one shard for each file of the source, so that `shuffle`,
    `split_dataset_by_node`, several loader processes and `state_dict` work as usual. It holds a few rows at a time,
    however many the source has. The collators add prompts and templates.

    Args:
        source: A folder of images with metadata, Parquet, WebDataset tars, or a Hub dataset: see `open_source`.
        filters: Rows to leave out. By default those without a caption.
        on_error: What to do about a missing or damaged image: "raise" or "skip".
        report: Counts what was read, kept, dropped and bad, in the process that reads. Loader processes have copies
            of their own; each logs its account at the end of a file.
        columns: `split`, `image_column`, `caption_column`, `id_column`, `captions`, `revision` of `open_source`.

    Returns:
        Rows with `id` (`str`), `image` (RGB `PIL.Image.Image`) and `caption` (`str`), or `captions` where the source
        has a list of them.

    Raises:
        ValueError, FileNotFoundError: As `open_source`. While reading, `SeedImageError` (a `ValueError`) for a bad
            image, with its file and row, if `on_error` is "raise".
    """
    from datasets import IterableDataset

    check_on_error(on_error)
    if not isinstance(source, ImageTextSource):
        source = open_source(source, **columns)
    elif columns:
        raise ValueError(f"The source is open already: pass {', '.join(columns)} to open_source instead.")
    settings = {
        "source": source,
        "filters": filters or RowFilters(empty_captions=not source.captions),
        "on_error": on_error,
        "report": report if report is not None else RowReport(),
    }
    return IterableDataset.from_generator(_rows, gen_kwargs={"parts": list(range(len(source))), **settings})


def _rows(
    parts: list[int], source: ImageTextSource, filters: RowFilters, on_error: str, report: RowReport
) -> Iterator[dict]:
    for part in parts:
        of_part = RowReport(max_bad=1)
        reports = (report, of_part)
        for row in source.rows(part):
            for account in reports:
                account.read += 1
            rejection = judge_caption(row, filters, source.captions)
            if rejection is None:
                image = judge_image(row.image, filters)
                rejection = image if isinstance(image, Rejection) else None
            if rejection is not None and rejection.bad and on_error == "raise":
                raise bad_row_error(row, rejection.reason)
            for account in reports:
                account.add(row, rejection)
            if rejection is None:
                caption = {"captions" if isinstance(row.caption, list) else "caption": row.caption}
                yield {"id": row.id, "image": image, **(caption if source.captions else {})}
        if of_part.read > of_part.kept:
            where = source.part_name(part)
            logger.warning("%s: %s", os.path.basename(source.files[part]) if where == "." else where, of_part)
