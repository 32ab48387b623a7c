"""The training pictures as one uint8 tensor, and the random changes that training makes to them."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from features import decode, pictures


CLIP_MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073])
CLIP_STD = torch.tensor([0.26862954, 0.26130258, 0.27577711])


def load_pixels(data: Path, split: str, size: int, cache: Path | None = None) -> torch.Tensor:
    """`(rows, 3, size, size)` uint8, squashed bicubically as the image processor does."""
    path = cache / f"{split}.{size}.npy" if cache else None
    if path and path.exists():
        return torch.from_numpy(np.load(path))
    rows = [
        np.asarray(decode(raw).resize((size, size), Image.Resampling.BICUBIC)).transpose(2, 0, 1)
        for raw in tqdm(pictures(data, split), desc=f"{split} {size} px", mininterval=10)
    ]
    stacked = np.stack(rows)
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, stacked)
    return torch.from_numpy(stacked)


def normalise(pixels: torch.Tensor) -> torch.Tensor:
    """uint8 -> float with CLIP's mean and standard deviation, as the image processor does."""
    mean, std = (values.to(pixels.device)[:, None, None] for values in (CLIP_MEAN, CLIP_STD))
    return (pixels.float() / 255 - mean) / std


def random_affine(batch: int, strength: float = 1.0) -> torch.Tensor:
    """Random flips, scales, rotations and shifts as `(batch, 2, 3)` matrices for `affine_grid`."""
    size = torch.empty(batch).uniform_(1 - 0.25 * strength, 1 + 0.15 * strength)
    stretch = torch.empty(batch).uniform_(1 - 0.12 * strength, 1 + 0.14 * strength)
    angle = torch.empty(batch).uniform_(-0.2 * strength, 0.2 * strength)
    flip = torch.where(torch.rand(batch) < 0.5, -1.0, 1.0)
    cos, sin = torch.cos(angle) / size, torch.sin(angle) / size
    move = torch.empty(batch, 2).uniform_(-0.12 * strength, 0.12 * strength)
    top = torch.stack([flip * cos * stretch, -sin, move[:, 0]], -1)
    bottom = torch.stack([flip * sin, cos / stretch, move[:, 1]], -1)
    return torch.stack([top, bottom], 1)


def warp(images: torch.Tensor, theta: torch.Tensor, fill: float) -> torch.Tensor:
    """Apply the affine maps; what comes from outside the picture is `fill`."""
    grid = torch.nn.functional.affine_grid(theta, images.shape, align_corners=False)
    return torch.nn.functional.grid_sample(images - fill, grid, align_corners=False) + fill


def jitter_colours(images: torch.Tensor, strength: float = 1.0) -> torch.Tensor:
    """Random brightness, contrast, channel gains and now and then grey, on pictures in [0, 1]."""
    batch, change = images.shape[0], 0.2 * strength
    gain = torch.empty(batch, 3, 1, 1).uniform_(1 - change, 1 + change)
    gain = gain * torch.empty(batch, 1, 1, 1).uniform_(1 - change, 1 + change)
    contrast = torch.empty(batch, 1, 1, 1).uniform_(1 - 1.25 * change, 1 + 1.5 * change)
    mean = images.mean((1, 2, 3), keepdim=True)
    out = ((images - mean) * contrast + mean) * gain
    grey = torch.rand(batch, 1, 1, 1) < 0.1 * strength
    return torch.where(grey, out.mean(1, keepdim=True), out).clamp(0, 1)
