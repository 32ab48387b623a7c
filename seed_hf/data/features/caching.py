"""`cache_features`: what the frozen networks of stage II make of a source, stored once for all epochs."""

from __future__ import annotations

import os
import random

import torch
from transformers import PreTrainedModel

from seed_hf.artifacts.fingerprints import causal_fingerprint, image_encoder_fingerprint, text_encoder_fingerprint
from seed_hf.data.batches.augmentation import crop_flip, random_crops
from seed_hf.data.batches.image_text import ImageTextCollator
from seed_hf.data.features.targets import image_targets, text_targets
from seed_hf.data.jobs.pixel_values import normalisation_table, normalise
from seed_hf.data.jobs.shard_folder import FORMAT
from seed_hf.data.jobs.source_job import SourceJob
from seed_hf.data.sources.filters import RowFilters
from seed_hf.data.sources.source import ImageTextSource, SourceRow
from seed_hf.modeling.image_processing_seed import SeedImageProcessor
from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer

from .shards import FeatureFolder


DTYPES = (torch.float16, torch.float32)


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
    image_processor: SeedImageProcessor | None = None,
    batch_size: int = 64,
    workers: int | None = None,
    rows_per_shard: int = 1024,
    on_error: str = "skip",
    filters: RowFilters | None = None,
    rank: int | None = None,
    world_size: int | None = None,
) -> dict:
    """Store causal and target embeddings of a source, going on where an earlier run of the same job ended.

    `CachedFeatures` reads the folder, `data.features` of stage II takes it. Shards, accounts, locks and the treatment
    of bad pictures are those of `tokenize_images`: a job that was killed and resumed, by as many processes as you
    like, gives the same files as one that was not.

    Args:
        source: From `open_source`; with captions, if there is a text encoder.
        tokenizer: On the device to compute on, loaded as for training: features are refused by another one.
        out: Folder to write; made if missing.
        text_encoder: For the text target the frozen text encoder of the diffusion model, whose `last_hidden_state` is
            the target. Without any encoder only causal embeddings are stored, and the generation loss is left out of
            training.
        text_tokenizer: Of the text encoder.
        image_encoder: For the image target the frozen image encoder of unCLIP, whose `image_embeds` is the target: of
            each view its own, made of what the tokenizer sees.
        views: How often each picture is seen: once as it is, and `views - 1` times through `random_crop_flip`.
        seed: Of the views and, where a row has several captions, of the one that is taken. What is drawn depends on
            this, the view, the file's number and the row's, and on nothing else.
        dtype: Of what is stored, `torch.float16` or `torch.float32`.
        compute_dtype: Autocast to this type, as training with `bf16: true` does. By default the weights' own, without.
        batch_size: Pictures, of one view, computed at once.
        rows_per_shard: Rows of the source for each shard.
        image_processor, workers, on_error, filters, rank, world_size: As for `tokenize_images`.

    Returns:
        The manifest; its `complete` is `False` while other processes are still at work.

    Raises:
        ValueError: The folder was begun with something else; impossible arguments; an encoder of another target than
            the tokenizer's; a value that does not fit into `dtype`; a file of the source cannot be read;
            `SeedImageError` for a bad picture, if `on_error` is "raise".
        BlockingIOError, OSError, RuntimeError: As `tokenize_images`.
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
    encoders = (text_encoder, text_tokenizer, image_encoder)
    features = _Features(tokenizer, job.processor, *encoders, views, seed, dtype, compute_dtype)
    if text_encoder is not None and not source.captions:
        raise ValueError("The text encoder needs captions: open the source with captions=True.")
    shapes: dict[str, tuple[int, ...]] = {
        "causal_embeddings": (views, config.num_query_tokens, config.qformer_config.hidden_size)
    }
    text = image = None
    if text_encoder is not None:
        shapes["target_embeddings"] = (config.num_generation_tokens, config.generation_dim)
        text = {"sha256": text_encoder_fingerprint(text_encoder, text_tokenizer)}
    if image_encoder is not None:
        shapes["target_embeddings"] = (views, config.generation_dim)
        image = {"sha256": image_encoder_fingerprint(image_encoder)}
    identity = {
        "format": FORMAT,
        "source": source.identity(),
        "tokenizer": {"causal_sha256": causal_fingerprint(tokenizer)},
        "text_encoder": text,
        "image_encoder": image,
        "features": {
            "views": views,
            "seed": seed,
            "dtype": _name(dtype),
            "causal_embeddings": list(shapes["causal_embeddings"][1:]),
            "target_embeddings": list(shapes["target_embeddings"][1 if image else 0 :]) if text or image else None,
        },
        "settings": job.settings(compute_dtype=_name(compute_dtype or tokenizer.dtype)),
    }
    return job.run(FeatureFolder(job.out, shapes, dtype), identity, features, "caching features")


class _Features:
    """The frozen networks, over a batch of pictures and their captions."""

    def __init__(
        self, tokenizer, processor, text_encoder, text_tokenizer, image_encoder, views, seed, dtype, compute_dtype
    ):
        config = tokenizer.config
        for target, encoder in (("text", text_encoder), ("image", image_encoder)):
            if encoder is not None and config.generation_target != target:
                raise ValueError(
                    f"The {target} encoder's features are no target here: this tokenizer's generation_target is "
                    f"{config.generation_target!r}."
                )
        if (text_encoder is None) != (text_tokenizer is None):
            raise ValueError("A text encoder and its text tokenizer come together: give both or neither.")
        if views < 1:
            raise ValueError(f"views must be at least 1 (the picture as it is), got {views}.")
        if dtype not in DTYPES:
            raise ValueError(f"dtype must be one of {', '.join(map(_name, DTYPES))}, got {_name(dtype)}.")
        if compute_dtype not in (None, tokenizer.dtype, torch.bfloat16, torch.float16):
            raise ValueError(
                f"compute_dtype {_name(compute_dtype)} widens nothing: the weights are {_name(tokenizer.dtype)}. Load "
                "the tokenizer in the wider type, or leave compute_dtype out."
            )
        if views > 1 and not (processor.do_rescale and abs(processor.rescale_factor * 255 - 1) < 1e-6):
            raise ValueError("Augmented views need an image processor that rescales by 1/255.")
        self.tokenizer, self.views, self.seed, self.dtype = tokenizer, views, seed, dtype
        self.device = tokenizer.device
        self.compute_dtype = None if compute_dtype == tokenizer.dtype else compute_dtype
        self.table = normalisation_table(processor).to(self.device)
        mean, std = (processor.image_mean, processor.image_std) if processor.do_normalize else ([0.0] * 3, [1.0] * 3)
        self.mean, self.std = (torch.tensor(values, device=self.device)[:, None, None] for values in (mean, std))
        self.text_encoder = text_encoder.to(self.device).eval() if text_encoder is not None else None
        self.image_encoder = image_encoder.to(self.device).eval() if image_encoder is not None else None
        # The captions become input_ids as they do in training.
        self.captions = ImageTextCollator(
            tokenizer=text_tokenizer, max_text_tokens=config.num_generation_tokens, padding="max_length"
        )

    def __call__(self, pixels: torch.Tensor, part: int, rows: list[SourceRow]) -> dict[str, torch.Tensor]:
        views = [self._pixel_values(pixels, view, part, rows) for view in range(self.views)]  # in fp32: no autocast
        with torch.autocast(self.device.type, self.compute_dtype, enabled=self.compute_dtype is not None):
            causal = [self.tokenizer.get_causal_embeddings(values).to(self.dtype) for values in views]
            features = {"causal_embeddings": torch.stack(causal, 1)}
            if self.text_encoder is not None:
                features["target_embeddings"] = self._text_targets(part, rows)
            if self.image_encoder is not None:
                targets = [image_targets(self.image_encoder, values, self.tokenizer.config) for values in views]
                features["target_embeddings"] = torch.stack(targets, 1).to(self.dtype)
        return features

    def _pixel_values(self, pixels: torch.Tensor, view: int, part: int, rows: list[SourceRow]) -> torch.Tensor:
        if view == 0:
            return normalise(pixels, self.table)
        values = augmented_view(pixels, view, part, [row.row for row in rows], self.seed)
        return values.sub_(self.mean).div_(self.std)

    def _text_targets(self, part: int, rows: list[SourceRow]) -> torch.Tensor:
        texts = [{"caption": chosen_caption(row.caption, part, row.row, self.seed)} for row in rows]
        input_ids = self.captions(texts)["input_ids"].to(self.device)
        return text_targets(self.text_encoder, input_ids, self.tokenizer.config).to(self.dtype)


def augmented_view(pixels: torch.Tensor, view: int, part: int, rows: list[int], seed: int) -> torch.Tensor:
    """View `view` (from 1) of pictures: each through the draws that belong to its seed, view, part and row.

    Args:
        pixels: uint8 `(batch, 3, S, S)`, on any device.
        part: Number of the file in the source.
        rows: Number of each picture in that file.

    Returns:
        fp32 `(batch, 3, S, S)` in [0, 1].
    """
    crops = []
    for row in rows:
        draw = random.Random(f"{seed}/view {view}/{part}/{row}").getrandbits(63)
        crops.append(random_crops(1, generator=torch.Generator().manual_seed(draw)))
    return crop_flip(pixels.float().div_(255), torch.cat(crops))


def chosen_caption(caption: str | list[str] | None, part: int, row: int, seed: int) -> str:
    """The caption of a row; one of several by seed, part and row; "" where there is none."""
    if isinstance(caption, list):
        return random.Random(f"{seed}/caption/{part}/{row}").choice(caption) if caption else ""
    return caption or ""


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
