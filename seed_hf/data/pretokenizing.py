"""`tokenize_images`: the codes of every picture of a source, in Parquet, by a job that may be killed at any moment.

Worker processes decode, this process encodes, a thread writes. The source is cut into fixed ranges of rows, one
shard each; processes share the shards out among themselves by number, without talking to each other.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

from seed_hf.images import SeedImageError
from seed_hf.modeling.image_processing_seed import SeedImageProcessor
from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer

from .code_shards import FORMAT, CodeFolder
from .code_writer import CodeWriter, ShardRows
from .decoding import DecodingPool, PictureDecoder
from .filters import RowDropped, RowFilters
from .image_text import ON_ERROR
from .job_lock import JobLock
from .sources import ImageTextSource, SourceRow


logger = logging.getLogger(__name__)
_CHUNK = 16  # pictures that go to a worker at once
# What `encode` runs through; the decoding half of a tokenizer may change without changing its codes.
_ENCODING = ("vision_model.", "query_tokens", "qformer.", "code_encoder.", "quantizer.")
# Settings that decide the codes and do not show in the shapes of the weights.
_SETTINGS = {
    "vision_config": ("image_size", "patch_size", "num_attention_heads", "hidden_act", "layer_norm_eps"),
    "qformer_config": ("num_attention_heads", "hidden_act", "layer_norm_eps", "cross_attention_frequency"),
}


@dataclass
class _Chunk:
    """Neighbouring rows of one shard, on their way through the workers."""

    shard: ShardRows
    rows: list[SourceRow]  # without their pictures
    read: int  # rows of the source, those included that went no further
    dropped: Counter
    end: int | None = None  # with the last chunk of a shard: the row after its last
    last: bool = False  # and whether it is the last shard of its part


def tokenize_images(
    source: ImageTextSource,
    tokenizer: SeedTokenizer,
    out: str | os.PathLike,
    *,
    image_processor: SeedImageProcessor | None = None,
    batch_size: int = 64,
    workers: int | None = None,
    rows_per_shard: int = 4096,
    on_error: str = "skip",
    filters: RowFilters | None = None,
    rank: int | None = None,
    world_size: int | None = None,
) -> dict:
    """Encode the pictures of a source into Parquet shards, going on where an earlier run of the same job ended.

    The shards (`OUT/codes-*.parquet`) have the columns `id`, `caption` (or `captions`, where the source has lists;
    or none) and `codes`, a fixed-size list of `num_query_tokens` uint16. They read back with
    `load_dataset("parquet", data_files="OUT/*.parquet")`. A shard holds the good rows of a fixed range of rows of one
    file of the source, so that a job that was killed and resumed, by as many processes as you like, gives the same
    shards as one that was not.

    Args:
        source: From `open_source`.
        tokenizer: On the device and in the number type to encode with.
        out: Folder to write; made if missing.
        image_processor: Of the tokenizer's picture size, by default CLIP's mean and standard deviation.
        batch_size: Pictures encoded at once.
        workers: Processes that decode; 0 decodes in this one. By default one for each CPU core of this process.
        rows_per_shard: Rows of the source for each shard.
        on_error: "skip" bad pictures and report them, or "raise".
        filters: Rows to leave out. By default those without a caption, if the source has captions.
        rank, world_size: Which of how many processes this is; by default from the variables `RANK` and `WORLD_SIZE`
            that torchrun sets. All write into the same folder.

    Returns:
        The manifest; its `complete` is `False` while other processes are still at work.

    Raises:
        ValueError: The folder was begun with another source, tokenizer or setting; impossible arguments; a file of
            the source cannot be read; `SeedImageError` for a bad picture, if `on_error` is "raise".
        BlockingIOError: Another process is writing into the folder with this rank.
        OSError: The disk is full or cannot be written. What is finished stays, nothing half-written does.
        RuntimeError: The decoding processes do not start.
    """
    rank = int(os.environ.get("RANK", 0)) if rank is None else rank
    world_size = int(os.environ.get("WORLD_SIZE", 1)) if world_size is None else world_size
    filters = filters or RowFilters(empty_captions=not source.captions)
    processor = image_processor or _default_processor(tokenizer)
    workers = _default_workers() if workers is None else workers
    _check(tokenizer, on_error, batch_size, workers, rows_per_shard, rank, world_size)
    decoder = _decoder(tokenizer, processor, filters)
    out = Path(out).resolve()
    if source.folder and Path(source.folder) in (out, *out.parents):
        raise ValueError(f"{out} lies in the source {source.folder}, which it would change. Choose another folder.")
    identity = {
        "format": FORMAT,
        "source": source.identity(),
        "tokenizer": {
            "sha256": tokenizer_fingerprint(tokenizer),
            "codebook_size": tokenizer.config.codebook_size,
            "num_query_tokens": tokenizer.config.num_query_tokens,
        },
        "settings": {
            "rows_per_shard": rows_per_shard,
            "batch_size": batch_size,
            "dtype": str(tokenizer.dtype).removeprefix("torch."),
            "image_processor": _processor_settings(processor),
            "filters": filters.as_dict(),
        },
    }
    folder = CodeFolder(out)
    with JobLock(folder.job, rank, world_size):
        folder.begin(identity)
        plan = _Plan(source, folder, rows_per_shard, filters, rank, world_size)
        folder.remove_unfinished(plan.is_mine)
        job = _Job(tokenizer, processor, batch_size, on_error)
        caption_column = _caption_column(source)
        with (
            DecodingPool(decoder, workers) as pool,
            CodeWriter(folder, tokenizer.config.num_query_tokens, caption_column) as writer,
            tqdm(unit=" rows", desc="tokenizing") as progress,
        ):
            for chunk, pixels, outcomes in pool.map(plan.chunks()):
                job.take(chunk, pixels, outcomes, writer)
                progress.update(chunk.read)
        manifest = folder.finish(len(source))
    return manifest


class _Plan:
    """Which rows this process reads, in which order and for which shard."""

    def __init__(self, source: ImageTextSource, folder: CodeFolder, rows_per_shard, filters, rank, world_size):
        self.source, self.folder, self.size, self.filters = source, folder, rows_per_shard, filters
        self.rank, self.world_size = rank, world_size
        # Where rows can be passed over for nothing, shards go round; otherwise whole files do, if they are enough.
        self.by_part = not source.seekable and len(source) >= world_size

    def is_mine(self, part: int, index: int) -> bool:
        return (part if self.by_part else part + index) % self.world_size == self.rank

    def is_wanted(self, part: int, index: int) -> bool:
        return self.is_mine(part, index) and self.folder.account(part, index) is None

    def chunks(self) -> Iterator[tuple[_Chunk, list]]:
        """(rows, their encoded pictures), for the workers."""
        for part in range(len(self.source)):
            if self.by_part and not self.is_mine(part, 0):
                continue
            if self.source.seekable:
                length = self.source.length(part)
                for index in range(max(1, -(-length // self.size))):
                    if self.is_wanted(part, index):
                        first, stop = index * self.size, min((index + 1) * self.size, length)
                        yield from self._shard(part, index, self.source.rows(part, first, stop), stop == length)
            else:
                yield from self._unmeasured(part)

    def _unmeasured(self, part: int) -> Iterator[tuple[_Chunk, list]]:
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

    def _shard(self, part: int, index: int, rows: Iterator[SourceRow], last) -> Iterator[tuple[_Chunk, list]]:
        """`last`: whether the part ends here, or the rows that would come next."""
        shard = ShardRows(part, index)
        shard.account = {"part": part, "source": self.source.part_name(part), "dropped": {}, "bad": []}
        chunk, images = _Chunk(shard, [], 0, Counter()), []
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
                chunk, images = _Chunk(shard, [], 0, Counter()), []
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


class _Job:
    """Batches of good pictures through the tokenizer; a batch never spans two shards, so it is always the same."""

    def __init__(self, tokenizer: SeedTokenizer, processor, batch_size: int, on_error: str):
        self.tokenizer, self.batch_size, self.on_error = tokenizer.eval(), batch_size, on_error
        self.device = tokenizer.device
        self.table = normalisation_table(processor).to(self.device)
        self.waiting: list[np.ndarray] = []

    def take(self, chunk: _Chunk, pixels: np.ndarray, outcomes: list, writer: CodeWriter) -> None:
        shard = chunk.shard
        dropped = Counter(shard.account["dropped"]) + chunk.dropped
        for row, outcome in zip(chunk.rows, outcomes):
            if outcome is None:
                shard.ids.append(row.id)
                shard.captions.append(row.caption)
            elif not outcome.bad:
                dropped[outcome.reason] += 1
            elif self.on_error == "raise":
                raise SeedImageError(f"{row.file}, row {row.row} (id {row.id}): {outcome.reason}")
            else:
                bad = {"file": row.file, "row": row.row, "id": row.id, "reason": outcome.reason}
                shard.account["bad"].append(bad)
        shard.account["dropped"] = dict(dropped)
        if len(pixels):
            self.waiting.append(pixels)
        ready = sum(map(len, self.waiting))
        while ready >= self.batch_size or (chunk.end is not None and ready):
            pixels = np.concatenate(self.waiting)
            self.waiting = [pixels[self.batch_size :]] if ready > self.batch_size else []
            self._encode(shard, pixels[: self.batch_size], writer)
            ready = sum(map(len, self.waiting))
        if chunk.end is not None:
            writer.finish(shard)

    @torch.inference_mode()
    def _encode(self, shard: ShardRows, pixels: np.ndarray, writer: CodeWriter) -> None:
        pixels = torch.from_numpy(pixels)
        on_cuda = self.device.type == "cuda"
        if on_cuda:
            pixels = pixels.pin_memory()
        values = normalise(pixels.to(self.device, non_blocking=on_cuda), self.table)
        codes = self.tokenizer.encode(values).to(torch.int32)
        if not on_cuda:
            writer.add(shard, codes.cpu())
            return
        # The copy back runs while the next batch is prepared; the writer waits for it, we do not.
        host = torch.empty(codes.shape, dtype=codes.dtype, pin_memory=True)
        host.copy_(codes, non_blocking=True)
        ready = torch.cuda.Event()
        ready.record()
        writer.add(shard, host, ready)


def normalisation_table(processor: SeedImageProcessor) -> torch.Tensor:
    """What the processor makes of each value of each channel: fp32 `(3, 256)`."""
    values = np.broadcast_to(np.arange(256, dtype=np.uint8), (3, 1, 256))
    if processor.do_rescale:
        values = processor.rescale(values, processor.rescale_factor)
    if processor.do_normalize:
        values = processor.normalize(values, processor.image_mean, processor.image_std)
    return torch.from_numpy(np.array(values, dtype=np.float32).reshape(3, 256))


def normalise(pixels: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """uint8 `(batch, 3, height, width)` to the processor's `pixel_values`, bit for bit, on the pixels' device.

    Args:
        table: From `normalisation_table`, on the same device.
    """
    return torch.stack([table[channel][pixels[:, channel].int()] for channel in range(3)], dim=1)


def tokenizer_fingerprint(tokenizer: SeedTokenizer) -> str:
    """SHA-256 of what decides the codes: the configuration of the encoding half and its weights as loaded."""
    config = tokenizer.config
    digest = hashlib.sha256()
    settings = {name: getattr(config, name) for name in ("causal_queries", "vision_norm_eps", "num_query_tokens")}
    for part, names in _SETTINGS.items():
        settings[part] = {name: getattr(getattr(config, part), name) for name in names}
    digest.update(json.dumps(settings, sort_keys=True).encode())
    for name, weight in sorted(tokenizer.state_dict().items()):
        if name.startswith(_ENCODING):
            digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}\n".encode())
            digest.update(weight.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def load_image_processor(folder: str | os.PathLike, tokenizer: SeedTokenizer) -> SeedImageProcessor:
    """The image processor saved beside a tokenizer, or else the usual one of its picture size."""
    folder = Path(folder)
    for name in ("preprocessor_config.json", "processor_config.json"):
        if (folder / name).is_file():
            settings = json.loads((folder / name).read_text(encoding="utf-8"))
            if name.startswith("pre") or "image_processor" in settings:
                return SeedImageProcessor.from_pretrained(folder)
    return _default_processor(tokenizer)


def _default_processor(tokenizer: SeedTokenizer) -> SeedImageProcessor:
    size = tokenizer.config.vision_config.image_size
    return SeedImageProcessor(size={"height": size, "width": size})


def _processor_settings(processor: SeedImageProcessor) -> dict:
    size = processor.size
    return {
        "height": size["height"],
        "width": size["width"],
        "resample": int(processor.resample),
        "mean": list(processor.image_mean) if processor.do_normalize else None,
        "std": list(processor.image_std) if processor.do_normalize else None,
        "rescale_factor": processor.rescale_factor if processor.do_rescale else None,
    }


def _decoder(tokenizer: SeedTokenizer, processor: SeedImageProcessor, filters: RowFilters) -> PictureDecoder:
    side = tokenizer.config.vision_config.image_size
    size = dict(processor.size)
    if not processor.do_resize or size.get("height") != side or size.get("width") != side:
        raise ValueError(f"The image processor makes {size}, but the tokenizer sees {side} x {side} pixels.")
    if getattr(processor, "do_center_crop", None) or getattr(processor, "do_pad", None):
        raise ValueError("The image processor crops or pads; pre-tokenizing squashes pictures to the model's size.")
    return PictureDecoder(side, side, int(processor.resample), filters)


def _caption_column(source: ImageTextSource) -> str | None:
    if not source.captions:
        return None
    for part in range(len(source)):
        for row in source.rows(part, 0, 1):
            return "captions" if isinstance(row.caption, list) else "caption"
    return "caption"


def _default_workers() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))


def _check(tokenizer, on_error, batch_size, workers, rows_per_shard, rank, world_size) -> None:
    if on_error not in ON_ERROR:
        raise ValueError(f"on_error must be one of {', '.join(ON_ERROR)}, got {on_error!r}.")
    for name, value, least in (
        ("batch_size", batch_size, 1),
        ("workers", workers, 0),
        ("rows_per_shard", rows_per_shard, 1),
        ("world_size", world_size, 1),
    ):
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}.")
    if not 0 <= rank < world_size:
        raise ValueError(f"rank must be in 0..{world_size - 1}, got {rank}.")
    if tokenizer.config.codebook_size > 1 << 16:
        raise ValueError(
            f"Codes are stored in 16 bits, but the codebook has {tokenizer.config.codebook_size} vectors."
        )
