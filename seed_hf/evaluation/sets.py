"""Rows to evaluate on: any sequence whose rows have an `image` and a `caption`, such as the pictograms."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from PIL import Image

from seed_hf.images import load_image


def open_picture(row: Mapping[str, Any]) -> Image.Image:
    """The RGB image of a row, upright and on white as everywhere.

    Args:
        row: With `image`: a PIL image or, as `datasets` stores it, a mapping of `bytes` and `path`.
    """
    image = row["image"]
    if isinstance(image, Mapping):
        image = image.get("bytes") or image["path"]
    return load_image(image)


def captions_of_rows(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The caption of each row.

    Args:
        rows: With `caption`.

    Raises:
        ValueError: A row has no caption, or something else in its place.
    """
    captions = []
    for number, row in enumerate(rows):
        if not isinstance(caption := row.get("caption"), str):
            raise ValueError(
                f"Row {number} needs `image`, and `caption`, one text; it has {', '.join(row)}"
                f"{f', and a {type(caption).__name__} as its caption' if 'caption' in row else ''}. Rename the column "
                "of the captions; `seed-hf evaluate` reads several captions of an image."
            )
        captions.append(caption)
    return captions


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
