"""Drawings as other hands might have drawn them: turned, outlined, flat, grey, blurred. Each still shows the same."""

from __future__ import annotations

import torch
from torch.nn.functional import affine_grid, avg_pool2d, grid_sample, max_pool2d, pad


OUTLINED, FLAT, GREY, EMPTY, BLURRED = 0.5, 0.25, 0.15, 0.12, 0.3  # shares of the drawings


def restyled(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Images in a style of their own each.

    Args:
        images: `(batch, 3, side, side)` in [0, 1], on white.
        generator: Of all that is random.
    """
    images = warped(images, generator)
    batch = len(images)

    def chosen(share: float) -> torch.Tensor:
        return torch.rand(batch, 1, 1, 1, generator=generator) < share

    lines = outlines_of(images, generator)
    steps = torch.randint(2, 5, (batch, 1, 1, 1), generator=generator)
    images = torch.where(chosen(FLAT), (images * steps).round() / steps, images)
    images = torch.where(chosen(GREY), images.mean(1, keepdim=True), images)
    outlined = chosen(OUTLINED)
    images = torch.where(outlined & chosen(EMPTY / OUTLINED), torch.ones_like(images), images)
    ink = 0.2 * torch.rand(batch, 1, 1, 1, generator=generator)
    images = torch.where(outlined, images * (1 - lines) + ink * lines, images)
    soft = _blurred(_blurred(images))
    return torch.where(chosen(BLURRED), soft, images)


def warped(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Images turned by up to 14 degrees, stretched, sheared, moved, and half of them mirrored.

    Args:
        images: `(batch, 3, side, side)` in [0, 1], on white.
        generator: Of all that is random.
    """
    batch = len(images)

    def between(low: float, high: float) -> torch.Tensor:
        return low + (high - low) * torch.rand(batch, generator=generator)

    angle, shear = between(-0.25, 0.25), between(-0.12, 0.12)
    wide, high = between(0.9, 1.14), between(0.9, 1.14)
    mirror = torch.where(between(0, 1) < 0.5, -1.0, 1.0)
    first = torch.stack([mirror * angle.cos() * wide, -angle.sin() + shear, between(-0.08, 0.08)], -1)
    second = torch.stack([mirror * angle.sin(), angle.cos() * high, between(-0.08, 0.08)], -1)
    grid = affine_grid(torch.stack([first, second], 1), list(images.shape), align_corners=False)
    return grid_sample(images - 1, grid, align_corners=False) + 1


def outlines_of(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Where lines would be drawn, `(batch, 1, side, side)` in [0, 1]; thick ones for half of the images.

    Args:
        images: `(batch, 3, side, side)` in [0, 1], on white.
        generator: Of how thick they are.
    """
    soft = pad(_blurred(images), (1, 1, 1, 1), mode="replicate")
    rise = (max_pool2d(soft, 3, 1) + max_pool2d(-soft, 3, 1)).amax(1, keepdim=True)
    lines = ((rise - 0.12) * 8).clamp(0, 1)
    thick = torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5
    return torch.where(thick, max_pool2d(lines, 3, 1, 1), lines)


def _blurred(images: torch.Tensor) -> torch.Tensor:
    return avg_pool2d(pad(images, (1, 1, 1, 1), mode="replicate"), 3, 1)
