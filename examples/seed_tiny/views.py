"""Changed and mixed drawings, and what EfficientNet-Lite0 sees in them, for the ViT to see the same.

A student that looks at the very same image as its teacher, mixed of two more often than not, learns far more of it
than the drawings show: knowledge distillation as function matching (arXiv 2106.05237). Views come in blocks, each
drawn from its own number, so that only what EfficientNet sees is kept.
"""

import os
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from drawings import Reference, drawings, placed
from loop import device
from pixels import restyled_images
from seed_hf.evaluation.reference_models import efficientnet_features, load_efficientnet


VIEWS = 64  # in a block
SHARD = 50  # blocks in a file
MIXED = 0.6  # share of the views that are mixed with another one
SMALLEST, LARGEST = 40, 92  # pixels of a drawing's longer side


def block_of_views(data: Path, block: int) -> torch.Tensor:
    """Views `(64, 3, 96, 96)` in [0, 1]: drawings at any size and place, in any colours, restyled, mixed."""
    random, names, found = np.random.default_rng((11, block)), sorted(drawings(data)), []
    for number in random.integers(len(names), size=VIEWS):
        drawing = drawings(data)[names[number]]
        if random.random() < 0.5:
            drawing = drawing[..., random.permutation(3)]
        if random.random() < 0.5:
            drawing = drawing[:, ::-1]
        size = random.integers(SMALLEST, LARGEST)
        found.append(placed(np.ascontiguousarray(drawing), size, random.random(), random.random())[0])
    share = np.where(random.random(VIEWS) < MIXED, random.uniform(0.3, 1.0, VIEWS), 1.0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(block)
        images = torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2).float() / 255
        images, _, _ = restyled_images(images)
    kept = torch.from_numpy(share.astype(np.float32))[:, None, None, None]
    return (kept * images + (1 - kept) * images.roll(1, 0)).clamp(0, 1)


def seen_views(folder: Path, data: Path, reference: Reference, blocks: int) -> list[np.ndarray]:
    """What EfficientNet sees in the views of so many blocks, `(64, 256)` float16 each; once for `folder`."""
    model, found = None, []
    folder.mkdir(parents=True, exist_ok=True)
    for first in tqdm(range(0, blocks, SHARD), desc="views"):
        count, path = min(SHARD, blocks - first), folder / f"{first // SHARD:04d}.npy"
        if not path.exists() or len(np.load(path, mmap_mode="r")) < count:
            model = model or load_efficientnet().to(device(), memory_format=torch.channels_last)
            rows = [_seen(model, reference, block_of_views(data, block)) for block in range(first, first + count)]
            with open(path.with_suffix(".partial"), "wb") as file:
                np.save(file, np.stack(rows))
            os.replace(path.with_suffix(".partial"), path)
        found += list(np.load(path, mmap_mode="r"))[:count]
    return found


def _seen(model, reference: Reference, views: torch.Tensor) -> np.ndarray:
    pixels = (255 * views + 0.5).to(torch.uint8).permute(0, 2, 3, 1).numpy()
    features = efficientnet_features(model, [Image.fromarray(image) for image in pixels])
    return reference.of(features).numpy().astype(np.float16)
