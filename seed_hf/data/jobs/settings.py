"""The settings that every job over a source has in common."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from seed_hf.data.sources.row_checks import check_on_error
from seed_hf.threads import available_cores


if TYPE_CHECKING:
    from seed_hf.data.sources.filters import RowFilters
    from seed_hf.modeling.image_processing_seed import SeedImageProcessor


def _cpu_cores() -> int:
    """The CPU cores that this process may use, divided among torchrun's processes on this machine."""
    return max(1, available_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))


@dataclass(kw_only=True)
class JobSettings:
    """How a job reads, decodes, computes and stores. Jobs take the fields by name.

    Args:
        image_processor: Its image size must be the tokenizer's. By default CLIP's mean and standard deviation at the
            tokenizer's size.
        batch_size: Images computed at once.
        workers: Processes that decode; 0 decodes in this one. By default one for each CPU core of this process.
        rows_per_shard: Rows of the source for each shard.
        on_error: "skip" bad images and report them, or "raise".
        filters: Rows to leave out. By default those without a caption, if the source has captions.
        rank, world_size: The number of this process and how many there are; by default the variables `RANK` and
            `WORLD_SIZE` that torchrun sets. All write into the same folder.

    Raises:
        ValueError: A value is not allowed.
    """

    image_processor: SeedImageProcessor | None = None
    batch_size: int = 64
    workers: int = field(default_factory=_cpu_cores)
    rows_per_shard: int = 4096
    on_error: str = "skip"
    filters: RowFilters | None = None
    rank: int = field(default_factory=lambda: int(os.environ.get("RANK", 0)))
    world_size: int = field(default_factory=lambda: int(os.environ.get("WORLD_SIZE", 1)))

    def __post_init__(self):
        check_on_error(self.on_error)
        for name, least in (("batch_size", 1), ("workers", 0), ("rows_per_shard", 1), ("world_size", 1)):
            if (value := getattr(self, name)) < least:
                raise ValueError(f"{name} must be at least {least}, got {value}.")
        if not 0 <= self.rank < self.world_size:
            raise ValueError(f"rank must be in 0..{self.world_size - 1}, got {self.rank}.")

    @classmethod
    def of(cls, options: dict[str, Any], **defaults: Any) -> JobSettings:
        """The settings of a job.

        Args:
            options: What the job was given, by the names of the fields; `None` stands for the default.
            defaults: The job's own.

        Raises:
            ValueError: A value is not allowed.
            TypeError: There is no such field.
        """
        known = cls.__dataclass_fields__
        given = {name: value for name, value in options.items() if value is not None or name not in known}
        return cls(**defaults | given)
