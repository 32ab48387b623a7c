"""Finished drawings: encoded images with their colours, kept on disk so that a stopped build resumes."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from tqdm.auto import tqdm

from seed_hf.files import whole_file

from .colours import named_colours
from .emoji import on_white


# Part of the names of the kept files: raise it when a change of the drawing code changes pixels.
RENDERING = 1
WEBP = {"quality": 90, "method": 6}


@dataclass(frozen=True)
class Drawing:
    """A finished drawing.

    Args:
        key: What was drawn: an emoji's code or a clip-art file's name.
        webp: The encoded image.
        colours: The names of its colours, most frequent first.
        pixels: Digest of its RGB values; equal for images that look the same.
    """

    key: str
    webp: bytes
    colours: list[str]
    pixels: str


_SCHEMA = pa.schema({"key": pa.string(), "webp": pa.binary(), "colours": pa.list_(pa.string()), "pixels": pa.string()})


def finish_drawing(key: str, drawn: Image.Image) -> Drawing | None:
    """Put an RGBA image on white and encode it as WebP; `None` for a blank one."""
    image = on_white(drawn)
    if image.getextrema() == ((255, 255),) * 3:
        return None
    encoded = io.BytesIO()
    image.save(encoded, "WEBP", **WEBP)
    pixels = hashlib.sha256(image.tobytes()).hexdigest()
    return Drawing(key, encoded.getvalue(), named_colours(drawn), pixels)


def kept_drawings(
    path: Path, keys: Iterable[str], draw: Callable[[str], Image.Image | None], label: str
) -> dict[str, Drawing]:
    """Drawings by key: read from `path` if an earlier build wrote it, else drawn and written there.

    Args:
        path: A Parquet file whose name has the `fingerprint` of everything that the drawings depend on.
        keys: What to draw.
        draw: Gives the RGBA image of a key, or `None` where it cannot be drawn; such keys are left out.
        label: For the progress bar.
    """
    if path.is_file():
        return {record["key"]: Drawing(**record) for record in pq.read_table(path).to_pylist()}
    drawings = {}
    for key in tqdm(list(keys), desc=label, unit="image"):
        drawn = draw(key)
        if drawn is not None and (drawing := finish_drawing(key, drawn)):
            drawings[key] = drawing
    write_table(pa.Table.from_pylist([asdict(drawing) for drawing in drawings.values()], schema=_SCHEMA), path)
    return drawings


def fingerprint(*parts: object) -> str:
    """A short digest of what a file depends on: bytes, and anything with a stable repr."""
    digest = hashlib.sha256(str(RENDERING).encode())
    for part in parts:
        digest.update(part if isinstance(part, bytes) else repr(part).encode())
        digest.update(b"\0")
    return digest.hexdigest()[:16]


def write_table(table: pa.Table, path: Path, **options) -> None:
    """Write a Parquet file whole; its folder is made if missing. `options` go to `pyarrow.parquet.write_table`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as unfinished:
        pq.write_table(table, unfinished, **options)
