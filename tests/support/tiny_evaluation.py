"""Rows in the form of the pictograms."""

import io

import numpy as np
from PIL import Image


COLOURS = {"red": (220, 30, 30), "green": (40, 170, 60), "blue": (40, 80, 210)}


def pictogram_rows(count: int, seed: int = 0) -> list[dict]:
    """Rows in the form of the pictograms: noisy images of one colour, three captions."""
    noise = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        colour = list(COLOURS)[number % 3]
        pixels = np.array(COLOURS[colour]) + noise.integers(-90, 90, (24, 24, 3))
        file = io.BytesIO()
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, "PNG")
        rows.append(
            {
                "id": f"noto/{number}",
                "image": {"bytes": file.getvalue(), "path": None},
                "caption": f"a {colour} apple",
                "style": "noto",
                "style_phrase": "a Noto emoji",
                "category": "food-drink",
                "subcategory": "food-fruit",
                "colours": [colour],
            }
        )
    return rows
