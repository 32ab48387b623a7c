"""Batches of images to codes and of codes to images: small models have a part of the batch on each core of a CPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from seed_hf.threads import on_all_cores


if TYPE_CHECKING:
    import torch
    from PIL import Image

    from seed_hf.modeling.image_processing_seed import SeedImageProcessor
    from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer
    from seed_hf.pipelines.pipeline_seed_image import SeedImagePipeline


# Settings of a call that mean the same for a part of a batch as for all of it. `cross_attention_kwargs` is not one:
# diffusers scales LoRA weights in the UNet itself during a call, so two must not do that at the same time.
_OF_EACH_IMAGE = {
    "num_inference_steps",
    "guidance_scale",
    "guidance_rescale",
    "height",
    "width",
    "noise_level",
    "output_type",
    "callback_on_step_end",
}
STEPS = 20  # denoising steps where nobody says how many: the pipeline's default, and SEED-2's demo's


def encode_pixels(tokenizer: SeedTokenizer, pixels: torch.Tensor) -> torch.Tensor:
    """The codes `(images, num_query_tokens)` of images, on the tokenizer's device.

    Args:
        tokenizer: On its device.
        pixels: `(images, 3, height, width)`, as the image processor gives them.

    Raises:
        NotFiniteError: As `tokenizer.encode`.
    """
    import torch

    from seed_hf.modeling.finite_values_seed import NotFiniteError

    pixels = pixels.to(tokenizer.device, tokenizer.dtype)
    try:
        return torch.cat(on_all_cores(lambda part: tokenizer.encode(pixels[part]), len(pixels)))
    except NotFiniteError:
        return tokenizer.encode(pixels)  # whose message counts the rows of the batch


def encode_images(
    tokenizer: SeedTokenizer, image_processor: SeedImageProcessor, images: Sequence[Image.Image]
) -> torch.Tensor:
    """The codes `(images, num_query_tokens)` of images, encoded in one batch.

    What is said of codes, by `processor.caption` and `processor.ask`, is what is said of their images.

    Args:
        tokenizer: On its device.
        image_processor: That goes with it.
        images: RGB.

    Raises:
        NotFiniteError: As `tokenizer.encode`.
    """
    return encode_pixels(tokenizer, image_processor(images, return_tensors="pt")["pixel_values"])


def draw_images(
    pipeline: SeedImagePipeline, codes: torch.Tensor, generators: Sequence[torch.Generator], **settings: Any
) -> list[Image.Image]:
    """An image of each row of codes.

    Args:
        pipeline: Without offloading.
        codes: `(images, num_query_tokens)`.
        generators: One for each image.
        settings: Of a call of the pipeline. A callback gets the pipeline of its part.

    Raises:
        ValueError: Not one generator for each image; as the pipeline.
    """
    generators = list(generators)
    if len(generators) != len(codes):
        raise ValueError(f"{len(codes)} rows of codes need as many generators, got {len(generators)}.")
    if not settings.keys() <= _OF_EACH_IMAGE:
        return list(pipeline(codes=codes, generator=generators, **settings).images)
    copies = []

    def draw(part: slice) -> list[Image.Image]:
        own = pipeline if part == slice(0, len(codes)) else pipeline.beside()
        copies.append(own)
        return own(codes=codes[part], generator=generators[part], **settings).images

    try:
        return [image for images in on_all_cores(draw, len(codes)) for image in images]
    except BaseException:
        for own in copies:  # Ctrl-C reaches the main thread alone
            own._interrupt = True
        raise
