"""Whether the rows of finished shards still are what they were when the shards were made."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from itertools import groupby, islice

from seed_hf.data.sources.filters import RowFilters
from seed_hf.data.sources.fingerprint import RowsDigest, content_digest
from seed_hf.data.sources.listed import JobSource
from seed_hf.data.sources.row_checks import judge_caption

from .shard_folder import ShardFolder


logger = logging.getLogger(__name__)


def check_rows(
    source: JobSource,
    filters: RowFilters,
    folder: ShardFolder,
    shards: list[tuple[int, int]],
    stamp_of: Callable[[int], str | None],
) -> None:
    """Compare the rows of finished shards with their accounts. Rows of files that did not change are not read.

    Args:
        source: What is read.
        filters: Rows that were left out by their caption.
        folder: Where the shards are.
        shards: Part and index of each, in order.
        stamp_of: The stamp of a part, as `source.stamp` gives it.

    Raises:
        ValueError: Ids, captions or images were changed; the message says in which rows.
    """
    for part, of_part in groupby(shards, key=lambda shard: shard[0]):
        stamp = stamp_of(part)
        changed = {}
        for _, index in of_part:
            account = folder.account(part, index)
            if account is not None and (stamp is None or account["stamp"] != stamp):
                changed[index] = account
        if changed:
            logger.info("%s: reading the rows of finished shards again, to compare them.", source.part_name(part))
        digests = _digests(source, filters, part, [account["rows"] for account in changed.values()])
        for (index, account), (digest, in_stamp) in zip(changed.items(), digests):
            if digest != account["rows_sha256"]:
                _refuse(folder, account, digest)
            folder.stamp(part, index, stamp if in_stamp else None)


def _digests(
    source: JobSource, filters: RowFilters, part: int, ranges: list[list[int]]
) -> Iterator[tuple[dict[str, str], bool]]:
    """For each range of rows its digest, and whether a later change would show in the stamp of the part."""
    one_pass = None if source.seekable or not ranges else source.rows(part, ranges[0][0], ranges[-1][1])
    end = ranges[0][0] if ranges else 0
    for start, stop in ranges:
        if one_pass is None:
            rows = source.rows(part, start, stop)
        else:
            rows = islice(one_pass, start - end, stop - end)
        digest, in_stamp, end = RowsDigest(), True, stop
        for row in rows:
            rejection = judge_caption(row, filters, source.captions)
            digest.add_texts(row, rejection.reason if rejection else None)
            if rejection is None or rejection.bad:
                digest.add_image(content_digest(rejection or row.image))
                in_stamp &= source.in_stamp(row.image)
        yield digest.as_dict(), in_stamp


def _refuse(folder: ShardFolder, account: dict, found: dict[str, str]) -> None:
    what = [
        words
        for words, name in (("ids or captions", "texts"), ("images", "images"))
        if found[name] != account["rows_sha256"][name]
    ]
    first, end = account["rows"]
    raise ValueError(
        f"{folder.path} was begun with something else: in {account['source']}, rows {first} to {end - 1}, "
        f"{' and '.join(what)} were changed after they had been read. Choose another folder, or bring back what was "
        "there to go on."
    )
