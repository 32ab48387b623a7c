"""The frozen networks of stage II over a batch of images and captions."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from seed_hf.artifacts.fingerprints import causal_fingerprint, model_fingerprint
from seed_hf.data.batches.image_text import ImageTextCollator, mean_and_std
from seed_hf.data.jobs.pixel_values import normalisation_table, normalise
from seed_hf.data.sources.source_row import SourceRow
from seed_hf.modeling.image_processing_seed import SeedImageProcessor
from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer

from .targets import image_targets, text_targets
from .views import augmented_view, chosen_caption


DTYPES = (torch.float16, torch.float32)


class FrozenNetworks:
    """Computes causal and target embeddings; an instance is the `compute` of a `SourceJob`.

    Args:
        tokenizer: On the device to compute on.
        processor: The image processor.
        text_encoder, text_tokenizer: For the text target; both or neither.
        image_encoder: For the image target.
        views, seed, dtype, compute_dtype: As for `cache_features`.

    Raises:
        ValueError: The parts or settings do not go together.
    """

    def __init__(
        self,
        tokenizer: SeedTokenizer,
        processor: SeedImageProcessor,
        *,
        text_encoder: PreTrainedModel | None,
        text_tokenizer,
        image_encoder: PreTrainedModel | None,
        views: int,
        seed: int,
        dtype: torch.dtype,
        compute_dtype: torch.dtype | None,
    ):
        config = tokenizer.config
        _check_encoders(config.generation_target, text_encoder, text_tokenizer, image_encoder)
        _check_settings(tokenizer, processor, views, dtype, compute_dtype)
        self.tokenizer, self.views, self.seed, self.dtype = tokenizer, views, seed, dtype
        self.device = tokenizer.device
        self.compute_dtype = None if compute_dtype == tokenizer.dtype else compute_dtype
        self.table = normalisation_table(processor).to(self.device)
        self.mean, self.std = (values.to(self.device) for values in mean_and_std(processor))
        self.text_encoder = text_encoder.to(self.device).eval() if text_encoder is not None else None
        self.image_encoder = image_encoder.to(self.device).eval() if image_encoder is not None else None
        self.text_tokenizer = text_tokenizer
        # It turns captions into input_ids as in training.
        self.captions = ImageTextCollator(
            tokenizer=text_tokenizer, max_text_tokens=config.num_generation_tokens, padding="max_length"
        )

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each tensor of a row."""
        config, views = self.tokenizer.config, self.views
        shapes: dict[str, tuple[int, ...]] = {}
        shapes["causal_embeddings"] = (views, config.num_query_tokens, config.qformer_config.hidden_size)
        if self.text_encoder is not None:
            shapes["target_embeddings"] = (config.num_generation_tokens, config.generation_dim)
        if self.image_encoder is not None:
            shapes["target_embeddings"] = (views, config.generation_dim)
        return shapes

    def identity(self) -> dict:
        """What the features depend on besides source and job settings; JSON-ready."""
        shapes, text, image = self.shapes, None, None
        if self.text_encoder is not None:
            text = {"sha256": model_fingerprint(self.text_encoder, self.text_tokenizer)}
        if self.image_encoder is not None:
            image = {"sha256": model_fingerprint(self.image_encoder)}
        return {
            "tokenizer": {"causal_sha256": causal_fingerprint(self.tokenizer)},
            "text_encoder": text,
            "image_encoder": image,
            "features": {
                "views": self.views,
                "seed": self.seed,
                "dtype": _name(self.dtype),
                "causal_embeddings": list(shapes["causal_embeddings"][1:]),
                "target_embeddings": list(shapes["target_embeddings"][1 if image else 0 :]) if text or image else None,
            },
        }

    def compute_dtype_name(self) -> str:
        """The number type that is computed in, for a manifest."""
        return _name(self.compute_dtype or self.tokenizer.dtype)

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


def _check_encoders(generation_target: str, text_encoder, text_tokenizer, image_encoder) -> None:
    for target, encoder in (("text", text_encoder), ("image", image_encoder)):
        if encoder is not None and generation_target != target:
            raise ValueError(
                f"The {target} encoder's features are no target here: this tokenizer's generation_target is "
                f"{generation_target!r}."
            )
    if (text_encoder is None) != (text_tokenizer is None):
        raise ValueError("A text encoder and its text tokenizer come together: give both or neither.")


def _check_settings(tokenizer, processor, views: int, dtype: torch.dtype, compute_dtype: torch.dtype | None) -> None:
    if views < 1:
        raise ValueError(f"views must be at least 1 (the image as it is), got {views}.")
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(map(_name, DTYPES))}, got {_name(dtype)}.")
    if compute_dtype not in (None, tokenizer.dtype, torch.bfloat16, torch.float16):
        raise ValueError(
            f"compute_dtype {_name(compute_dtype)} widens nothing: the weights are {_name(tokenizer.dtype)}. Load "
            "the tokenizer in the wider type, or leave compute_dtype out."
        )
    if views > 1 and not (processor.do_rescale and abs(processor.rescale_factor * 255 - 1) < 1e-6):
        raise ValueError("Augmented views need an image processor that rescales by 1/255.")


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
