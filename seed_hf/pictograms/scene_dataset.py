"""The small world as Parquet files: scenes, questions and edits, with the images in them."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PILImage

from seed_hf.files import sha256_of, whole_file

from .scene_sprites import Sprite, load_sprites
from .scene_texts import caption, captions, full_description, instruction, questions, some_caption
from .scene_things import Thing
from .scenes import SETS, Scene, World, generator, paint


logger = logging.getLogger(__name__)

TRAIN_ROWS, OTHER_ROWS = 20_000, 1_000
EDIT_SETS = ("train", "validation", "test")
ROWS_AT_ONCE = 1_000
_SETTINGS = b"seed_hf.scenes"  # in the metadata of a file: what it was made with
TEXTS = 1  # the seed of wordings and questions, beside that of the scenes


def build_scenes(
    pictograms: str | Path,
    out: str | Path,
    *,
    pixels: int = 96,
    train_rows: int = TRAIN_ROWS,
    other_rows: int = OTHER_ROWS,
    seed: int = 0,
    things: Sequence[Thing] | None = None,
) -> dict[str, int]:
    """Write one Parquet file for each set of scenes, and `edits_*.parquet` for edits.

    Everything follows from `seed`; `test_*` sets that are compared have seed 0. A file that is there with the same
    settings is left alone, so a stopped build goes on with the next one.

    Args:
        pictograms: folder with the Parquet files of the pictogram set.
        out: folder for the files.
        pixels: side of the images.
        train_rows: scenes, and edits, for training.
        other_rows: scenes of every other set.
        seed: of the scenes.
        things: the things; by default those of the package.

    Returns:
        The number of rows of each file, by its name without ending.

    Raises:
        FileNotFoundError: the pictogram set is not there, or a drawing of the list is not in it.
        ValueError: `out` holds files of other settings, or files whose settings nobody knows.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    world = World(things)
    made_with = {"pixels": pixels, "seed": seed, "things": sorted(world.things)}
    made_with["pictograms"] = [sha256_of(file) for file in sorted(Path(pictograms).glob("*.parquet"))]
    drawings = load_sprites(pictograms, world.things.values(), ("train", "test_style"))
    counts = {}
    for name in SETS:
        number = train_rows if name == "train" else other_rows
        rows = (_scene_row(world, drawings, name, seed, index, pixels) for index in range(number))
        counts[name] = _write(rows, number, _scene_features(), out / f"{name}.parquet", made_with)
    for name in EDIT_SETS:
        number = train_rows if name == "train" else other_rows
        rows = (_edit_row(world, drawings, name, seed, index, pixels) for index in range(number))
        counts[f"edits_{name}"] = _write(rows, number, _edit_features(), out / f"edits_{name}.parquet", made_with)
    logger.info("wrote %s to %s", ", ".join(f"{count} {name}" for name, count in counts.items()), out)
    return counts


def _scene_row(
    world: World, drawings: Mapping[str, Sprite], name: str, seed: int, index: int, pixels: int
) -> dict[str, Any]:
    scene = world.draw(name, seed, index)
    random = generator(name, seed, index, TEXTS)
    asked = questions(scene, random, list(world.things))
    return {
        "id": f"{name}-{seed}-{index}",
        "image": {"bytes": _png(scene, drawings, pixels), "path": None},
        "caption": caption(scene),
        "captions": captions(scene),
        "wording": some_caption(scene, random),
        "description": full_description(scene),
        "questions": [question for question, _ in asked],
        "answers": [answer for _, answer in asked],
        **_held(scene),
    }


def _held(scene: Scene) -> dict[str, Any]:
    """What a scene holds."""
    items = [vars(item) for item in scene.items]
    return {"layout": scene.layout, "relation": scene.relation, "style": scene.style, "items": items}


def _edit_row(
    world: World, drawings: Mapping[str, Sprite], name: str, seed: int, index: int, pixels: int
) -> dict[str, Any]:
    edit = world.draw_edit(name, seed, index)
    return {
        "id": f"edit-{name}-{seed}-{index}",
        "before": {"bytes": _png(edit.before, drawings, pixels), "path": None},
        "after": {"bytes": _png(edit.after, drawings, pixels), "path": None},
        "instruction": instruction(edit, generator(name, seed, index, TEXTS)),
        "change": edit.change,
        "caption_before": caption(edit.before),
        "caption_after": caption(edit.after),
        "description_after": full_description(edit.after),
        **_held(edit.after),
    }


def _png(scene: Scene, drawings: Mapping[str, Sprite], pixels: int) -> bytes:
    buffer = io.BytesIO()
    PILImage.fromarray(np.ascontiguousarray(paint(scene, drawings, pixels))).save(buffer, "PNG")
    return buffer.getvalue()


def _scene_features():
    from datasets import Features, Image, List, Value

    text = {name: Value("string") for name in ("caption", "wording", "description")}
    lists = {name: List(Value("string")) for name in ("captions", "questions", "answers")}
    return Features({"id": Value("string"), "image": Image()} | text | lists | _held_features())


def _edit_features():
    from datasets import Features, Image, Value

    names = ("instruction", "change", "caption_before", "caption_after", "description_after")
    columns = {"id": Value("string"), "before": Image(), "after": Image()}
    return Features(columns | {name: Value("string") for name in names} | _held_features())


def _held_features() -> dict[str, Any]:
    from datasets import List, Value

    item = {name: Value("string") for name in ("thing", "colour", "art")}
    item |= {name: Value("float32") for name in ("x", "y", "size")}
    return {name: Value("string") for name in ("layout", "relation", "style")} | {"items": List(item)}


def _write(rows: Iterator[dict[str, Any]], number: int, features, path: Path, made_with: Mapping[str, Any]) -> int:
    """Write the rows and return how many there are; a file with these rows is left alone."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    settings = json.dumps({**made_with, "rows": number})
    if path.is_file():
        found = (pq.read_schema(path).metadata or {}).get(_SETTINGS, b"").decode()
        if found != settings:
            differing = _differing(found, settings)
            raise ValueError(f"{path}: made with {differing}. Give another folder, or remove it to have it made anew.")
        return number
    schema = features.arrow_schema
    schema = schema.with_metadata({**schema.metadata, _SETTINGS: settings})
    with whole_file(path) as temporary, pq.ParquetWriter(temporary, schema) as file:
        for start in range(0, number, ROWS_AT_ONCE):
            part = [next(rows) for _ in range(min(ROWS_AT_ONCE, number - start))]
            file.write_table(pa.Table.from_pylist(part, schema=schema))
    return number


def _differing(found: str, wanted: str) -> str:
    if not found:
        return "settings that it does not tell"
    before, now = json.loads(found), json.loads(wanted)
    differing = [name for name in now if before.get(name) != now[name]]
    return ", ".join(
        f"{name} {before[name]}, not {now[name]}" if isinstance(now[name], int) else f"other {name}"
        for name in differing
    )
