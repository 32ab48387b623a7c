"""The colour of a drawing, measured from its pixels by one rule; nothing is learned."""

from __future__ import annotations

import numpy as np

from seed_hf.pictograms.colours import srgb_to_lab
from seed_hf.pictograms.scene_colours import COLOURS, RAMPS
from seed_hf.pictograms.scene_sprites import outside_of

from .cutouts import ink_of


NAMES = tuple(COLOURS)
# Outlines are black, highlights white, and shadows grey in drawings of any colour: these count for less.
WEIGHTS = {"black": 0.5, "white": 0.5, "grey": 0.7}
_TONES = 9  # of each colour's ramp
_RAMPS_LAB = np.stack([srgb_to_lab(RAMPS[name][np.linspace(16, 239, _TONES).astype(int)]) for name in NAMES])
_WEIGHTS = np.array([WEIGHTS.get(name, 1.0) for name in NAMES])


def colour_shares(drawing: np.ndarray) -> np.ndarray:
    """Share of the drawn pixels that each of the eleven colours has, `(11,)`.

    A pixel counts for the colour whose ramp, from its shadows to its lights, comes nearest to it in CIE Lab.

    Args:
        drawing: `(height, width, 3)` uint8, on white.
    """
    pixels = drawing[inside_of(drawing)]
    if not len(pixels):
        return np.zeros(len(NAMES))
    lab = srgb_to_lab(pixels)
    distance = ((lab[:, None, None] - _RAMPS_LAB) ** 2).sum(-1).min(-1)
    return np.bincount(distance.argmin(1), minlength=len(NAMES)) / len(pixels)


def measured_colour(drawing: np.ndarray) -> str | None:
    """The basic colour that most of a drawing has; `None` of a blank one.

    Args:
        drawing: `(height, width, 3)` uint8, on white.
    """
    shares = colour_shares(drawing)
    return NAMES[int((shares * _WEIGHTS).argmax())] if shares.any() else None


def inside_of(drawing: np.ndarray) -> np.ndarray:
    """Which pixels belong to a drawing, white ones within it too, `(height, width)` bool.

    Args:
        drawing: `(height, width, 3)` uint8, on white.
    """
    ink = ink_of(drawing)
    return ~outside_of(ink)
