"""Codes of many images and images of many codes: small models have a part of the batch on each core of a CPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from seed_hf.threads import on_all_cores


if TYPE_CHECKING:
    import torch
    from PIL import Image

    from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer
    from seed_hf.pipelines.pipeline_seed_image import SeedImagePipeline


STEPS = 20  # denoising steps where nobody says how many: the pipeline's default, and the authors'


def encode_many(tokenizer: SeedTokenizer, pixels: torch.Tensor) -> torch.Tensor:
    """The codes `(images, num_query_tokens)` of images, on the tokenizer's device.

    Args:
        tokenizer: On its device.
        pixels: `(images, 3, height, width)`, as the image processor gives them.
    """
    import torch

    pixels = pixels.to(tokenizer.device, tokenizer.dtype)
    return torch.cat(on_all_cores(lambda part: tokenizer.encode(pixels[part]), len(pixels)))


def draw_many(
    pipeline: SeedImagePipeline, codes: torch.Tensor, generators: Sequence[torch.Generator], **settings: Any
) -> list[Image.Image]:
    """An image of each row of codes.

    Args:
        pipeline: Without offloading.
        codes: `(images, num_query_tokens)`.
        generators: One for each image.
        settings: Of a call of the pipeline. A callback gets the pipeline of its part.
    """
    generators = list(generators)

    def draw(part: slice) -> list[Image.Image]:
        own = pipeline if part == slice(0, len(codes)) else pipeline.beside()
        return own(codes=codes[part], generator=generators[part], **settings).images

    return [image for images in on_all_cores(draw, len(codes)) for image in images]
