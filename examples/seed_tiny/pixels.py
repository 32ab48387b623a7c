"""The pictures as one uint8 tensor, and the random changes that training makes to them."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from features import decode, pictures_of


CLIP_MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073])
CLIP_STD = torch.tensor([0.26862954, 0.26130258, 0.27577711])


def load_pixels(data: Path, split: str, size: int) -> torch.Tensor:
    """`(rows, 3, size, size)` uint8, squashed bicubically as the image processor does."""

    def load(raw: bytes) -> np.ndarray:
        return np.asarray(decode(raw).resize((size, size), Image.Resampling.BICUBIC)).transpose(2, 0, 1)

    with ThreadPoolExecutor() as threads:
        return torch.from_numpy(np.stack(list(threads.map(load, pictures_of(data, split)))))


def normalise(pictures: torch.Tensor) -> torch.Tensor:
    """Pictures in [0, 1] with CLIP's mean and standard deviation, as the image processor does."""
    mean, std = (values.to(pictures.device)[:, None, None] for values in (CLIP_MEAN, CLIP_STD))
    return (pictures - mean) / std


def uniform(low: float, high: float, *shape: int, device: torch.device) -> torch.Tensor:
    return torch.empty(shape, device=device).uniform_(low, high)


def random_affine(batch: int, device: torch.device, strength: float = 1.0) -> torch.Tensor:
    """Random flips, scales, rotations and shifts as `(batch, 2, 3)` matrices for `affine_grid`."""
    size = uniform(1 - 0.25 * strength, 1 + 0.15 * strength, batch, device=device)
    stretch = uniform(1 - 0.12 * strength, 1 + 0.14 * strength, batch, device=device)
    angle = uniform(-0.2 * strength, 0.2 * strength, batch, device=device)
    flip = torch.where(torch.rand(batch, device=device) < 0.5, -1.0, 1.0)
    cos, sin = torch.cos(angle) / size, torch.sin(angle) / size
    move = uniform(-0.12 * strength, 0.12 * strength, batch, 2, device=device)
    top = torch.stack([flip * cos * stretch, -sin, move[:, 0]], -1)
    bottom = torch.stack([flip * sin, cos / stretch, move[:, 1]], -1)
    return torch.stack([top, bottom], 1)


def warp(images: torch.Tensor, theta: torch.Tensor, fill: float) -> torch.Tensor:
    """Apply the affine maps; what comes from outside the picture is `fill`."""
    grid = F.affine_grid(theta, images.shape, align_corners=False)
    return F.grid_sample(images - fill, grid, align_corners=False) + fill


def jitter_colours(images: torch.Tensor, strength: float = 1.0) -> torch.Tensor:
    """Random brightness, contrast, channel gains and now and then grey, on pictures in [0, 1]."""
    batch, where, change = images.shape[0], images.device, 0.2 * strength
    gain = uniform(1 - change, 1 + change, batch, 3, 1, 1, device=where)
    gain = gain * uniform(1 - change, 1 + change, batch, 1, 1, 1, device=where)
    contrast = uniform(1 - 1.25 * change, 1 + 1.5 * change, batch, 1, 1, 1, device=where)
    mean = images.mean((1, 2, 3), keepdim=True)
    out = ((images - mean) * contrast + mean) * gain
    grey = torch.rand(batch, 1, 1, 1, device=where) < 0.1 * strength
    return torch.where(grey, out.mean(1, keepdim=True), out).clamp(0, 1)


def random_view(pixels: torch.Tensor, theta: torch.Tensor, strength: float = 1.0) -> torch.Tensor:
    """uint8 pictures, moved by `theta` and coloured at random, normalised for the ViT; where nothing was is white."""
    return normalise(jitter_colours(warp(pixels.float() / 255, theta, 1.0), strength))
