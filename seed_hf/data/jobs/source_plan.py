"""Which rows of a source a process reads, in which order and for which shard."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

from seed_hf.data.sources.filters import RowFilters
from seed_hf.data.sources.listed import JobSource
from seed_hf.data.sources.row_checks import judge_caption
from seed_hf.data.sources.source_row import SourceRow

from .changed_rows import check_rows
from .settings import JobSettings
from .shard_folder import ShardFolder, ShardRows


_CHUNK = 16  # images that go to a worker at once


@dataclass
class Chunk:
    """Neighbouring rows of one shard, on their way through the workers.

    Args:
        shard: The shard that they belong to.
        rows: The rows, without their images.
        read: Rows read from the source, including those that were dropped for their caption.
        dropped: How many rows each filter dropped.
        ends_shard: Whether this is the last chunk of its shard.
    """

    shard: ShardRows
    rows: list[SourceRow]
    read: int
    dropped: Counter
    ends_shard: bool = False

    def __str__(self) -> str:
        if not self.rows:
            return self.shard.account["source"]
        return f"{self.shard.account['source']}, rows {self.rows[0].row} to {self.rows[-1].row}"


class SourcePlan:
    """The rows that one process reads, among those that share a source.

    Every part is cut into ranges of `rows_per_shard` rows, one shard each. The processes share out the shards by
    number, without talking to each other.

    Args:
        source: What is read.
        folder: Where the shards go; those that are finished there are passed over.
        filters: Rows to leave out by their caption.
        settings: Gives `rows_per_shard`, `rank` and `world_size`.

    Raises:
        ValueError: The rows of a shard that is finished were changed since.
    """

    def __init__(self, source: JobSource, folder: ShardFolder, filters: RowFilters, settings: JobSettings):
        self.source, self.folder, self.filters = source, folder, filters
        self.size, self.rank, self.world_size = settings.rows_per_shard, settings.rank, settings.world_size
        # A seekable source is shared out by shards, others by whole files if there are enough of them.
        self.by_part = not source.seekable and len(source) >= self.world_size
        self._stamp = cache(source.stamp)
        finished = [(part, i) for part, i in folder.shards() if part < len(source) and self.is_mine(part, i)]
        check_rows(source, filters, folder, finished, self._stamp)

    def is_mine(self, part: int, index: int) -> bool:
        """Whether this process makes shard `index` of a part."""
        return (part if self.by_part else part + index) % self.world_size == self.rank

    def is_wanted(self, part: int, index: int) -> bool:
        """Whether this process makes the shard and it is not finished."""
        return self.is_mine(part, index) and self.folder.account(part, index) is None

    def chunks(self) -> Iterator[tuple[Chunk, list]]:
        """Pairs of rows and their encoded images, for the workers."""
        for part in range(len(self.source)):
            if self.by_part and not self.is_mine(part, 0):
                continue
            self._stamp(part)  # taken before anything is read
            length = self.source.length(part)
            yield from self._unmeasured(part) if length is None else self._measured(part, length)

    def _measured(self, part: int, length: int) -> Iterator[tuple[Chunk, list]]:
        """The chunks of a part whose length is known."""
        for index in range(max(1, -(-length // self.size))):
            if self.is_wanted(part, index):
                rows = self.source.rows(part, index * self.size, min((index + 1) * self.size, length))
                yield from self._shard(part, index, rows, lambda end: end == length)

    def _unmeasured(self, part: int) -> Iterator[tuple[Chunk, list]]:
        """The chunks of a part whose length is not known before it has been read."""
        index = 0
        while not self.is_wanted(part, index):
            account = self.folder.account(part, index)
            if account is not None and account["last"]:
                return
            if account is None and self._ends_before(part, index):
                return
            index += 1
        rows = _Peekable(self.source.rows(part, index * self.size))
        while rows or index == 0:  # an empty part is one empty shard
            if self.is_wanted(part, index):
                yield from self._shard(part, index, rows.take(self.size), lambda end: not rows)
            else:
                for _ in rows.take(self.size):
                    pass
            index += 1
            if not rows:
                return

    def _ends_before(self, part: int, index: int) -> bool:
        return any(
            account["last"] for earlier in range(index) if (account := self.folder.account(part, earlier)) is not None
        )

    def _shard(
        self, part: int, index: int, rows: Iterator[SourceRow], ends_part: Callable[[int], bool]
    ) -> Iterator[tuple[Chunk, list]]:
        """The chunks of one shard. `ends_part` says, once they are read, whether the part ends at a row."""
        self.folder.reopen()
        shard = ShardRows(part, index)
        shard.account = {"part": part, "source": self.source.part_name(part), "dropped": {}, "bad": []}
        shard.account["stamp"] = self._stamp(part)
        chunk, images = Chunk(shard, [], 0, Counter()), []
        end = index * self.size
        for row in rows:
            end += 1
            chunk.read += 1
            rejection = judge_caption(row, self.filters, self.source.captions)
            shard.digest.add_texts(row, rejection.reason if rejection else None)
            if not self.source.in_stamp(row.image):
                shard.account["stamp"] = None
            if rejection is not None and not rejection.bad:
                chunk.dropped[rejection.reason] += 1
            else:
                images.append(rejection or row.image)  # bad rows pass through, and are reported in their order
                row.image = None
                chunk.rows.append(row)
            if len(images) == _CHUNK:
                yield chunk, images
                chunk, images = Chunk(shard, [], 0, Counter()), []
        chunk.ends_shard = True
        shard.account["rows"] = [index * self.size, end]
        shard.account["last"] = ends_part(end)
        yield chunk, images


class _Peekable:
    """An iterator that is false once it has no more rows."""

    def __init__(self, rows: Iterator):
        self._rows = iter(rows)
        self._next = next(self._rows, None)

    def __bool__(self) -> bool:
        return self._next is not None

    def take(self, count: int) -> Iterator:
        """The next `count` rows, or fewer at the end."""
        while count and self._next is not None:
            row, self._next = self._next, next(self._rows, None)
            count -= 1
            yield row
