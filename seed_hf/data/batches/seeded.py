"""What both collators share: random choices that a resume repeats."""

import random
import zlib

import torch


class SeededCollator:
    """A collator whose random choices depend on the seed, the epoch and the row, and on nothing else.

    So they are the same for any number of loader processes, any batch size, and after a resume; and they differ from
    epoch to epoch. The epoch sits in shared memory: workers that outlive an epoch see the new number.
    """

    def __init__(self, seed: int):
        self.seed = seed
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        self._epoch.fill_(epoch)

    def generator(self, *content: bytes) -> random.Random:
        """A generator for the row (or batch) that these bytes tell apart from the others."""
        key = 0
        for part in content:
            key = zlib.crc32(part, key)
        return random.Random(f"{self.seed}/{self._epoch.item()}/{key}")
