"""Draws a folder of captioned images to fine-tune on: "two red squares", "one blue heart", "three black stars".

    python make_pictures.py --out pictures --count 200

The folder is an image folder as `datasets` reads it: images, and their captions in `metadata.jsonl`. Number, colour
and shape are uniform and independent, so that a few dozen images do not have every caption.
"""

import argparse
import json
import math
import random
from pathlib import Path

from PIL import Image, ImageDraw


COLOURS = {
    "red": (214, 40, 40),
    "orange": (247, 127, 0),
    "yellow": (252, 211, 30),
    "green": (56, 142, 60),
    "blue": (25, 95, 200),
    "purple": (123, 44, 191),
    "black": (30, 30, 30),
}
SHAPES = ("circle", "square", "triangle", "star", "heart")
# Number of shapes: its word, their centres and their radius, in pixels of a 256 x 256 image.
NUMBERS = (
    ("one", [(128, 128)], 88),
    ("two", [(72, 128), (184, 128)], 50),
    ("three", [(128, 72), (68, 180), (188, 180)], 46),
)
SIZE = 256


def make_pictures(out: Path, count: int = 200, seed: int = 0, size: int = 64) -> Path:
    """Draw `count` images of `size` x `size` pixels into the folder `out`, which may be new.

    Raises:
        ValueError: `count` or `size` is not positive.
        FileExistsError: The folder is not empty.
    """
    if count < 1 or size < 1:
        raise ValueError(f"count and size must be at least 1, got {count} and {size}.")
    out = Path(out)
    if out.is_dir() and any(out.iterdir()):
        raise FileExistsError(f"{out} is not empty. Give a new folder.")
    out.mkdir(parents=True, exist_ok=True)
    rng = random.Random(seed)
    lines = []
    for number in range(count):
        picture, caption = draw_picture(rng)
        name = f"{number:05}.png"
        picture.resize((size, size), Image.Resampling.LANCZOS).save(out / name)
        lines.append(json.dumps({"file_name": name, "caption": caption}) + "\n")
    (out / "metadata.jsonl").write_text("".join(lines), encoding="utf-8")
    return out


def draw_picture(rng: random.Random) -> tuple[Image.Image, str]:
    """An image and its caption. Position, size, angle and shade of the shapes vary a little."""
    (number, centres, radius), colour, shape = rng.choice(NUMBERS), rng.choice(list(COLOURS)), rng.choice(SHAPES)
    picture = Image.new("RGB", (SIZE, SIZE), "white")
    canvas = ImageDraw.Draw(picture)
    for x, y in centres:
        x, y, r = x + rng.uniform(-10, 10), y + rng.uniform(-10, 10), radius * rng.uniform(0.8, 1.05)
        turn = rng.uniform(-0.2, 0.2)
        shade = tuple(max(0, min(255, value + rng.randint(-15, 15))) for value in COLOURS[colour])
        canvas.polygon([(x + r * dx, y + r * dy) for dx, dy in outline(shape, turn)], fill=shade)
    return picture, f"{number} {colour} {shape}{'' if number == 'one' else 's'}"


def outline(shape: str, turn: float) -> list[tuple[float, float]]:
    """The corners of a shape of radius 1 around (0, 0), rotated by `turn` radians."""
    if shape == "heart":
        points = []
        for i in range(60):
            t = i * math.pi / 30
            points.append((1.1 * math.sin(t) ** 3, -1.1 / 16 * _heart(t)))
        return [_turned(x, y, turn) for x, y in points]
    corners = {"circle": 60, "square": 4, "triangle": 3, "star": 10}[shape]
    start = math.pi / 4 if shape == "square" else -math.pi / 2
    radii = {"circle": (1.0,), "square": (1.2,), "triangle": (1.15,), "star": (1.2, 0.5)}[shape]
    points = []
    for i in range(corners):
        angle, radius = start + 2 * math.pi * i / corners, radii[i % len(radii)]
        points.append(_turned(radius * math.cos(angle), radius * math.sin(angle), turn))
    return points


def _heart(t: float) -> float:
    return 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)


def _turned(x: float, y: float, turn: float) -> tuple[float, float]:
    return x * math.cos(turn) - y * math.sin(turn), x * math.sin(turn) + y * math.cos(turn)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="new folder")
    parser.add_argument("--count", type=int, default=200, help="number of images (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the random choices (default: %(default)s)")
    arguments = parser.parse_args()
    try:
        make_pictures(arguments.out, arguments.count, arguments.seed)
    except (ValueError, FileExistsError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
