"""Where something is drawn on white, and cut-outs of it."""

from __future__ import annotations

import numpy as np


INK = 243  # what is darker than this in one of its channels is drawn
LEAST = 12  # drawn pixels of a 64 x 64 image, below which there is nothing
MARGIN = 0.06  # of white around a cut-out, as a share of its longer side
_ROUNDS = 20

Box = tuple[int, int, int, int]


def ink_of(image: np.ndarray) -> np.ndarray:
    """Whether each pixel is drawn, `(height, width)` bool.

    Args:
        image: `(height, width, 3)` uint8, on white.
    """
    return image.min(-1) < INK


def is_blank(image: np.ndarray) -> bool:
    """Whether an image has nothing on it.

    Args:
        image: `(height, width, 3)` uint8, on white.
    """
    ink = ink_of(image)
    return bool(ink.sum() * 64 * 64 < LEAST * ink.size)


def ink_parts(image: np.ndarray, number: int) -> list[tuple[Box, np.ndarray]]:
    """The image in so many parts, by where its ink lies.

    The ink is divided among centres (k-means from the points that are farthest apart); the rest of the image is white
    in every part.

    Args:
        image: `(height, width, 3)` uint8, on white.
        number: How many; fewer come back if some hold no ink.

    Returns:
        The box (left, top, right, bottom) of each part, and the image with nothing else on it.
    """
    ink = ink_of(image)
    points = np.argwhere(ink).astype(np.float32)
    if not len(points):
        return []
    owner = _divided(points, number)
    parts = []
    for index in range(number):
        mine = points[owner == index].astype(int)
        if not len(mine):
            continue
        alone = np.full_like(image, 255)
        alone[mine[:, 0], mine[:, 1]] = image[mine[:, 0], mine[:, 1]]
        top, left = mine.min(0)
        bottom, right = mine.max(0) + 1
        parts.append(((int(left), int(top), int(right), int(bottom)), alone))
    return sorted(parts, key=lambda part: part[0])


def _divided(points: np.ndarray, number: int) -> np.ndarray:
    """The number of the centre that each point `(points, 2)` belongs to."""
    if number == 1:
        return np.zeros(len(points), int)
    middle = points.mean(0)
    centres = [points[((points - middle) ** 2).sum(1).argmax()]]
    while len(centres) < number:
        nearest = np.min([((points - centre) ** 2).sum(1) for centre in centres], axis=0)
        centres.append(points[nearest.argmax()])
    places = np.stack(centres)
    owner = np.zeros(len(points), int)
    for _ in range(_ROUNDS):
        owner = ((points[:, None] - places[None]) ** 2).sum(-1).argmin(1)
        moved = np.stack([points[owner == i].mean(0) if (owner == i).any() else places[i] for i in range(number)])
        if np.allclose(moved, places):
            break
        places = moved
    return owner


def cut_out(image: np.ndarray, box: Box | None = None) -> np.ndarray:
    """What is drawn, in the middle of a white square with a small margin, `(side, side, 3)` uint8.

    Args:
        image: `(height, width, 3)` uint8, on white.
        box: Of what is drawn; found by default.
    """
    if box is None:
        rows, columns = (np.flatnonzero(ink_of(image).any(axis)) for axis in (1, 0))
        if not len(rows):
            return image
        box = int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
    left, top, right, bottom = box
    height, width = bottom - top, right - left
    side = round(max(height, width) * (1 + 2 * MARGIN))
    square = np.full((side, side, 3), 255, np.uint8)
    down, across = (side - height) // 2, (side - width) // 2
    square[down : down + height, across : across + width] = image[top:bottom, left:right]
    return square
