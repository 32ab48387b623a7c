"""Finished pictures: encoded, with their colours, and kept on disk so that a stopped build goes on where it was."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from tqdm.auto import tqdm

from seed_hf.files import whole_file

from .captions import rich_caption
from .colours import named_colours
from .emoji import Style, on_white


# Part of the names of the kept files: raise it when a change of the drawing code changes pixels.
RENDERING = 1
WEBP = {"quality": 90, "method": 6}


@dataclass(frozen=True)
class Picture:
    """A drawn picture. `pixels` is a digest of its RGB values: equal for pictures that cannot be told apart."""

    key: str
    webp: bytes
    colours: list[str]
    pixels: str


_SCHEMA = pa.schema({"key": pa.string(), "webp": pa.binary(), "colours": pa.list_(pa.string()), "pixels": pa.string()})


def finish_picture(key: str, drawing: Image.Image) -> Picture | None:
    """Put an RGBA drawing on white and encode it as WebP; None where there is nothing to see."""
    picture = on_white(drawing)
    if all(darkest == 255 for darkest, _ in picture.getextrema()):
        return None
    encoded = io.BytesIO()
    picture.save(encoded, "WEBP", **WEBP)
    pixels = hashlib.sha256(picture.tobytes()).hexdigest()
    return Picture(key, encoded.getvalue(), named_colours(drawing), pixels)


def kept_pictures(
    path: Path, keys: Iterable[str], draw: Callable[[str], Image.Image | None], label: str
) -> dict[str, Picture]:
    """The pictures of `keys`, from the file `path` if an earlier build wrote it, else drawn now and written to it.

    Args:
        path: a Parquet file whose name tells everything that the pictures depend on (see `fingerprint`).
        keys: what to draw.
        draw: gives the RGBA drawing of a key, or None where it cannot be drawn; such keys are left out.
        label: for the progress bar.
    """
    if path.is_file():
        return {record["key"]: Picture(**record) for record in pq.read_table(path).to_pylist()}
    pictures = {}
    for key in tqdm(list(keys), desc=label, unit="picture"):
        drawing = draw(key)
        if drawing is not None and (picture := finish_picture(key, drawing)):
            pictures[key] = picture
    write_whole(pa.Table.from_pylist([asdict(picture) for picture in pictures.values()], schema=_SCHEMA), path)
    return pictures


def make_row(
    style: Style,
    concept: str,
    picture: Picture,
    *,
    caption: str,
    category: str,
    subcategory: str,
    keywords: list[str],
    definition: str,
    source: str,
) -> dict[str, Any]:
    """One row of the set, in the order of its columns."""
    return {
        "id": f"{style.name}/{concept}",
        "image": {"bytes": picture.webp, "path": None},
        "caption": caption,
        "rich_caption": rich_caption(style.phrase, caption, picture.colours, definition, keywords),
        "style": style.name,
        "style_phrase": style.phrase,
        "concept": concept,
        "category": category,
        "subcategory": subcategory,
        "keywords": keywords,
        "colours": picture.colours,
        "definition": definition,
        "licence": style.licence,
        "source": source,
    }


def fingerprint(*parts: object) -> str:
    """A short digest of what a file depends on; bytes and anything with a stable repr."""
    digest = hashlib.sha256(str(RENDERING).encode())
    for part in parts:
        digest.update(part if isinstance(part, bytes) else repr(part).encode())
        digest.update(b"\0")
    return digest.hexdigest()[:16]


def write_whole(table: pa.Table, path: Path, **options) -> None:
    """Write a Parquet file under a temporary name and rename it, so that a file that is there is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as unfinished:
        pq.write_table(table, unfinished, **options)
