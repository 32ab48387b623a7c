"""The base of both collators: random choices that a resumed run repeats."""

import copy
import random
import zlib
from typing import Self

import torch


class SeededCollator:
    """A collator whose random choices depend on the seed, the epoch and the row, and on nothing else.

    So they are the same for any number of loader processes, any batch size, and after a resume. They differ between
    epochs. The epoch is in shared memory, so that persistent workers see it change.

    Args:
        seed: Of all choices.
    """

    def __init__(self, seed: int):
        self.seed = seed
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, in all loader processes."""
        self._epoch.fill_(epoch)

    def for_evaluation(self) -> Self:
        """A copy that makes the same choices in every pass, those of the first, so that evaluations compare."""
        other = copy.copy(self)
        other._epoch = torch.zeros((), dtype=torch.int64)
        return other

    def generator(self, *content: bytes) -> random.Random:
        """The generator of one row (or batch); its `content` distinguishes it from others."""
        key = 0
        for part in content:
            key = zlib.crc32(part, key)
        return random.Random(f"{self.seed}/{self._epoch.item()}/{key}")
