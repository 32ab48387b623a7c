"""The named colours of an image, measured from its pixels."""

from __future__ import annotations

from collections import Counter

import numpy as np
from PIL import Image


PALETTE = {
    "red": (204, 30, 40),
    "orange": (245, 140, 30),
    "yellow": (252, 210, 50),
    "green": (60, 160, 60),
    "light green": (160, 215, 90),
    "light blue": (120, 195, 240),
    "dark blue": (25, 40, 110),
    "dark grey": (80, 85, 90),
    "light grey": (208, 212, 216),
    "teal": (0, 150, 150),
    "blue": (40, 90, 210),
    "purple": (130, 70, 180),
    "pink": (245, 140, 180),
    "brown": (125, 75, 45),
    "tan": (215, 170, 120),
    "black": (25, 25, 28),
    "grey": (150, 155, 160),
    "white": (253, 253, 253),
}
MAX_COLOURS = 3
MIN_SHARE = 0.15  # of the opaque pixels
MIN_PIXELS = 20  # of the 48 x 48 that are looked at
LIGHTNESS_WEIGHT = 0.6  # shading changes the lightness more than the hue


SRGB_TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
D65 = np.array([0.95047, 1.0, 1.08883])


def srgb_to_lab(rgb: np.ndarray) -> np.ndarray:
    """sRGB (..., 3) in [0, 255] -> CIE Lab (..., 3), white point D65."""
    value = np.asarray(rgb, dtype=np.float64) / 255
    linear = np.where(value > 0.04045, ((value + 0.055) / 1.055) ** 2.4, value / 12.92)
    xyz = linear @ SRGB_TO_XYZ.T / D65
    root = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    lightness = 116 * root[..., 1] - 16
    return np.stack([lightness, 500 * (root[..., 0] - root[..., 1]), 200 * (root[..., 1] - root[..., 2])], axis=-1)


_NAMES = list(PALETTE)
_PALETTE_LAB = srgb_to_lab(np.array(list(PALETTE.values())))


def named_colours(image: Image.Image) -> list[str]:
    """Up to three colour names of an RGBA image, most frequent first.

    The image is reduced to 48 x 48, and each opaque pixel counts for the nearest of 18 colours in Lab. A colour is
    named if at least 15 % of the opaque pixels count for it. An image with hardly any opaque pixels has no colours.
    """
    pixels = np.asarray(image.resize((48, 48), Image.Resampling.BOX)).reshape(-1, 4)
    opaque = pixels[pixels[:, 3] > 200][:, :3]
    if len(opaque) < MIN_PIXELS:
        return []
    difference = srgb_to_lab(opaque)[:, None] - _PALETTE_LAB
    nearest = (difference**2 * [LIGHTNESS_WEIGHT, 1, 1]).sum(-1).argmin(1)
    most_common = Counter(nearest.tolist()).most_common(MAX_COLOURS)
    return [_NAMES[index] for index, count in most_common if count / len(opaque) >= MIN_SHARE]
