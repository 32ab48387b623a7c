"""Images as diffusers' pipelines take them: PIL images, arrays, tensors, or lists of these."""

from typing import Any

import numpy as np
import torch
from PIL import Image

from seed_hf.modeling.image_preparation_seed import eight_bit_levels


def pil_images(image: Any) -> list[Image.Image]:
    """The images as PIL images, each of 8 bits a channel.

    Args:
        image: A PIL image; an array `(height, width, 3)` or `(rows, height, width, 3)`; a tensor `(3, height, width)`
            or `(rows, 3, height, width)`; or a list of them. Numbers are uint8, or floats from 0 to 1.

    Raises:
        TypeError: It is something else.
        ValueError: There is no image, or an array has another shape or other values.
    """
    parts = list(image) if isinstance(image, (list, tuple)) else [image]
    found = [each for part in parts for each in _images_of(part)]
    if not found:
        raise ValueError("The list of images is empty.")
    return found


def _images_of(part: Any) -> list[Image.Image]:
    if isinstance(part, Image.Image):
        return [part]
    if isinstance(part, torch.Tensor):
        tensor = part.detach().cpu()
        array, channels = (tensor.float() if tensor.is_floating_point() else tensor).numpy(), -3
    elif isinstance(part, np.ndarray):
        array, channels = part, -1
    else:
        raise TypeError(
            f"image must be a PIL.Image.Image, an array, a tensor or a list of them, got {type(part).__name__}."
        )
    if array.ndim not in (3, 4) or array.shape[channels] != 3 or not array.size:
        order = "(3, height, width)" if channels == -3 else "(height, width, 3)"
        raise ValueError(
            f"An image as {type(part).__name__} has shape {order}, with rows first or alone; got {array.shape}."
        )
    if array.dtype != np.uint8:
        if not np.issubdtype(array.dtype, np.floating) or not (array.min() >= 0 and array.max() <= 1):
            raise ValueError(
                f"An image as {type(part).__name__} has uint8 numbers or floats from 0 to 1; got {array.dtype} from "
                f"{array.min()} to {array.max()}."
            )
        array = eight_bit_levels(array)
    array = array if array.ndim == 4 else array[None]
    return [
        Image.fromarray(np.ascontiguousarray(row)) for row in (np.moveaxis(array, 1, -1) if channels == -3 else array)
    ]


__all__ = ["pil_images"]
