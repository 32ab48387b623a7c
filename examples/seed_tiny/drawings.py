"""All drawings of the training split, not only those of the world's things: shapes to learn from, without their names.

What is held out as unseen art is not among them, and OpenMoji is no part of the training split.
"""

import io
import os
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch.nn import functional as F

from loop import device
from seed_hf.evaluation.reference_models import efficientnet_features, load_efficientnet
from world import world


SIDE = 96
LARGEST = 86  # pixels of the longer side
DIRECTIONS = 256  # of EfficientNet's features that differ most between drawings


@cache
def drawings(data: Path) -> dict[str, np.ndarray]:
    """Drawing by row id, `(height, width, 3)` uint8, cut out, its longer side `LARGEST` pixels."""
    held_out = {art for thing in world().things.values() for art in thing.art.get(thing.held_out_style, ())}
    table = pq.read_table(data / "train.parquet", columns=["id", "image"])
    found = {}
    for name, image in zip(table["id"].to_pylist(), table["image"].to_pylist()):
        if name not in held_out:
            found[name] = _cut_out(Image.open(io.BytesIO(image["bytes"])).convert("RGB"))
    return found


def _cut_out(image: Image.Image) -> np.ndarray:
    drawn = np.asarray(image).min(-1) < 244
    rows, columns = np.flatnonzero(drawn.any(1)), np.flatnonzero(drawn.any(0))
    if len(rows):
        image = image.crop((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
    return _scaled(image, LARGEST)


def _scaled(image: Image.Image, longer: int) -> np.ndarray:
    scale = longer / max(image.size)
    size = tuple(max(1, round(side * scale)) for side in image.size)
    return np.asarray(image.resize(size, Image.Resampling.BICUBIC))


def placed(drawing: np.ndarray, longer: int, x: float, y: float) -> tuple[np.ndarray, tuple[float, float, float]]:
    """(an image `(96, 96, 3)` uint8 with the drawing on white, the square around it as centre and share of the side)

    Args:
        drawing: uint8.
        longer: pixels that its longer side gets.
        x, y: where between the edges it stands, from 0 to 1.
    """
    scaled = _scaled(Image.fromarray(drawing), longer)
    height, width = scaled.shape[:2]
    top, left = round(y * (SIDE - height)), round(x * (SIDE - width))
    image = np.full((SIDE, SIDE, 3), 255, np.uint8)
    image[top : top + height, left : left + width] = scaled
    return image, ((left + width / 2) / SIDE, (top + height / 2) / SIDE, longer / SIDE)


class Reference:
    """What EfficientNet-Lite0 sees, in the directions in which drawings differ most, as unit vectors `(256,)`.

    Computed once for `folder`, of each drawing on its own, in its own colours.
    """

    def __init__(self, folder: Path, data: Path):
        path, names = folder / "reference.npz", sorted(drawings(data))
        if not path.exists():
            partial = path.with_suffix(".partial.npz")
            np.savez(partial, **_of_drawings([drawings(data)[name] for name in names]))
            os.replace(partial, path)
        kept = np.load(path)
        self._middle, self._axes = (torch.from_numpy(kept[name]) for name in ("middle", "axes"))
        self.alone = dict(zip(names, torch.from_numpy(kept["alone"]).float()))

    def of(self, features: torch.Tensor) -> torch.Tensor:
        """Unit vectors `(images, 256)` of EfficientNet's features `(images, 1280)`."""
        return _in_directions(features.float().cpu(), self._middle, self._axes)


def _in_directions(features: torch.Tensor, middle: torch.Tensor, axes: torch.Tensor) -> torch.Tensor:
    return F.normalize((features - middle) @ axes, dim=-1)


def _of_drawings(alone: list[np.ndarray]) -> dict[str, np.ndarray]:
    model, rows = load_efficientnet().to(device(), memory_format=torch.channels_last), []
    for start in range(0, len(alone), 32):
        images = [placed(drawing, LARGEST, 0.5, 0.5)[0] for drawing in alone[start : start + 32]]
        rows.append(efficientnet_features(model, [Image.fromarray(image) for image in images]))
    found = torch.cat(rows).float().cpu()
    middle = found.mean(0)
    _, sizes, directions = torch.linalg.svd(found - middle, full_matrices=False)
    axes = directions[:DIRECTIONS].T / sizes[:DIRECTIONS].sqrt()  # halfway to equal sizes in all directions
    vectors = _in_directions(found, middle, axes)
    return {"middle": middle.numpy(), "axes": axes.numpy(), "alone": vectors.numpy().astype(np.float16)}
