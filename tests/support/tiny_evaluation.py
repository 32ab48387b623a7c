"""Rows in the form of the pictograms, and a judge that sees only colours."""

import io

import numpy as np
import torch
from PIL import Image

from seed_hf.evaluation.judge import Judge, train_heads
from seed_hf.evaluation.sets import open_picture, read_rows


class TinyReferences:
    """Replaces the reference models: an image's features are its mean colour, a caption's its words."""

    def pictures(self, pictures):
        return torch.tensor([picture.resize((1, 1)).getpixel((0, 0)) for picture in pictures]) / 255

    def captions(self, captions):
        return torch.tensor([[float(word in caption) for word in ("red", "green", "blue")] for caption in captions])

    def split(self, data_dir, split):
        return self.pictures([open_picture(row) for row in read_rows(data_dir, split)])


def colour_judge() -> Judge:
    colours, owners = torch.eye(3), torch.arange(3).repeat(8)
    heads = train_heads(colours[owners], colours, owners, epochs=60, batch_size=6, dim=4, learning_rate=1e-2)
    return Judge(heads, TinyReferences())


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
