"""The published augmentation of images: random crops and flips."""

import math

import torch
from torch.nn import functional as F


def random_crop_flip(images: torch.Tensor) -> torch.Tensor:
    """The published augmentation: a random crop, resized bicubically to the original size, and a random flip.

    Args:
        images (`torch.Tensor` of shape `(B, 3, S, S)`): In [0, 1].
    """
    return crop_flip(images, random_crops(len(images)))


def random_crops(batch: int, generator: torch.Generator | None = None) -> torch.Tensor:
    """The draws of `random_crop_flip`: `(batch, 2, 3)` affine maps from the new image to the old one.

    A crop has at least half of the area, and an aspect ratio from 3:4 to 4:3.

    Args:
        batch: Number of images.
        generator: On the CPU; by default torch's global one.
    """
    area = torch.empty(batch).uniform_(0.5, 1.0, generator=generator)
    ratio = torch.empty(batch).uniform_(-1, 1, generator=generator).mul(math.log(4 / 3)).exp()
    size = torch.stack([(area * ratio).sqrt(), (area / ratio).sqrt()], 1).clamp_(max=1.0)  # width, height
    # The crop stays inside the image, which spans -1 to 1.
    centre = (torch.rand(batch, 2, generator=generator) * 2 - 1) * (1 - size)
    flip = torch.where(torch.rand(batch, generator=generator) < 0.5, -1.0, 1.0)
    crops = torch.zeros(batch, 2, 3)
    crops[:, 0, 0], crops[:, 1, 1] = size[:, 0] * flip, size[:, 1]
    crops[:, :, 2] = centre
    return crops


def crop_flip(images: torch.Tensor, crops: torch.Tensor) -> torch.Tensor:
    """Apply crops and flips.

    Args:
        images: `(B, 3, S, S)` in [0, 1].
        crops: `(B, 2, 3)`, from `random_crops`.

    Returns:
        The new images, `(B, 3, S, S)` in [0, 1].
    """
    grid = F.affine_grid(crops.to(images.device), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bicubic", padding_mode="border", align_corners=False).clamp_(0, 1)
