"""Batches for stage I and stage II: images, captions, or cached features."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch

from seed_hf.modeling.plain_text_seed import plain_text_encoder
from seed_hf.modeling.processing_seed import BOI_TOKEN

from .row_values import captions_of, decoded_image, naming_the_row, row_names
from .seeded import SeededCollator


logger = logging.getLogger(__name__)

CACHED_KEYS = ("vision_embeddings", "causal_embeddings", "target_embeddings")


class ImageTextCollator(SeededCollator):
    """Rows with images and captions, or with cached features, to the inputs of `SeedTokenizer.forward`.

    A row is a mapping with some of: `image` (whatever the image processor takes, or an encoded image as `datasets`
    stores it, a mapping of `bytes` and `path`), or `pixels` (uint8 `(3, S, S)`, an
    image that already has the model's size); `caption` (`str`) or `captions` (several, one is drawn); and the cached
    `vision_embeddings`, `causal_embeddings`, `target_embeddings`. An `id` is passed on, so that messages can name the
    row. All rows of a batch have the same keys; other keys are ignored.

    Args:
        image_processor (`SeedImageProcessor`, *optional*): Needed for rows with images.
        tokenizer (*optional*): Needed for rows with captions; the text tokenizer of the Q-Former in stage I, of the
            diffusion model's text encoder in stage II. Without it captions are ignored.
        max_text_tokens (`int`, *optional*, defaults to 32): Longer captions are cut. The first one is logged.
        padding (`str`, *optional*, defaults to `"longest"`): `"max_length"` pads every caption to `max_text_tokens`,
            as the text encoders of diffusion models expect.
        augment (*optional*): Changes float images `(B, 3, S, S)` in [0, 1] before they are normalised. It may draw
            from torch's global generator, which is seeded for each batch and put back afterwards.
        seed (`int`, *optional*, defaults to 42): Seed of the caption choice and of `augment`.

    A call returns what the rows allow: `pixel_values` `(B, 3, S, S)`, `input_ids` and `attention_mask` `(B, L)`, the
    stacked cached features, and `row_ids`, a list.

    Raises:
        ValueError: The rows hold images but there is no image processor, or they hold nothing that a model could use;
            or one of them, which is named, has no caption, something else in its place, or a damaged image.
    """

    def __init__(
        self,
        image_processor=None,
        tokenizer=None,
        *,
        max_text_tokens: int = 32,
        padding: str = "longest",
        augment: Callable[[torch.Tensor], torch.Tensor] | None = None,
        seed: int = 42,
    ):
        super().__init__(seed)
        if padding not in ("longest", "max_length"):
            raise ValueError(f"padding must be 'longest' or 'max_length', got {padding!r}.")
        self.image_processor = image_processor
        self.tokenizer = tokenizer
        # With visual tokens in it, text that spells one would become it.
        visual = tokenizer is not None and BOI_TOKEN in tokenizer.get_vocab()
        self.plain = plain_text_encoder(tokenizer, framed=True) if visual else None
        self.max_text_tokens = max_text_tokens
        self.padding = padding
        self.augment = augment
        self._said_cut = False

    def for_evaluation(self) -> Self:
        """As [`SeededCollator.for_evaluation`], and without augmentation."""
        other = super().for_evaluation()
        other.augment = None
        return other

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        batch: dict[str, Any] = {key: _stack([row[key] for row in rows]) for key in CACHED_KEYS if key in rows[0]}
        if ("image" in rows[0] or "pixels" in rows[0]) and not {"vision_embeddings", "causal_embeddings"} & set(batch):
            batch["pixel_values"] = self._pixel_values(rows)
        if self.tokenizer is not None and ("caption" in rows[0] or "captions" in rows[0]):
            batch.update(self._captions(rows))
        if not batch:
            raise ValueError(
                f"Rows with the keys {sorted(rows[0])} hold nothing to train on. Give image or pixels, caption or "
                f"captions (with a tokenizer), or {', '.join(CACHED_KEYS)}."
            )
        return batch | row_names(rows)

    def _captions(self, rows) -> dict[str, torch.Tensor]:
        captions = []
        for place, row in enumerate(rows):
            with naming_the_row(rows, place):
                captions.append(self._caption(row))
        if self.plain is None:
            encoded = self.tokenizer(
                captions, max_length=self.max_text_tokens, truncation=True, padding=self.padding, return_tensors="pt"
            )
        else:
            rows = {"input_ids": [self.plain.framed(caption, self.max_text_tokens) for caption in captions]}
            settings = {"padding": self.padding, "max_length": self.max_text_tokens, "padding_side": "right"}
            encoded = self.tokenizer.pad(rows, **settings, return_tensors="pt")
        if not self._said_cut:
            full = encoded["attention_mask"].sum(1) == self.max_text_tokens
            self._say_cut([caption for caption, is_full in zip(captions, full) if is_full])
        return {"input_ids": encoded["input_ids"], "attention_mask": encoded["attention_mask"]}

    def _say_cut(self, captions: list[str]) -> None:
        """Log the first caption that was cut, once: what it says at its end is never read."""
        whole = (
            self.plain.framed_length if self.plain else lambda text: len(self.tokenizer(text, verbose=False).input_ids)
        )
        for caption in captions:
            if (length := whole(caption)) > self.max_text_tokens:
                self._said_cut = True
                logger.warning(
                    "A caption of %d tokens is cut to %d, and so is every longer one (max_text_tokens, in a recipe "
                    "data.max_text_tokens): %.80r",
                    length, self.max_text_tokens, caption,
                )  # fmt: skip
                return

    def _caption(self, row) -> str:
        captions = captions_of(row)
        if len(captions) == 1:
            return captions[0]
        return captions[self.generator("\n".join(captions).encode()).randrange(len(captions))]

    def _pixel_values(self, rows) -> torch.Tensor:
        if self.image_processor is None:
            raise ValueError("The rows hold images: ImageTextCollator needs an image_processor to prepare them.")
        if "pixels" not in rows[0]:
            images = []
            for place, row in enumerate(rows):
                with naming_the_row(rows, place):
                    images.append(decoded_image(row["image"]))
            if self.augment is None:
                return self.image_processor(images, return_tensors="pt")["pixel_values"]
            processor = self.image_processor
            settings = {"do_resize": processor.do_resize, "size": processor.size, "resample": processor.resample}
            pixels = _stack([processor.process_image(image, **settings) for image in processor.fetch_images(images)])
        else:
            pixels = _stack([row["pixels"] for row in rows])
            if pixels.dtype != torch.uint8:
                raise ValueError(f"`pixels` must be uint8 in 0..255, got {pixels.dtype}.")
        values = pixels.float().div_(255)
        if self.augment is not None:
            with torch.random.fork_rng(devices=[]):
                values = torch.cat([self._augmented(*row) for row in zip(pixels, values)])
        mean, std = mean_and_std(self.image_processor)
        return values.sub_(mean).div_(std)

    def _augmented(self, pixels: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """A view `(1, 3, height, width)` of one image, the same in any batch and process."""
        assert self.augment is not None
        torch.manual_seed(self.generator(pixels.numpy().tobytes()).getrandbits(63))
        return self.augment(values[None])


def mean_and_std(processor) -> tuple[torch.Tensor, torch.Tensor]:
    """What pixels in 0..1 are normalised with, `(3, 1, 1)` each; 0 and 1 where the processor does not normalise.

    Args:
        processor: A `SeedImageProcessor`.
    """
    values = (processor.image_mean, processor.image_std) if processor.do_normalize else ([0.0] * 3, [1.0] * 3)
    mean, std = (torch.tensor(value)[:, None, None] for value in values)
    return mean, std


def _stack(values) -> torch.Tensor:
    return torch.stack([v if isinstance(v, torch.Tensor) else torch.from_numpy(np.asarray(v)) for v in values])
