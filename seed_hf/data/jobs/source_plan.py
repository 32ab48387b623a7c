"""Which rows of a source a process reads, in which order and for which shard."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from seed_hf.data.sources.filters import RowDropped, RowFilters
from seed_hf.data.sources.source import ImageTextSource, SourceRow

from .shard_folder import ShardFolder, ShardRows


_CHUNK = 16  # pictures that go to a worker at once


@dataclass
class Chunk:
    """Neighbouring rows of one shard, on their way through the workers."""

    shard: ShardRows
    rows: list[SourceRow]  # without their pictures
    read: int  # rows of the source, those included that went no further
    dropped: Counter
    end: int | None = None  # with the last chunk of a shard: the row after its last
    last: bool = False  # and whether it is the last shard of its part


class SourcePlan:
    """The rows of one process among those that share a source: every part is cut into ranges of `rows_per_shard`
    rows, one shard each, which the processes share out by number, without talking to each other.

    Args:
        source: What is read.
        folder: Where the shards go; those that are finished there are passed over.
        rows_per_shard: Rows of the source for each shard.
        filters: Rows to leave out by their caption.
        rank, world_size: Of this process.
    """

    def __init__(
        self,
        source: ImageTextSource,
        folder: ShardFolder,
        rows_per_shard: int,
        filters: RowFilters,
        rank: int,
        world_size: int,
    ):
        self.source, self.folder, self.size, self.filters = source, folder, rows_per_shard, filters
        self.rank, self.world_size = rank, world_size
        # Where rows can be passed over for nothing, shards go round; otherwise whole files do, if they are enough.
        self.by_part = not source.seekable and len(source) >= world_size

    def is_mine(self, part: int, index: int) -> bool:
        return (part if self.by_part else part + index) % self.world_size == self.rank

    def is_wanted(self, part: int, index: int) -> bool:
        return self.is_mine(part, index) and self.folder.account(part, index) is None

    def chunks(self) -> Iterator[tuple[Chunk, list]]:
        """(rows, their encoded pictures), for the workers."""
        for part in range(len(self.source)):
            if self.by_part and not self.is_mine(part, 0):
                continue
            if (length := self.source.length(part)) is not None:
                for index in range(max(1, -(-length // self.size))):
                    if self.is_wanted(part, index):
                        first, stop = index * self.size, min((index + 1) * self.size, length)
                        yield from self._shard(part, index, self.source.rows(part, first, stop), stop == length)
            else:
                yield from self._unmeasured(part)

    def _unmeasured(self, part: int) -> Iterator[tuple[Chunk, list]]:
        """Of a part whose end only reading shows."""
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
                yield from self._shard(part, index, rows.take(self.size), rows)
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

    def _shard(self, part: int, index: int, rows: Iterator[SourceRow], last) -> Iterator[tuple[Chunk, list]]:
        """`last`: whether the part ends here, or the rows that would come next."""
        shard = ShardRows(part, index)
        shard.account = {"part": part, "source": self.source.part_name(part), "dropped": {}, "bad": []}
        chunk, images = Chunk(shard, [], 0, Counter()), []
        end = index * self.size
        for row in rows:
            end += 1
            chunk.read += 1
            try:
                if self.source.captions:
                    self.filters.check_caption(row.caption)
            except RowDropped as dropped:
                chunk.dropped[str(dropped)] += 1
            else:
                images.append(row.image)
                row.image = None
                chunk.rows.append(row)
            if len(images) == _CHUNK:
                yield chunk, images
                chunk, images = Chunk(shard, [], 0, Counter()), []
        chunk.end, chunk.last = end, last if isinstance(last, bool) else not last
        shard.account["rows"] = [index * self.size, end]
        shard.account["last"] = chunk.last
        yield chunk, images


class _Peekable:
    """An iterator that is false once it has nothing more."""

    def __init__(self, rows: Iterator):
        self._rows = iter(rows)
        self._next = next(self._rows, None)

    def __bool__(self) -> bool:
        return self._next is not None

    def take(self, count: int) -> Iterator:
        while count and self._next is not None:
            row, self._next = self._next, next(self._rows, None)
            count -= 1
            yield row
