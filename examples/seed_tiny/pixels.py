"""Random changes of images, and the normalisation of the ViT."""

import torch
from torch.nn import functional as F


CLIP_MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073])
CLIP_STD = torch.tensor([0.26862954, 0.26130258, 0.27577711])


def normalise(images: torch.Tensor) -> torch.Tensor:
    """Images in [0, 1] with CLIP's mean and standard deviation, as the image processor does."""
    mean, std = (values.to(images.device)[:, None, None] for values in (CLIP_MEAN, CLIP_STD))
    return (images - mean) / std


def random_warp(batch: int) -> torch.Tensor:
    """Small rotations, stretches and shifts, `(batch, 2, 3)`, that leave every description true."""
    angle = torch.empty(batch).uniform_(-0.15, 0.15)
    stretch = torch.empty(batch, 2).uniform_(0.92, 1.1)
    move = torch.empty(batch, 2).uniform_(-0.04, 0.04)
    top = torch.stack([angle.cos() * stretch[:, 0], -angle.sin(), move[:, 0]], -1)
    bottom = torch.stack([angle.sin(), angle.cos() * stretch[:, 1], move[:, 1]], -1)
    return torch.stack([top, bottom], 1)


def changed_images(images: torch.Tensor) -> torch.Tensor:
    """Images in [0, 1], on white: warped, and a little lighter or darker."""
    grid = F.affine_grid(random_warp(len(images)).to(images.device), images.shape, align_corners=False)
    images = F.grid_sample(images - 1, grid, align_corners=False)
    gain = torch.empty(len(images), 3, 1, 1, device=images.device).uniform_(0.92, 1.08)
    return (images * gain + 1).clamp(0, 1)


def restyled_images(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Images in [0, 1], on white, as other hands might have drawn them: bent, outlined, flat, pale, partly hidden.

    Returns:
        the images; whether each still has its colours, `(batch,)`; whether each still has its style, `(batch,)`.
    """
    images = bent_images(changed_images(images))
    where, batch = images.device, len(images)
    outlined, flat, pale, lines, grey = (
        torch.rand(batch, device=where) < share for share in (0.35, 0.25, 0.2, 0.08, 0.05)
    )
    few = torch.randint(3, 6, (batch, 1, 1, 1), device=where)
    blurred = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, 1)
    images = torch.where(flat[:, None, None, None], (blurred * few).round() / few, images)
    edges = edges_of(images)
    ink = torch.empty(batch, 3, 1, 1, device=where).uniform_(0, 0.2)
    images = torch.where(outlined[:, None, None, None], images * (1 - edges) + ink * edges, images)
    strength = torch.empty(batch, 1, 1, 1, device=where).uniform_(0.4, 1)
    images = torch.where(pale[:, None, None, None], 1 - strength * (1 - images), images)
    images = torch.where(grey[:, None, None, None], images.mean(1, keepdim=True), images)
    images = torch.where(lines[:, None, None, None], 1 - edges, images)
    return hidden_in_part(images), ~(pale | lines | grey), ~(outlined | flat | pale | lines)


def bent_images(images: torch.Tensor) -> torch.Tensor:
    """Images bent smoothly, by up to about 3 of 96 pixels."""
    batch, _, height, width = images.shape
    where = images.device
    amount = torch.empty(batch, 1, 1, 1, device=where).uniform_(0, 0.035)
    bend = F.interpolate(torch.randn(batch, 2, 5, 5, device=where) * amount, (height, width), mode="bicubic")
    straight = F.affine_grid(torch.eye(2, 3, device=where).expand(batch, -1, -1), images.shape, align_corners=False)
    return F.grid_sample(images - 1, straight + bend.permute(0, 2, 3, 1), align_corners=False) + 1


def edges_of(images: torch.Tensor) -> torch.Tensor:
    """Where lines would be drawn, `(batch, 1, height, width)` in [0, 1]; for half of the images they are thick."""
    light = F.pad(images.mean(1, keepdim=True), (1, 1, 1, 1), value=1.0)
    rise = F.max_pool2d(light, 3, 1) + F.max_pool2d(-light, 3, 1)
    edges = ((rise - 0.1) * 6).clamp(0, 1)
    thick = torch.rand(len(images), 1, 1, 1, device=images.device) < 0.5
    return torch.where(thick, F.max_pool2d(edges, 3, 1, 1), edges)


def hidden_in_part(images: torch.Tensor) -> torch.Tensor:
    """Images of which three in ten have a white rectangle somewhere, a quarter of the side or less."""
    batch, _, height, width = images.shape
    where = images.device
    centre = torch.rand(batch, 2, 1, device=where)
    half = torch.empty(batch, 2, 1, device=where).uniform_(0.04, 0.125)
    half = half * (torch.rand(batch, 1, 1, device=where) < 0.3)
    down, across = torch.linspace(0, 1, height, device=where), torch.linspace(0, 1, width, device=where)
    rows, columns = (down - centre[:, 0]).abs() < half[:, 0], (across - centre[:, 1]).abs() < half[:, 1]
    return torch.where((rows[:, :, None] & columns[:, None, :])[:, None], torch.ones_like(images), images)
