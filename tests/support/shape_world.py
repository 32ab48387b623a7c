"""A small world of three things that are easy to tell apart: disks, squares and triangles, in two styles each."""

import io
from functools import cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageDraw

from seed_hf.pictograms.scene_things import UNSEEN_STYLE, Thing
from seed_hf.pictograms.scenes import held_out_pair


STYLES = ("noto", "twemoji", UNSEEN_STYLE)
SHAPES = ("disk", "square", "triangle")


@cache
def shapes() -> tuple[Thing, ...]:
    """The three things, named so that none of their pairs is held out."""
    for number in range(1000):
        names = [f"{shape}{number or ''}" for shape in SHAPES]
        if not any(held_out_pair(a, b) for a in names for b in names if a < b):
            break
    return tuple(Thing(name, (), {style: (f"{style}/{name}",) for style in STYLES}) for name in names)


def write_shapes(folder: Path) -> Path:
    """`train.parquet` and `test_style.parquet` with their drawings, orange with a black outline."""
    tables: dict[str, list] = {"train": [], "test_style": []}
    for thing in shapes():
        for style in STYLES:
            split = "test_style" if style == UNSEEN_STYLE else "train"
            image = {"bytes": _png(thing.name, wide=style == "twemoji"), "path": None}
            tables[split].append({"id": f"{style}/{thing.name}", "image": image})
    folder.mkdir(parents=True, exist_ok=True)
    for split, rows in tables.items():
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{split}.parquet")
    return folder


def _png(name: str, wide: bool) -> bytes:
    image = Image.new("RGB", (128, 128), "white")
    pen = ImageDraw.Draw(image)
    left, right = (4, 123) if wide else (18, 109)
    if name.startswith("disk"):
        pen.ellipse((left, 14, right, 113), fill="orange", outline="black", width=4)
    elif name.startswith("square"):
        pen.rectangle((left, 14, right, 113), fill="orange", outline="black", width=4)
    else:
        pen.polygon([(64, 8), (right, 118), (left, 118)], fill="orange", outline="black", width=4)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
