"""Random changes of images that leave every description true, and the normalisation of the ViT."""

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
