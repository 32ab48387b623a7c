"""`tokenize_images`: the codes of every image of a source, in Parquet, by a job that may be killed at any moment."""

from __future__ import annotations

import os
from typing import Any

from seed_hf.artifacts.fingerprints import tokenizer_fingerprint
from seed_hf.artifacts.finite import check_finite_weights
from seed_hf.data.sources.source import ImageTextSource
from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer

from .code_shards import CodeFolder
from .pixel_values import codes_of_rows, normalisation_table, normalise
from .settings import JobSettings
from .shard_folder import FORMAT
from .source_job import SourceJob


def tokenize_images(
    source: ImageTextSource,
    tokenizer: SeedTokenizer,
    out: str | os.PathLike,
    **options: Any,
) -> dict:
    """Encode the images of a source into Parquet shards, resuming an earlier run of the same job.

    The shards (`OUT/codes-*.parquet`) have the columns `id`, `caption` (`captions` where the source has lists; absent
    where it has none) and `codes`, a fixed-size list of `num_query_tokens` uint16. They read back with
    `load_dataset("parquet", data_files="OUT/*.parquet")`. A shard holds the good rows of a fixed range of rows of one
    file of the source. So a job that was killed and resumed, by any number of processes, gives the same shards as an
    unbroken one.

    Args:
        source: From `open_source`.
        tokenizer: On the device and in the number type to encode with.
        out: Folder to write; made if missing.
        options: Fields of [`JobSettings`]: `image_processor`, `batch_size` (64), `workers`, `rows_per_shard` (4096),
            `on_error` ("skip"), `filters`, `rank`, `world_size`.

    Returns:
        The manifest; its `complete` is `False` while other processes are still at work.

    Raises:
        ValueError: The folder was begun with another source, tokenizer or setting; a setting is not allowed; a file
            of the source cannot be read; `SeedImageError` for a bad image, if `on_error` is "raise"; a weight or the
            features of a row are NaN or infinite: the message names it.
        BlockingIOError: Another process is writing into the folder with this rank.
        OSError: The disk is full or cannot be written; `ShortageError` if images cannot be read for lack of memory,
            open files or the like; `ChildProcessError` if the decoding processes are killed. Finished shards stay;
            nothing half-written does.
        RuntimeError: The decoding processes do not start.
    """
    config = tokenizer.config
    job = SourceJob(source, tokenizer, out, JobSettings.of(options))
    if config.codebook_size > 1 << 16:
        raise ValueError(f"Codes are stored in 16 bits, but the codebook has {config.codebook_size} vectors.")
    check_finite_weights(
        tokenizer, "tokenizer", {part for role in ("seeing", "coding") for part in tokenizer.PARTS[role]}
    )
    identity = {
        "format": FORMAT,
        "source": source.identity(),
        "tokenizer": {
            "sha256": tokenizer_fingerprint(tokenizer),
            "codebook_size": config.codebook_size,
            "num_query_tokens": config.num_query_tokens,
        },
        "settings": job.settings_of_results(dtype=str(tokenizer.dtype).removeprefix("torch.")),
    }
    table = normalisation_table(job.processor).to(tokenizer.device)

    def codes(pixels, part, rows):
        values = normalise(pixels, table)
        if values.is_cuda:  # the shard looks at the codes: here the GPU would have nothing to do meanwhile
            return {"codes": tokenizer.encode(values, check_finite=False).int()}
        return {"codes": codes_of_rows(tokenizer, values, rows).int()}

    folder = CodeFolder(job.out, config.num_query_tokens, _caption_column(source))
    return job.run(folder, identity, codes, "tokenizing")


def _caption_column(source: ImageTextSource) -> str | None:
    return ("captions" if source.caption_lists else "caption") if source.captions else None
