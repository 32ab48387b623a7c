"""The drawings of the things, cut out, at any size, in any of the eleven colours."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from .scene_colours import RAMPS
from .scene_things import UNSEEN_STYLE, Thing


MARGIN = 2  # pixels of white around a drawing that is cut out
MOSTLY = 0.45  # share of a drawing that takes a new colour, so that one says it has it
LARGEST = 96  # pixels of the longer side that are kept of a drawing


class Sprite:
    """One drawing, cut out, in memory at its full size and at every size that was asked for.

    Four things are known of every pixel, all uint8: its own colour, how much of it takes a new colour, its lightness
    against the drawing's middle lightness, as a row of a colour's ramp, and whether it belongs to the drawing.

    Args:
        image: `(height, width, 3)` uint8, a drawing on white.
    """

    __slots__ = ("_planes", "_sizes")

    def __init__(self, image: np.ndarray):
        rgb = _cropped(image)
        weight, tone, inside = _coloured_part(rgb.astype(np.float32))
        planes = (rgb, *(_bytes(plane) for plane in (255 * weight, tone, 255 * inside)))
        self._planes = _resized(planes, LARGEST) if max(rgb.shape) > LARGEST else planes
        self._sizes: dict[int, tuple[np.ndarray, ...]] = {}

    def drawn(self, size: int, colour: str | None) -> np.ndarray:
        """The drawing, `(height, width, 3)` uint8, its longer side `size` pixels, on white.

        Args:
            size: pixels of the longer side.
            colour: one of the eleven; None for as drawn.
        """
        if size not in self._sizes:
            self._sizes[size] = self._scaled(size)
        rgb, weight, tone, edge = self._sizes[size]
        if colour is None:
            return rgb
        mixed = rgb + (RAMPS[colour][tone] - rgb) * (weight * np.float32(1 / 255))[..., None]
        if colour == "white":  # a white thing on white has an edge
            mixed *= (edge * np.float32(1 / 255))[..., None]
        return (mixed + 0.5).astype(np.uint8)

    def _scaled(self, size: int) -> tuple[np.ndarray, ...]:
        rgb, weight, tone, inside = _resized(self._planes, size)
        share = inside / 255
        edge = 1 - 0.28 * np.clip(4 * share * (1 - _shrunk(share)), 0, 1)
        return rgb, weight, tone, _bytes(255 * edge)


def _bytes(plane: np.ndarray) -> np.ndarray:
    return np.clip(plane + 0.5, 0, 255).astype(np.uint8)


def _resized(planes: tuple[np.ndarray, ...], size: int) -> tuple[np.ndarray, ...]:
    """The planes with a longer side of `size` pixels."""
    height, width = planes[0].shape[:2]
    scale = size / max(height, width)
    shape = (max(1, round(width * scale)), max(1, round(height * scale)))
    return tuple(np.asarray(Image.fromarray(plane).resize(shape, Image.Resampling.BICUBIC)) for plane in planes)


def _shrunk(inside: np.ndarray) -> np.ndarray:
    """The least of every pixel and its four neighbours."""
    padded = np.pad(inside, 1)
    return np.minimum.reduce([inside, padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]])


def _cropped(image: np.ndarray) -> np.ndarray:
    """The part of the picture that is not white."""
    drawn = image.min(-1) < 244
    rows, columns = np.flatnonzero(drawn.any(1)), np.flatnonzero(drawn.any(0))
    if not len(rows):
        return image
    top, bottom = max(0, rows[0] - MARGIN), rows[-1] + 1 + MARGIN
    left, right = max(0, columns[0] - MARGIN), columns[-1] + 1 + MARGIN
    return image[top:bottom, left:right]


def outside_of(ink: np.ndarray) -> np.ndarray:
    """The ground: what is reached from the border without crossing ink, `(height, width)` bool.

    Args:
        ink: `(height, width)` bool.
    """
    free = np.pad(~ink, 1, constant_values=True)
    reached = np.zeros_like(free)
    reached[0] = reached[-1] = reached[:, 0] = reached[:, -1] = True
    while True:
        grown = reached.copy()
        grown[1:] |= reached[:-1]
        grown[:-1] |= reached[1:]
        grown[:, 1:] |= reached[:, :-1]
        grown[:, :-1] |= reached[:, 1:]
        grown &= free
        if (grown == reached).all():
            return reached[1:-1, 1:-1]
        reached = grown


def _coloured_part(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(how much of each pixel takes a new colour, its row of a ramp, whether it belongs to the drawing)

    Outlines (dark, hardly any hue), whites and highlights keep their colour. Where they are nearly all there is, as in
    a cloud, a penguin or a top hat, the whites or the darks are what is coloured.
    """
    top, low = rgb.max(-1), rgb.min(-1)
    chroma = (top - low) / 255
    lightness = (rgb @ np.array([0.299, 0.587, 0.114], np.float32)) / 255
    inside = 1.0 - outside_of(low <= 246)
    dark = _step(0.34 - 0.2 * np.minimum(1, 2 * chroma) - lightness)
    white = _step(lightness - 0.9) * _step(0.14 - chroma)
    weight = inside * (1 - dark) * (1 - white)
    share = weight.sum() / max(1.0, inside.sum())
    if share < MOSTLY:
        others = dark if (inside * white).sum() >= (inside * dark).sum() else white
        weight = inside * (1 - others)
    taken = weight > 0.5
    middle = np.median(lightness[taken]) if taken.any() else 0.5
    spread = max(0.18, float(np.percentile(np.abs(lightness[taken] - middle), 90))) if taken.any() else 0.3
    tone = 128 + 112 * np.clip((lightness - middle) / (1.25 * spread), -1.13, 1.13)
    return weight.astype(np.float32), tone.astype(np.float32), inside.astype(np.float32)


def _step(value: np.ndarray) -> np.ndarray:
    """0 below -0.04, 1 above 0.04, a straight line between."""
    return np.clip(value / 0.08 + 0.5, 0, 1)


def load_sprites(folder: str | Path, things: Iterable[Thing], splits: Iterable[str] = ("train",)) -> dict[str, Sprite]:
    """The drawings of these things in these splits, by row id.

    Args:
        folder: folder with the Parquet files of the pictogram set.
        things: whose art is loaded.
        splits: "train", and "test_style" for OpenMoji's art.

    Raises:
        FileNotFoundError: a split is not there, or a drawing is in none of these splits that should be.
    """
    import pyarrow.parquet as pq

    unseen = "test_style" in splits
    wanted = {
        row_id
        for thing in things
        for style, ids in thing.art.items()
        for row_id in ids
        if unseen or style != UNSEEN_STYLE
    }
    found = {}
    for split in splits:
        path = Path(folder) / f"{split}.parquet"
        if not path.is_file():
            raise FileNotFoundError(
                f"{path} does not exist; build the pictogram set with `seed-hf data pictograms --out {folder}`"
            )
        table = pq.read_table(path, columns=["id", "image"])
        for row_id, image in zip(table["id"].to_pylist(), table["image"].to_pylist()):
            if row_id in wanted:
                found[row_id] = Sprite(np.asarray(Image.open(io.BytesIO(image["bytes"])).convert("RGB")))
    if missing := sorted(wanted - found.keys()):
        raise FileNotFoundError(
            f"{folder} lacks {len(missing)} of {len(wanted)} drawings, such as {missing[0]}: things.json lists rows "
            "of the whole pictogram set, clip art aside. Build that set again, or give another folder."
        )
    return found
