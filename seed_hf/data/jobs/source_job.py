"""A job over the pictures of a source that may be killed at any moment: decode, compute, write shards.

Worker processes decode, this process computes, a thread writes. The source is cut into fixed ranges of rows, one
shard each; processes share the shards out among themselves by number, without talking to each other.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

from seed_hf.data.sources.filters import RowFilters
from seed_hf.data.sources.image_text import ON_ERROR
from seed_hf.data.sources.source import ImageTextSource, SourceRow
from seed_hf.images import SeedImageError
from seed_hf.modeling.image_processing_seed import SeedImageProcessor
from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer

from .decoding import DecodingPool
from .job_lock import JobLock
from .pixel_values import default_image_processor, picture_decoder, processor_settings
from .shard_folder import ShardFolder, ShardRows
from .shard_writer import ShardWriter
from .source_plan import Chunk, SourcePlan


# pixels uint8 (batch, 3, height, width) on the tokenizer's device, part of the source, rows -> tensors (batch, ...)
Compute = Callable[[torch.Tensor, int, list[SourceRow]], dict[str, torch.Tensor]]


class SourceJob:
    """One pass over a source, of this process among those that share it. Making one checks it and writes nothing.

    Args:
        source: From `open_source`.
        tokenizer: Whose picture size and device are used.
        out: Folder to write.
        image_processor: Of the tokenizer's picture size, by default CLIP's mean and standard deviation.
        batch_size: Pictures computed at once.
        workers: Processes that decode; 0 decodes in this one. By default one for each CPU core of this process.
        rows_per_shard: Rows of the source for each shard.
        on_error: "skip" bad pictures and report them, or "raise".
        filters: Rows to leave out. By default those without a caption, if the source has captions.
        rank, world_size: Of this process; by default from the variables `RANK` and `WORLD_SIZE` that torchrun sets.

    Raises:
        ValueError: Impossible arguments.
    """

    def __init__(
        self,
        source: ImageTextSource,
        tokenizer: SeedTokenizer,
        out: str | os.PathLike,
        *,
        image_processor: SeedImageProcessor | None,
        batch_size: int,
        workers: int | None,
        rows_per_shard: int,
        on_error: str,
        filters: RowFilters | None,
        rank: int | None,
        world_size: int | None,
    ):
        self.source, self.tokenizer = source, tokenizer
        self.rank = int(os.environ.get("RANK", 0)) if rank is None else rank
        self.world_size = int(os.environ.get("WORLD_SIZE", 1)) if world_size is None else world_size
        self.filters = filters or RowFilters(empty_captions=not source.captions)
        self.processor = image_processor or default_image_processor(tokenizer)
        self.workers = _default_workers() if workers is None else workers
        self.batch_size, self.rows_per_shard, self.on_error = batch_size, rows_per_shard, on_error
        self._check()
        self._decoder = picture_decoder(tokenizer, self.processor, self.filters)
        self.out = Path(out).resolve()
        if source.folder and Path(source.folder) in (self.out, *self.out.parents):
            raise ValueError(
                f"{self.out} lies in the source {source.folder}, which it would change. Choose another folder."
            )
        self._pixels: list[np.ndarray] = []  # good pictures and their rows, until there are enough for a batch
        self._rows: list[SourceRow] = []

    def settings(self, **more) -> dict:
        """What of the job decides the results, for the manifest."""
        return {
            "rows_per_shard": self.rows_per_shard,
            "batch_size": self.batch_size,
            **more,
            "image_processor": processor_settings(self.processor),
            "filters": self.filters.as_dict(),
        }

    def run(self, folder: ShardFolder, identity: dict, compute: Compute, description: str) -> dict:
        """Go through what is not finished in the folder.

        Args:
            folder: In `out`.
            identity: What the folder is made of; a folder that was begun with another is refused.
            compute: From a batch to its tensors; called without gradients.
            description: For the progress bar.

        Returns:
            The manifest; its `complete` is `False` while other processes are still at work.

        Raises:
            ValueError: The folder was begun with something else; a file of the source cannot be read;
                `SeedImageError` for a bad picture, if `on_error` is "raise".
            BlockingIOError: Another process is writing into the folder with this rank.
            OSError: The disk is full or cannot be written. What is finished stays, nothing half-written does.
            RuntimeError: The decoding processes do not start.
        """
        self.tokenizer.eval()
        with JobLock(folder.job, self.rank, self.world_size):
            folder.begin(identity)
            plan = SourcePlan(self.source, folder, self.rows_per_shard, self.filters, self.rank, self.world_size)
            folder.remove_unfinished(plan.is_mine)
            with (
                DecodingPool(self._decoder, self.workers) as pool,
                ShardWriter(folder) as writer,
                tqdm(unit=" rows", desc=description) as progress,
            ):
                for chunk, pixels, outcomes in pool.map(plan.chunks()):
                    self._take(chunk, pixels, outcomes, compute, writer)
                    progress.update(chunk.read)
            return folder.finish(len(self.source))

    def _take(self, chunk: Chunk, pixels: np.ndarray, outcomes: list, compute: Compute, writer: ShardWriter) -> None:
        """A batch never spans two shards, so it is always the same."""
        shard, good = chunk.shard, []
        dropped = Counter(shard.account["dropped"]) + chunk.dropped
        for row, outcome in zip(chunk.rows, outcomes):
            if outcome is None:
                good.append(row)
            elif not outcome.bad:
                dropped[outcome.reason] += 1
            elif self.on_error == "raise":
                raise SeedImageError(f"{row.file}, row {row.row} (id {row.id}): {outcome.reason}")
            else:
                bad = {"file": row.file, "row": row.row, "id": row.id, "reason": outcome.reason}
                shard.account["bad"].append(bad)
        shard.account["dropped"] = dict(dropped)
        shard.rows += good
        self._rows += good
        self._pixels.append(pixels)
        size = self.batch_size
        while len(self._rows) >= size or (chunk.end is not None and self._rows):
            waiting = np.concatenate(self._pixels)
            self._compute(shard, waiting[:size], self._rows[:size], compute, writer)
            self._pixels, self._rows = [waiting[size:]], self._rows[size:]
        if chunk.end is not None:
            self._pixels = []
            writer.finish(shard)

    @torch.inference_mode()
    def _compute(self, shard: ShardRows, pixels: np.ndarray, rows: list[SourceRow], compute: Compute, writer) -> None:
        device = self.tokenizer.device
        values = torch.from_numpy(pixels)
        if device.type != "cuda":
            results = compute(values.to(device), shard.part, rows)
            writer.add(shard, {name: result.cpu() for name, result in results.items()})
            return
        results = compute(values.pin_memory().to(device, non_blocking=True), shard.part, rows)
        # The copy back runs while the next batch is prepared; the writer waits for it, we do not.
        host = {name: torch.empty(x.shape, dtype=x.dtype, pin_memory=True) for name, x in results.items()}
        for name, result in results.items():
            host[name].copy_(result, non_blocking=True)
        ready = torch.cuda.Event()
        ready.record()
        writer.add(shard, host, ready)

    def _check(self) -> None:
        if self.on_error not in ON_ERROR:
            raise ValueError(f"on_error must be one of {', '.join(ON_ERROR)}, got {self.on_error!r}.")
        for name, least in (("batch_size", 1), ("workers", 0), ("rows_per_shard", 1), ("world_size", 1)):
            if (value := getattr(self, name)) < least:
                raise ValueError(f"{name} must be at least {least}, got {value}.")
        if not 0 <= self.rank < self.world_size:
            raise ValueError(f"rank must be in 0..{self.world_size - 1}, got {self.rank}.")


def _default_workers() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))
