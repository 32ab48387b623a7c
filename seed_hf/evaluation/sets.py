"""Rows to evaluate on: any sequence whose rows have an `image` and a `caption`, such as the pictograms."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from PIL import Image

from seed_hf.images import load_image


def open_picture(row: Mapping[str, Any]) -> Image.Image:
    """The RGB image of a row, which holds a PIL image or, as in a Parquet file, the bytes of an image file.

    Args:
        row: With `image`.
    """
    image = row["image"]
    if not isinstance(image, Image.Image):
        return load_image(image["bytes"])
    return image.convert("RGB")


def distinct_captions(captions: Sequence[str]) -> tuple[list[str], torch.Tensor]:
    """The distinct captions in order of appearance, and the index of each caption among them, a LongTensor `(n,)`.

    Args:
        captions: The caption of each image.
    """
    index: dict[str, int] = {}
    caption_of_image = torch.tensor([index.setdefault(caption, len(index)) for caption in captions], dtype=torch.long)
    return list(index), caption_of_image


def batches(items: Sequence, size: int) -> Iterator[list]:
    """Lists of at most `size` items. Works on a `Dataset`, too, whose slices are columns and not rows.

    Args:
        items: Rows, images, captions ...
        size: Items of a batch.
    """
    for start in range(0, len(items), size):
        yield [items[i] for i in range(start, min(start + size, len(items)))]
