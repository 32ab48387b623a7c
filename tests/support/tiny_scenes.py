"""Pictogram sets with a hand-made drawing for every row that a list of things names."""

import io
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageDraw

from seed_hf.pictograms.scene_things import UNSEEN_STYLE, Thing


def write_art(folder: Path, things: Iterable[Thing], side: int = 128) -> None:
    """`train.parquet` and `test_style.parquet` with one drawing for every row that these things name.

    It is an orange disk with an outline, and a light on its left.
    """
    image = Image.new("RGB", (side, side), "white")
    pen = ImageDraw.Draw(image)
    pen.ellipse((2, 2, side - 3, side - 3), fill="orange", outline="black", width=max(1, side // 24))
    pen.ellipse((side // 6, side // 3, side // 3, side // 2), fill="white")
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    tables = {"train": [], "test_style": []}
    for thing in things:
        for style, ids in thing.art.items():
            rows = [{"id": row_id, "image": {"bytes": buffer.getvalue(), "path": None}} for row_id in ids]
            tables["test_style" if style == UNSEEN_STYLE else "train"] += rows
    folder.mkdir(parents=True, exist_ok=True)
    for split, rows in tables.items():
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{split}.parquet")
