"""From images in memory to their codes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from PIL import Image

from seed_hf.many import codes_of
from seed_hf.modeling.image_processing_seed import SeedImageProcessor
from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer


def codes_of_images(
    tokenizer: SeedTokenizer, image_processor: SeedImageProcessor, batch_size: int = 64
) -> Callable[[list[Image.Image]], list[list[int]]]:
    """A function from RGB images to the codes of each.

    Args:
        tokenizer: On the device and in the number type to encode with.
        image_processor: That goes with it.
        batch_size: Images that are encoded at once.
    """

    @torch.no_grad()
    def codes(images: list[Image.Image]) -> list[list[int]]:
        found: list[list[int]] = []
        for first in range(0, len(images), batch_size):
            found += codes_of(tokenizer, image_processor, images[first : first + batch_size]).tolist()
        return found

    return codes
