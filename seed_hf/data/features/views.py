"""What is drawn for each row: the crops and flips of its views, and one of its captions.

A draw depends on the seed, the view, the file's number and the row's number, and on nothing else.
"""

from __future__ import annotations

import random

import torch

from seed_hf.data.batches.augmentation import crop_flip, random_crops


def augmented_view(pixels: torch.Tensor, view: int, part: int, rows: list[int], seed: int) -> torch.Tensor:
    """View `view` of images: a random crop and flip of each, drawn by seed, view, part and row.

    Args:
        pixels: uint8 `(batch, 3, S, S)`, on any device.
        view: Number of the view, from 1.
        part: Number of the file in the source.
        rows: Number of each image's row in that file.
        seed: Of all draws.

    Returns:
        fp32 `(batch, 3, S, S)` in [0, 1].
    """
    crops = []
    for row in rows:
        draw = random.Random(f"{seed}/view {view}/{part}/{row}").getrandbits(63)
        crops.append(random_crops(1, generator=torch.Generator().manual_seed(draw)))
    return crop_flip(pixels.float().div_(255), torch.cat(crops))


def chosen_caption(caption: str | list[str] | None, part: int, row: int, seed: int) -> str:
    """The caption of a row: of several one drawn by seed, part and row; "" where there is none."""
    if isinstance(caption, list):
        return random.Random(f"{seed}/caption/{part}/{row}").choice(caption) if caption else ""
    return caption or ""
