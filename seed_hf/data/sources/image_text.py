"""`image_text_dataset`: pictures with captions from anywhere, as a streaming dataset for training."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from seed_hf.images import SeedImageError

from .filters import RowDropped, RowFilters, RowReport, read_picture, reason_of
from .source import ImageTextSource, open_source


if TYPE_CHECKING:
    from datasets import IterableDataset

logger = logging.getLogger(__name__)
ON_ERROR = ("raise", "skip")


def image_text_dataset(
    source: str | os.PathLike | list[str] | ImageTextSource,
    *,
    filters: RowFilters | None = None,
    on_error: str = "raise",
    report: RowReport | None = None,
    **columns,
) -> IterableDataset:
    """Stream pictures with captions.

    It is a `datasets.IterableDataset` with one shard for each file of the source, so that `shuffle`,
    `split_dataset_by_node`, several loader processes and `state_dict` work as usual. It holds a few rows at a time,
    however many the source has. Prompts and templates are added by the collators.

    Args:
        source: A folder of pictures with metadata, Parquet, WebDataset tars, or a Hub dataset: see `open_source`.
        filters: Rows to leave out. By default those without a caption.
        on_error: What to do about a missing or damaged picture: "raise" or "skip".
        report: Counts what was read, kept, dropped and bad, in the process that reads. Loader processes have copies
            of their own; each logs its account at the end of a file.
        columns: `split`, `image_column`, `caption_column`, `id_column`, `captions`, `revision` of `open_source`.

    Returns:
        Rows with `id` (`str`), `image` (RGB `PIL.Image.Image`) and `caption` (`str`), or `captions` where the source
        has a list of them.

    Raises:
        ValueError, FileNotFoundError: As `open_source`. While reading, `SeedImageError` (a `ValueError`) for a bad
            picture, with its file and row, if `on_error` is "raise".
    """
    from datasets import IterableDataset

    if on_error not in ON_ERROR:
        raise ValueError(f"on_error must be one of {', '.join(ON_ERROR)}, got {on_error!r}.")
    if not isinstance(source, ImageTextSource):
        source = open_source(source, **columns)
    elif columns:
        raise ValueError(f"The source is open already: {', '.join(columns)} come too late.")
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
        here = RowReport(max_bad=1)
        for row in source.rows(part):
            for account in (report, here):
                account.read += 1
            try:
                if source.captions:
                    filters.check_caption(row.caption)
                image = read_picture(row.image, filters)
            except RowDropped as dropped:
                for account in (report, here):
                    account.dropped[str(dropped)] += 1
                continue
            except SeedImageError as error:
                if on_error == "raise":
                    raise SeedImageError(f"{row.file}, row {row.row} (id {row.id}): {reason_of(error)}") from error
                for account in (report, here):
                    account.add_bad(row, reason_of(error))
                continue
            for account in (report, here):
                account.kept += 1
            caption = {"captions" if isinstance(row.caption, list) else "caption": row.caption}
            yield {"id": row.id, "image": image, **(caption if source.captions else {})}
        if here.read > here.kept:
            logger.warning("%s: %s", source.part_name(part), here)
