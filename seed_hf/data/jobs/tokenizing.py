"""`tokenize_images`: the codes of every picture of a source, in Parquet, by a job that may be killed at any moment."""

from __future__ import annotations

import os

from seed_hf.artifacts.fingerprints import tokenizer_fingerprint
from seed_hf.data.sources.filters import RowFilters
from seed_hf.data.sources.source import ImageTextSource
from seed_hf.modeling.image_processing_seed import SeedImageProcessor
from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer

from .code_shards import CodeFolder
from .pixel_values import normalisation_table, normalise
from .shard_folder import FORMAT
from .source_job import SourceJob


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
    config = tokenizer.config
    job = SourceJob(
        source,
        tokenizer,
        out,
        image_processor=image_processor,
        batch_size=batch_size,
        workers=workers,
        rows_per_shard=rows_per_shard,
        on_error=on_error,
        filters=filters,
        rank=rank,
        world_size=world_size,
    )
    if config.codebook_size > 1 << 16:
        raise ValueError(f"Codes are stored in 16 bits, but the codebook has {config.codebook_size} vectors.")
    identity = {
        "format": FORMAT,
        "source": source.identity(),
        "tokenizer": {
            "sha256": tokenizer_fingerprint(tokenizer),
            "codebook_size": config.codebook_size,
            "num_query_tokens": config.num_query_tokens,
        },
        "settings": job.settings(dtype=str(tokenizer.dtype).removeprefix("torch.")),
    }
    table = normalisation_table(job.processor).to(tokenizer.device)

    def codes(pixels, part, rows):
        return {"codes": tokenizer.encode(normalise(pixels, table)).int()}

    folder = CodeFolder(job.out, config.num_query_tokens, _caption_column(source))
    return job.run(folder, identity, codes, "tokenizing")


def _caption_column(source: ImageTextSource) -> str | None:
    if not source.captions:
        return None
    for part in range(len(source)):
        for row in source.rows(part, 0, 1):
            return "captions" if isinstance(row.caption, list) else "caption"
    return "caption"
