"""A stream of rows as the trainers read it."""

import logging
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from torch.utils.data import IterableDataset


logger = logging.getLogger(__name__)


class Stream(IterableDataset):
    """The rows of a stream, in whole batches if asked for.

    transformers ignores `dataloader_drop_last` for a stream, and accelerate gives each process some of a `datasets`
    stream's files, of which one process has more batches than another. Of this class accelerate gives each process
    its part of every batch. So several processes train on the batches of one, and `multiple_of` works.

    Args:
        rows: The stream. Its `set_epoch`, if it has one, is called before each pass.
        multiple_of: Leave out the rows at the end of a pass that do not fill such a group. Each loader process (whose
            rows are a stream of their own) does so for itself. 1 leaves out none.
        evaluates: Of an evaluation: how many rows are left out is said, and a group that is the only one is kept.
    """

    def __init__(self, rows: Iterable[Any], multiple_of: int = 1, evaluates: bool = False):
        self.rows = rows
        self.multiple_of = multiple_of
        self.evaluates = evaluates

    def set_epoch(self, epoch: int) -> None:
        """Set the pass, on which the order of the rows may depend."""
        if hasattr(self.rows, "set_epoch"):
            self.rows.set_epoch(epoch)

    def __iter__(self) -> Iterator[Any]:
        rows, is_first = iter(self.rows), True
        while len(group := list(islice(rows, self.multiple_of))) == self.multiple_of:
            yield from group
            is_first = False
        if self.evaluates and is_first:
            yield from group
        elif self.evaluates and group:
            logger.info("Evaluation: left out the last %d rows, which do not fill a batch.", len(group))
