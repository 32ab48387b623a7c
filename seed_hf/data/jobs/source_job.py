"""A job over the rows of a source that may be killed at any moment: decode, compute, write shards.

Worker processes decode, this process computes, a thread writes. The source is cut into fixed ranges of rows, one
shard each. Processes share out the shards by number, without talking to each other.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from seed_hf.data.sources.filters import RowFilters
from seed_hf.data.sources.listed import JobSource
from seed_hf.data.sources.row_checks import bad_row_entry, bad_row_error
from seed_hf.data.sources.source_row import SourceRow
from seed_hf.modeling.image_processing_seed import SeedImageProcessor
from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer

from .decoding import Decoded, DecodingPool, no_images
from .job_lock import JobLock
from .pixel_values import image_decoder, processor_settings
from .settings import JobSettings
from .shard_folder import ShardFolder, ShardRows
from .shard_writer import ShardWriter
from .source_plan import Chunk, SourcePlan


# pixels uint8 (batch, 3, height, width) on the tokenizer's device, part of the source, rows -> for each name a tensor
# (batch, ...), or a list of what JSON can hold. Rows without images have pixels (batch, 0).
Compute = Callable[[torch.Tensor, int, list[SourceRow]], dict[str, Any]]


class SourceJob:
    """One pass over a source by this process, one of those that share it. Creating a job checks it and writes nothing.

    Args:
        source: From `open_source`, or of `seed_hf.data.sources.listed`.
        tokenizer: Its image size and device are used.
        out: Folder to write.
        settings: How to read, decode, compute and store.

    Raises:
        ValueError: The image processor does not fit the tokenizer, or `out` lies in the source.
    """

    def __init__(
        self,
        source: JobSource,
        tokenizer: SeedTokenizer,
        out: str | os.PathLike,
        settings: JobSettings,
    ):
        self.source, self.tokenizer, self.settings = source, tokenizer, settings
        self.filters = settings.filters or RowFilters(empty_captions=not source.captions)
        self.processor = settings.image_processor or SeedImageProcessor.for_tokenizer(tokenizer.config)
        self._decoder = image_decoder(tokenizer, self.processor, self.filters) if source.images else no_images
        self.out = Path(out).resolve()
        if source.folder and Path(source.folder) in (self.out, *self.out.parents):
            raise ValueError(
                f"{self.out} lies in the source {source.folder}, which it would change. Choose another folder."
            )
        self._pixels: list[np.ndarray] = []  # good images and their rows, until there are enough for a batch
        self._rows: list[SourceRow] = []

    def settings_of_results(self, **more) -> dict:
        """The settings that the results depend on, for the manifest; `more` are those of the kind of job."""
        return {
            "rows_per_shard": self.settings.rows_per_shard,
            "batch_size": self.settings.batch_size,
            **more,
            "image_processor": processor_settings(self.processor),
            "filters": self.filters.as_dict(),
        }

    def run(self, folder: ShardFolder, identity: dict, compute: Compute, description: str) -> dict:
        """Compute and write every shard of this process that is not finished in the folder.

        Args:
            folder: In `out`.
            identity: What the results depend on; a folder that was begun with another identity is refused.
            compute: From a batch to its tensors; called without gradients.
            description: For the progress bar.

        Returns:
            The manifest; its `complete` is `False` while other processes are still at work.

        Raises:
            ValueError: The folder was begun with something else; a file of the source cannot be read;
                `SeedImageError` for a bad image, if `on_error` is "raise".
            BlockingIOError: Another process is writing into the folder with this rank.
            OSError: The disk is full or cannot be written. Finished shards stay; nothing half-written does.
                `ShortageError` where images cannot be read for lack of memory, open files or the like, and
                `ChildProcessError` where decoding processes are killed from outside: the next start goes on.
            RuntimeError: The decoding processes do not start.
        """
        self.tokenizer.eval()
        settings = self.settings
        with JobLock(folder.job, settings.rank, settings.world_size):
            folder.begin(identity)
            plan = SourcePlan(self.source, folder, self.filters, settings)
            folder.remove_unfinished(plan.is_mine)
            with (
                DecodingPool(self._decoder, settings.workers if self.source.images else 0) as pool,
                ShardWriter(folder) as writer,
                tqdm(unit=" rows", desc=description) as progress,
            ):
                for chunk, decoded in pool.map(plan.chunks()):
                    self._take(chunk, decoded, compute, writer)
                    progress.update(chunk.read)
            return folder.finish(len(self.source))

    def _take(self, chunk: Chunk, decoded: Decoded, compute: Compute, writer: ShardWriter) -> None:
        """Count the rows of a chunk and compute whole batches. A batch never spans two shards."""
        shard, good = chunk.shard, []
        dropped = Counter(shard.account["dropped"]) + chunk.dropped
        for row, rejection in zip(chunk.rows, decoded.rejections):
            if rejection is None:
                good.append(row)
            elif not rejection.bad:
                dropped[rejection.reason] += 1
            elif self.settings.on_error == "raise":
                raise bad_row_error(row, rejection.reason)
            else:
                shard.account["bad"].append(bad_row_entry(row, rejection.reason))
        shard.account["dropped"] = dict(dropped)
        for digest in decoded.digests:
            shard.digest.add_image(digest)
        shard.rows += good
        self._rows += good
        self._pixels.append(decoded.pixels)
        size = self.settings.batch_size
        while len(self._rows) >= size or (chunk.ends_shard and self._rows):
            waiting = np.concatenate(self._pixels)
            self._compute(shard, waiting[:size], self._rows[:size], compute, writer)
            self._pixels, self._rows = [waiting[size:]], self._rows[size:]
        if chunk.ends_shard:
            self._pixels = []
            writer.finish(shard)

    @torch.inference_mode()
    def _compute(self, shard: ShardRows, pixels: np.ndarray, rows: list[SourceRow], compute: Compute, writer) -> None:
        device = self.tokenizer.device
        values = torch.from_numpy(pixels)
        if device.type != "cuda":
            results = compute(values.to(device), shard.part, rows)
            writer.add(shard, {name: _on_cpu(result) for name, result in results.items()})
            return
        results = compute(values.pin_memory().to(device, non_blocking=True), shard.part, rows)
        # The copy to the host runs while the next batch is prepared; only the writer waits for it.
        host = {name: _room_for(result) for name, result in results.items()}
        for name, result in results.items():
            if isinstance(result, torch.Tensor):
                host[name].copy_(result, non_blocking=True)
        ready = torch.cuda.Event()
        ready.record(torch.cuda.current_stream(device))  # of the copies; the current device may be another
        writer.add(shard, host, ready)


def _on_cpu(result: Any) -> Any:
    return result.cpu() if isinstance(result, torch.Tensor) else result


def _room_for(result: Any) -> Any:
    """On the host for a tensor; a list is there already."""
    return (
        torch.empty(result.shape, dtype=result.dtype, pin_memory=True) if isinstance(result, torch.Tensor) else result
    )
