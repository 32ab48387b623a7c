"""`cache_features`: what the frozen networks of stage II make of a source, stored once for all epochs."""

from __future__ import annotations

import os
from typing import Any

import torch
from transformers import PreTrainedModel

from seed_hf.artifacts.finite import check_finite_weights
from seed_hf.data.jobs.settings import JobSettings
from seed_hf.data.jobs.shard_folder import FORMAT
from seed_hf.data.jobs.source_job import SourceJob
from seed_hf.data.sources.source import ImageTextSource
from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer

from .frozen_networks import FrozenNetworks
from .shards import FeatureFolder


ROWS_PER_SHARD = 1024  # features are larger than codes


def cache_features(
    source: ImageTextSource,
    tokenizer: SeedTokenizer,
    out: str | os.PathLike,
    *,
    text_encoder: PreTrainedModel | None = None,
    text_tokenizer=None,
    image_encoder: PreTrainedModel | None = None,
    views: int = 1,
    seed: int = 42,
    dtype: torch.dtype = torch.float16,
    compute_dtype: torch.dtype | None = None,
    **options: Any,
) -> dict:
    """Store causal and target embeddings of a source, resuming an earlier run of the same job.

    `CachedFeatures` reads the folder; `data.features` of stage II takes it. Shards, accounts, locks and the treatment
    of bad images are those of `tokenize_images`: a job that was killed and resumed, by any number of processes, gives
    the same files as an unbroken one.

    Args:
        source: From `open_source`; with captions, if there is a text encoder.
        tokenizer: On the device to compute on, loaded as for training: another tokenizer refuses the features.
        out: Folder to write; made if missing.
        text_encoder: For the text target: the frozen text encoder of the diffusion model, whose `last_hidden_state`
            is the target. Without any encoder only causal embeddings are stored, and training leaves out the
            generation loss.
        text_tokenizer: The text encoder's tokenizer.
        image_encoder: For the image target: the frozen image encoder of unCLIP, whose `image_embeds` is the target.
            Each view has its own target, made of what the tokenizer sees.
        views: How often each image is seen: once as it is, and `views - 1` times through `random_crop_flip`.
        seed: Of the views and, where a row has several captions, of the choice among them. A draw depends on the
            seed, the view, the file's number and the row's number, and on nothing else.
        dtype: Number type of the files, `torch.float16` or `torch.float32`.
        compute_dtype: Autocast to this type, as training with `bf16: true` does. By default the weights' own type.
        options: Fields of [`JobSettings`]: `image_processor`, `batch_size` (64; images of one view), `workers`,
            `rows_per_shard` (1024), `on_error` ("skip"), `filters`, `rank`, `world_size`.

    Returns:
        The manifest; its `complete` is `False` while other processes are still at work.

    Raises:
        ValueError: The folder was begun with another source, tokenizer, encoder or setting; parts that do not go
            together; a setting is not allowed; a file of the source cannot be read; `SeedImageError` for a bad image,
            if `on_error` is "raise"; a weight or the features of a row are NaN or infinite: the message names it.
        BlockingIOError, OSError, RuntimeError: As `tokenize_images`.
    """
    job = SourceJob(source, tokenizer, out, JobSettings.of(options, rows_per_shard=ROWS_PER_SHARD))
    networks = FrozenNetworks(
        tokenizer,
        job.processor,
        text_encoder=text_encoder,
        text_tokenizer=text_tokenizer,
        image_encoder=image_encoder,
        views=views,
        seed=seed,
        dtype=dtype,
        compute_dtype=compute_dtype,
    )
    check_finite_weights(tokenizer, "tokenizer", set(tokenizer.PARTS["seeing"]))
    for encoder, what in ((text_encoder, "text encoder"), (image_encoder, "image encoder")):
        if encoder is not None:
            check_finite_weights(encoder, what)
    if text_encoder is not None and not source.captions:
        raise ValueError("The text encoder needs captions: open the source with captions=True.")
    identity = {
        "format": FORMAT,
        "source": source.identity(),
        **networks.identity(),
        "settings": job.settings_of_results(compute_dtype=networks.compute_dtype_name()),
    }
    return job.run(FeatureFolder(job.out, networks.shapes, dtype), identity, networks, "caching features")
