"""The demo's prompts and images: chosen by seed, none of them from training, and marked where a combination is new."""

import numpy as np
import pytest
from PIL import Image

from seed_hf.demo.contact_sheet import NEW, WIDTH, contact_sheet
from seed_hf.demo.see_and_draw import PICTURES, demo_pictures, demo_prompts
from seed_hf.pictograms.scene_texts import caption
from seed_hf.pictograms.scenes import World, held_out_colour, held_out_pair


@pytest.fixture(scope="module")
def world():
    return World()


def scene_of(world, row):
    """The scene that an image of the demo shows, drawn again by the numbers in its id."""
    name, seed, index = row["id"].rsplit("-", 2)
    return world.draw(name, int(seed), int(index))


def test_its_images_are_scenes_of_the_test_sets_and_say_what_is_new(world):
    rows = demo_pictures()
    assert {row["file"] for row in rows} == {path.name for path in PICTURES.glob("*.png")}
    for row in rows:
        scene = scene_of(world, row)
        assert row["id"].startswith(f"{row['set']}-") and row["set"].startswith("test")
        assert row["caption"] == caption(scene) and row["style"] == scene.style
        assert bool(row["new"]) == (row["set"] != "test")
        thing = world.things[scene.items[0].thing]
        names = [item.thing for item in scene.items]
        assert (row["set"] == "test_style") == (scene.style == "openmoji") == (row["licence"] == "CC-BY-SA-4.0")
        assert (row["set"] == "test_art") == (scene.style == thing.held_out_style)
        assert (row["set"] == "test_pair") == (len({*names}) == 2 and held_out_pair(*names))
        if scene.items[0].colour:
            assert (row["set"] == "test_colour") == (held_out_colour(thing, scene.items[0].colour) == "test")
        assert [*row["art"]] == sorted({item.art for item in scene.items})  # whose drawings they are
        assert all(source.startswith("npm ") for source in row["art"].values())


def test_half_of_its_prompts_are_new_and_no_thing_is_asked_for_twice(world):
    rows = demo_prompts()
    assert [bool(row["new"]) for row in rows] == [False] * 6 + [True] * 6
    plain = [name for name in world.things if any(f" {name} " in f" {row['prompt']} " for row in rows)]
    assert len(plain) >= 10
    for row in rows:
        _, *words = row["prompt"].split()
        if row["set"] == "test_colour":
            assert held_out_colour(world.things[" ".join(words[1:])], words[0]) == "test"


def test_the_sheet_marks_what_is_new_and_only_that():
    blank, codes = Image.new("RGB", (8, 8), "white"), [1, 2, 3]
    prompts = [
        {"prompt": "a red cat", "codes": codes, "new": new, "note": note} for new, note in [(None, "?"), ("x", None)]
    ]
    seen = {
        "caption": "a cat",
        "model_caption": "a dog",
        "likeliest": "a dog",
        "question": "How many?",
        "answer": "one",
    }
    pictures = [
        {**seen, "codes": codes, "new": None, "guess": guess, "model_answer": "one"} for guess in (None, "not sure: a")
    ]
    result = {
        "model": "m",
        "things": ["cat", "dog"],
        "prompts": prompts,
        "samples": {"prompt": "a red cat", "codes": [codes]},
        "pictures": pictures,
    }

    def marks() -> int:
        """Pixels of the mark's colour."""
        sheet = contact_sheet(result, [blank] * 2, [blank], [blank] * 2, [blank] * 2)
        assert sheet.width == WIDTH
        return int((np.asarray(sheet) == NEW).all(-1).sum())

    marked = marks()
    result["prompts"][1]["new"] = None
    assert marks() < marked - 1000
