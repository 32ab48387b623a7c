"""A stream of rows as the trainers read it."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from torch.utils.data import IterableDataset


class Stream(IterableDataset):
    """The rows of a stream, in whole batches if asked for.

    transformers ignores `dataloader_drop_last` for a stream, and accelerate gives each process some of a `datasets`
    stream's files, of which one process has more batches than another. Of this class accelerate gives each process
    its part of every batch. So several processes train on the batches of one, and `multiple_of` works.

    Args:
        rows: The stream. Its `set_epoch`, if it has one, is called before each pass.
        multiple_of: Leave out the rows at the end of a pass that do not fill such a group. Each loader process (whose
            rows are a stream of their own) does so for itself. 1 leaves out none.
    """

    def __init__(self, rows: Iterable[Any], multiple_of: int = 1):
        self.rows = rows
        self.multiple_of = multiple_of

    def set_epoch(self, epoch: int) -> None:
        """Set the pass, on which the order of the rows may depend."""
        if hasattr(self.rows, "set_epoch"):
            self.rows.set_epoch(epoch)

    def __iter__(self) -> Iterator[Any]:
        rows = iter(self.rows)
        while len(group := list(islice(rows, self.multiple_of))) == self.multiple_of:
            yield from group
