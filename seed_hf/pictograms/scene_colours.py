"""The eleven basic colour terms, and how a drawing gets one of them."""

from __future__ import annotations

import numpy as np

from .colours import D65, SRGB_TO_XYZ, srgb_to_lab


# sRGB of a typical tone of each.
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (214, 32, 40),
    "orange": (245, 135, 20),
    "yellow": (250, 212, 40),
    "green": (50, 160, 60),
    "blue": (35, 95, 220),
    "purple": (128, 60, 185),
    "pink": (245, 130, 180),
    "brown": (125, 72, 38),
    "black": (32, 32, 36),
    "grey": (140, 144, 150),
    "white": (236, 238, 242),
}
# The 18 colour names of the pictogram set -> basic colour terms.
_BASIC = {"light green": "green", "teal": "green", "light blue": "blue", "dark blue": "blue", "dark grey": "black",
          "light grey": "white", "tan": "brown"}  # fmt: skip
# How far shadows and lights of a drawing may go from the tone, in Lab lightness.
_REACH = {"black": (18, 30), "white": (26, 6), "grey": (22, 18)}
_REACH_OF_OTHERS = (30, 24)


def basic_colour(name: str) -> str:
    """The basic colour term for one of the pictogram set's 18 colour names."""
    return _BASIC.get(name, name)


def lab_to_srgb(lab: np.ndarray) -> np.ndarray:
    """CIE Lab (..., 3) -> sRGB (..., 3) in [0, 255], clipped."""
    y = (lab[..., 0] + 16) / 116
    root = np.stack([y + lab[..., 1] / 500, y, y - lab[..., 2] / 200], axis=-1)
    xyz = np.where(root > 0.206897, root**3, (root - 16 / 116) / 7.787) * D65
    linear = np.clip(xyz @ np.linalg.inv(SRGB_TO_XYZ).T, 0, 1)
    return 255 * np.where(linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, 12.92 * linear)


def ramp(colour: str) -> np.ndarray:
    """The tones of a colour from its deepest shadow (row 0) over itself (row 128) to its light (row 255), (256, 3)."""
    lightness, a, b = srgb_to_lab(np.array(COLOURS[colour]))
    down, up = _REACH.get(colour, _REACH_OF_OTHERS)
    step = np.linspace(-1, 1, 256)
    reached = np.clip(lightness + np.where(step < 0, step * down, step * up), 4, 99)
    chroma = 1 - 0.35 * np.abs(step)
    return lab_to_srgb(np.stack([reached, a * chroma, b * chroma], -1)).astype(np.float32)


RAMPS = {colour: ramp(colour) for colour in COLOURS}
