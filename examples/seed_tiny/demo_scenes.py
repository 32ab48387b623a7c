"""Chooses the prompts and the images of the demo, by seed: `demo_scenes.py --data D --out FOLDER`.

They are the first of each test set, in the order of their numbers, that have the layout of `PROMPTS` and `IMAGES` and
show nothing that was chosen before. Nobody has looked at what a model makes of them.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from seed_hf.pictograms.scene_sprites import load_sprites
from seed_hf.pictograms.scene_texts import caption, questions
from seed_hf.pictograms.scenes import Scene, World, generator, paint


SEED, PIXELS = 2026, 96
# Set and layout of each.
PROMPTS = [("test", "one")] * 2 + [("test", "many")] * 2 + [("test", "two")] * 2
PROMPTS += [("test_colour", "one")] * 3 + [("test_pair", "two")] * 3
IMAGES = [("test", "one"), ("test", "two"), ("test", "many"), ("test_colour", "one"), ("test_pair", "two")]
IMAGES += [("test_art", "one"), ("test_style", "one"), ("test_style", "one")]
# What of it was never trained on.
NEW_PROMPTS = {
    "test": None,
    "test_colour": "this thing in this colour",
    "test_pair": "these two things together",
}
NEW_IMAGES = NEW_PROMPTS | {"test_art": "this drawing of the thing", "test_style": "any drawing in this style"}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the pictogram Parquet files")
    parser.add_argument("--out", type=Path, required=True, help="folder of the checkpoint: demo/ is written into it")
    arguments = parser.parse_args(argv)
    world, shown = World(), set()
    prompts = [
        {"prompt": caption(scene), "set": name, "new": NEW_PROMPTS[name]}
        for name, _, scene in chosen(world, PROMPTS, SEED, shown)
    ]
    drawings = load_sprites(arguments.data, world.things.values(), ("train", "test_style"))
    sources = sources_of(arguments.data)
    folder = arguments.out / "demo"
    folder.mkdir(parents=True, exist_ok=True)
    pictures = []
    for number, (name, index, scene) in enumerate(chosen(world, IMAGES, SEED + 1, shown), 1):
        file = f"scene-{number}.png"
        Image.fromarray(np.ascontiguousarray(paint(scene, drawings, PIXELS))).save(folder / file, optimize=True)
        pictures.append({"file": file, **row_of(world, name, index, scene, sources)})
    for name, rows in (("prompts", prompts), ("pictures", pictures)):
        (folder / f"{name}.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def chosen(
    world: World, wanted: list[tuple[str, str]], seed: int, shown: set[str]
) -> Iterator[tuple[str, int, Scene]]:
    """(set, number, scene) of each; `shown` are the things that are taken."""
    for name, layout in wanted:
        index = 0
        while True:
            scene = world.draw(name, seed, index)
            things = {item.thing for item in scene.items}
            if scene.layout == layout and not things & shown:
                break
            index += 1
        shown |= things
        yield name, index, scene


def row_of(world: World, name: str, index: int, scene: Scene, sources: dict[str, dict]) -> dict:
    random = generator(name, SEED + 1, index, purpose=1)
    _, *asked = questions(scene, random, list(world.things))  # the first asks for the caption
    question, answer = asked[random.integers(len(asked))]
    arts = sorted({item.art for item in scene.items})
    (licence,) = {sources[art]["licence"] for art in arts}  # all drawings of a scene have one style
    return {
        "id": f"{name}-{SEED + 1}-{index}",
        "caption": caption(scene),
        "style": scene.style,
        "licence": licence,
        "art": {art: sources[art]["source"] for art in arts},
        "set": name,
        "new": NEW_IMAGES[name],
        "question": question,
        "answer": answer,
    }


def sources_of(data: Path) -> dict[str, dict]:
    """Licence and source of each row that scenes may show, by id."""
    columns = ["id", "licence", "source"]
    tables = [pq.read_table(data / f"{split}.parquet", columns=columns) for split in ("train", "test_style")]
    return {row["id"]: row for table in tables for row in table.to_pylist()}


if __name__ == "__main__":
    main()
