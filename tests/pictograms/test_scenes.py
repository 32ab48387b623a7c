"""The small world: its rule, what is held out, what is painted and what is said about it."""

import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageDraw

from seed_hf.pictograms.scene_colours import COLOURS, RAMPS
from seed_hf.pictograms.scene_dataset import build_scenes
from seed_hf.pictograms.scene_sprites import Sprite, load_sprites
from seed_hf.pictograms.scene_texts import (
    NUMBERS,
    caption,
    captions,
    full_description,
    in_reading_order,
    instruction,
    place_words,
    plural,
    questions,
    some_caption,
)
from seed_hf.pictograms.scene_things import (
    MAX_WORDS,
    MIN_STYLES,
    STYLES,
    UNSEEN_STYLE,
    Thing,
    choose_things,
    read_things,
)
from seed_hf.pictograms.scenes import SETS, World, generator, held_out_colour, held_out_pair, paint
from tiny_scenes import write_art


WORLD = World()
NAMES = list(WORLD.things)
SOME = range(1500)


def scene_of(name: str, index: int, seed: int = 0):
    return WORLD.draw(name, seed, index)


# ---- the things ----


def test_the_list_keeps_the_rule():
    things = read_things()
    assert 120 <= len(things) <= 180
    assert len({thing.name for thing in things}) == len(things)
    for thing in things:
        assert len(thing.name.split()) <= MAX_WORDS
        assert UNSEEN_STYLE in thing.art
        assert len(thing.art.keys() & STYLES.keys()) >= MIN_STYLES, thing.name
        assert set(thing.natural) <= COLOURS.keys()


def rows(caption: str, styles: int, **more) -> list[dict]:
    row = {"caption": caption, "subcategory": "animal-mammal", "colours": ["brown"]} | more
    drawn = [row | {"style": style, "id": f"{style}/{caption}"} for style in [*STYLES][:styles]]
    return [*drawn, row | {"style": UNSEEN_STYLE, "id": f"{UNSEEN_STYLE}/{caption}"}]


def test_the_rule_chooses():
    given = [
        *rows("a cat", 6),
        *rows("a tomcat", 5),  # too few styles
        *rows("a red apple", 7, colours=["dark blue", "tan", "red"]),
        *rows("a green apple", 7, colours=["green"]),
        *rows("two hats", 9),
        *rows("scissors", 9),
        *rows("a wild cat", 9),  # a variety
        *rows("a cat with a hat", 9),
        *rows("a sleeping old grey cat", 9),
        *rows("a nurse", 9, subcategory="person-role"),
        *rows("a label", 9),  # left out by name
    ]
    chosen = choose_things(given, [row for row in given if row["style"] == UNSEEN_STYLE])
    assert [thing.name for thing in chosen] == ["apple", "cat"]
    apple, cat = chosen
    assert apple.art["noto"] == ("noto/a green apple", "noto/a red apple")
    assert apple.natural == ("blue", "brown", "green")  # the first two colours of each drawing, as basic terms
    assert cat.natural == ("brown",)


def test_clip_art_and_rows_without_openmoji_do_not_count():
    given = rows("a cat", 9)
    assert not choose_things(given[:-1], [])
    assert not choose_things([row | {"style": "openclipart"} for row in given], given[-1:])


# ---- what is held out ----


def test_training_never_shows_what_is_held_out():
    unseen = {name: thing.held_out_style for name, thing in WORLD.things.items()}
    hidden = {
        row
        for thing in WORLD.things.values()
        for style, ids in thing.art.items()
        if style in (UNSEEN_STYLE, thing.held_out_style)
        for row in ids
    }
    colours = {(name, c) for name, thing in WORLD.things.items() for c in COLOURS if held_out_colour(thing, c)}
    layouts = Counter()
    edits = (scene for i in range(20_000) for scene in vars(WORLD.draw_edit("train", 3, i)).values())
    drawn = (scene_of("train", i, seed=3) for i in range(100_000))
    for scene in (*drawn, *(scene for scene in edits if not isinstance(scene, str))):
        layouts[scene.layout] += 1
        for item in scene.items:
            assert (item.thing, item.colour) not in colours
            assert scene.style not in (unseen[item.thing], UNSEEN_STYLE)
            assert item.art not in hidden
        if scene.layout == "two":
            assert not held_out_pair(*(item.thing for item in scene.items))
    assert set(layouts) == {"one", "two", "many"}


def test_as_much_is_held_out_as_the_page_says():
    pairs = Counter(
        held_out_colour(thing, colour)
        for thing in WORLD.things.values()
        for colour in COLOURS
        if colour not in thing.natural
    )
    total = pairs.total()
    assert 0.10 < pairs["test"] / total < 0.14
    assert 0.02 < pairs["validation"] / total < 0.04
    beside = [held_out_pair(a, b) for a in NAMES for b in NAMES if a < b]
    assert 0.09 < np.mean(beside) < 0.11
    assert 0.12 < np.mean([thing.held_out_style is not None for thing in WORLD.things.values()]) < 0.18


def test_colours_of_its_own_are_never_held_out():
    thing = Thing("cat", natural=("grey",), art={})
    held = {
        colour for n in range(200) for colour in COLOURS if held_out_colour(replace(thing, name=f"cat {n}"), colour)
    }
    assert held == COLOURS.keys() - {"grey"}


def test_each_set_shows_what_it_is_for():
    for i in SOME:
        item = scene_of("test_colour", i).items[0]
        assert held_out_colour(WORLD.things[item.thing], item.colour) == "test"
        item = scene_of("validation_colour", i).items[0]
        assert held_out_colour(WORLD.things[item.thing], item.colour) == "validation"
        assert held_out_pair(*(item.thing for item in scene_of("test_pair", i).items))
        scene = scene_of("test_art", i)
        assert scene.style == WORLD.things[scene.items[0].thing].held_out_style
        scene = scene_of("test_style", i)
        assert scene.style == UNSEEN_STYLE
        # One thing is tested at a time: its colour is one that training knows.
        assert scene.items[0].colour is None or not held_out_colour(
            WORLD.things[scene.items[0].thing], scene.items[0].colour
        )


def test_a_pair_is_held_out_whichever_comes_first():
    assert all(held_out_pair(a, b) == held_out_pair(b, a) for a in NAMES[:40] for b in NAMES[40:80])


# ---- draws ----


def test_a_scene_follows_from_set_seed_and_index():
    again = World()
    assert [scene_of("train", i) for i in SOME] == [again.draw("train", 0, i) for i in SOME]
    for other in ([scene_of("train", i, seed=1) for i in SOME], [scene_of("test", i) for i in SOME]):
        assert sum(a == b for a, b in zip(other, (scene_of("train", i) for i in SOME))) == 0


def test_an_unknown_set_is_named():
    with pytest.raises(ValueError, match="unknown set 'tests'; scenes have train, validation, test"):
        scene_of("tests", 0)


@pytest.mark.parametrize("name", SETS)
def test_geometry_is_what_the_words_say(name):
    for i in SOME:
        scene = scene_of(name, i)
        for item in scene.items:
            assert item.size / 2 - 0.045 <= item.x <= 1 - item.size / 2 + 0.045
            assert item.size / 2 - 0.045 <= item.y <= 1 - item.size / 2 + 0.045
        if scene.layout == "two":
            a, b = scene.items
            far = {"left of": b.x - a.x, "right of": a.x - b.x, "above": b.y - a.y, "below": a.y - b.y}[scene.relation]
            assert far > 0.4 and a.thing != b.thing
        if scene.layout == "many":
            assert 2 <= len(scene.items) <= 4 and len({(i.thing, i.colour, i.art) for i in scene.items}) == 1
        if scene.place:
            for third, value in zip(scene.place, (scene.items[0].x, scene.items[0].y)):
                assert third == (value > 0.42) + (value > 0.58)


def test_edits_change_one_thing_only():
    changes = Counter()
    for i in SOME:
        edit = WORLD.draw_edit("train", 0, i)
        changes[edit.change] += 1
        before, after = edit.before.items[0], edit.after.items[0]
        same = {
            "colour": replace(before, colour=after.colour),
            "size": replace(before, x=after.x, y=after.y, size=after.size),
            "place": replace(before, x=after.x, y=after.y, size=after.size),
            "thing": replace(before, thing=after.thing, art=after.art),
        }[edit.change]
        assert same == after != before
        assert edit.before.style == edit.after.style
        if edit.change == "size" and edit.before.place and edit.after.place:
            assert edit.before.place == edit.after.place
        words = instruction(edit, np.random.default_rng(i))
        new = {"colour": after.colour, "thing": after.thing}.get(edit.change)
        assert new is None or new in words
    assert set(changes) == {"colour", "size", "place", "thing"} and changes["colour"] > changes["size"]


# ---- words ----


def test_captions():
    texts = {}
    for i in SOME:
        scene = scene_of("train", i)
        text = caption(scene)
        texts.setdefault(scene.layout, []).append(text)
        said = {some_caption(scene, np.random.default_rng(k)) for k in range(6)}
        for each in (text, full_description(scene), *said):
            assert all(item.thing in each or plural(item.thing) in each for item in scene.items)
            assert all(item.colour in each.split() for item in scene.items if item.colour)
            assert each == each.lower() and "  " not in each and not re.search(r"\ba [aeio]", each)
    assert all(re.fullmatch(r"an? .+", text) for text in texts["one"])
    assert all(text.split()[0] in NUMBERS.values() for text in texts["many"])


def test_a_description_does_not_depend_on_which_of_two_things_is_meant():
    relations = set()
    for i in SOME:
        scene = scene_of("train", i)
        right, description = captions(scene), full_description(scene)
        assert right[0] == caption(scene) and len({*right}) == (2 if scene.layout == "two" else 1)
        if scene.layout != "two":
            continue
        across = scene.relation in ("left of", "right of")
        first, second = sorted(scene.items, key=lambda item: item.x if across else item.y)
        assert description.index(f" {first.thing} ") < description.rindex(f" {second.thing}")
        assert ("to the left of" in description) == across and ("above" in description) == (not across)
        assert sum(description.endswith(text) for text in right) == 1
        relations.add(scene.relation)
    assert len(relations) == 4


@pytest.mark.parametrize(
    ("noun", "more"),
    [("cat", "cats"), ("bus", "buses"), ("watch", "watches"), ("mouse", "mice"), ("strawberry", "strawberries"),
     ("key", "keys"), ("fish", "fish"), ("chicken leg", "chicken legs"), ("tomato", "tomatoes")],
)  # fmt: skip
def test_plurals(noun, more):
    assert plural(noun) == more


def test_places():
    assert [place_words((c, r)) for r in range(3) for c in range(3)] == [
        "at the top left", "at the top", "at the top right", "on the left", "in the middle", "on the right",
        "at the bottom left", "at the bottom", "at the bottom right",
    ]  # fmt: skip


def test_answers_are_true():
    for i in SOME:
        scene = scene_of("train", i)
        asked = dict(questions(scene, np.random.default_rng(i), NAMES))
        assert asked["How many things are there?"] == NUMBERS[len(scene.items)]
        shown = {item.thing for item in scene.items}
        for question, answer in asked.items():
            if found := re.fullmatch(r"Is there an? (.+)\?", question):
                assert answer == ("yes" if found[1] in shown else "no")
            elif found := re.fullmatch(r"(?:Is|Are) the (.+) (\w+)\?", question):
                assert answer == ("yes" if found[2] == scene.items[0].colour else "no")
            elif found := re.fullmatch(r"What colour is the (.+)\?", question):
                assert {item.thing: item.colour for item in scene.items}[found[1]] == answer
        if scene.layout == "two":
            first, second = (item.thing for item in scene.items)
            assert asked[f"Where is the {first}?"].endswith(f"the {second}")
            # Which of them was chosen first, no image tells.
            assert asked["What is shown?"] == caption(in_reading_order(scene))
            assert re.search("to the left of|above", asked["What is shown?"])


# ---- drawings ----


def disk(body="orange", outline="black", light="white") -> np.ndarray:
    image = Image.new("RGB", (128, 128), "white")
    pen = ImageDraw.Draw(image)
    pen.ellipse((10, 10, 118, 118), fill=body, outline=outline, width=6)
    pen.ellipse((35, 35, 60, 60), fill=light)
    return np.asarray(image)


@pytest.mark.parametrize("colour", COLOURS)
def test_a_new_colour_leaves_outline_light_and_ground(colour):
    drawn = Sprite(disk()).drawn(90, colour)
    assert drawn[0, 0].min() > 240  # the ground
    assert drawn[30, 30].min() > 225  # the light
    assert np.abs(drawn[70, 45].astype(int) - COLOURS[colour]).max() < 12  # the body
    assert drawn[45, 4].max() < 60  # the outline


def test_as_drawn_is_as_drawn():
    drawn = Sprite(disk()).drawn(90, None)
    assert np.abs(drawn[70, 45].astype(int) - (255, 165, 0)).max() < 6


@pytest.mark.parametrize(("body", "outline"), [("white", "black"), ("#eeeeee", "#888888"), ("#101014", "#101014")])
def test_white_and_black_things_take_a_colour(body, outline):
    drawn = Sprite(disk(body, outline)).drawn(90, "blue")
    assert np.abs(drawn[70, 45].astype(int) - COLOURS["blue"]).max() < 40
    assert drawn[0, 0].min() > 240


def test_a_white_thing_has_an_edge():
    drawn = Sprite(disk("#eeeeee", "#dddddd")).drawn(60, "white")
    assert drawn.min() < 215 and drawn[0, 0].min() > 240


def test_ramps_go_from_dark_to_light():
    for tones in RAMPS.values():
        assert tones.shape == (256, 3)
        assert (np.diff(tones.mean(-1)) > -0.5).all()


# ---- images and files ----


@pytest.fixture(scope="module")
def pictograms(tmp_path_factory):
    """A hand-made pictogram set of three things, and their list."""
    folder = tmp_path_factory.mktemp("pictograms")
    styles = (*[*STYLES][:MIN_STYLES], UNSEEN_STYLE)
    things = [Thing(name, (), {s: (f"{s}/{name}",) for s in styles}) for name in ("cat", "dog", "cow")]
    write_art(folder, things)
    return folder, things


def test_painted_scenes(pictograms):
    folder, things = pictograms
    world, sprites = World(things), load_sprites(folder, things)
    for i in range(60):
        scene = world.draw("train", 0, i)
        image = paint(scene, sprites, 64)
        assert image.shape == (64, 64, 3) and image.dtype == np.uint8
        for item in scene.items:
            assert image[round(item.y * 64) - 1, round(item.x * 64) - 1].min() < 240
        assert (paint(scene, sprites, 64) == image).all()
    single = next(s for s in (world.draw("train", 0, i) for i in range(60)) if s.layout == "one" and s.size == "big")
    assert (paint(single, sprites, 64, mirrored=[0]) != paint(single, sprites, 64)).any()


def test_missing_art_is_named(pictograms, tmp_path):
    folder, things = pictograms
    with pytest.raises(FileNotFoundError, match="lacks 1 of 19 drawings, such as noto/horse"):
        load_sprites(folder, [*things, Thing("horse", (), {"noto": ("noto/horse",)})])
    with pytest.raises(FileNotFoundError, match="build the pictogram set with `seed-hf data pictograms"):
        load_sprites(tmp_path, things)


def test_files(pictograms, tmp_path):
    from datasets import load_dataset

    folder, things = pictograms
    named = [replace(thing, name=name) for thing, name in zip(things, ("bear", "ant", "apple"))]
    sizes = {"pixels": 32, "train_rows": 12, "other_rows": 5, "things": [*named, *things]}
    counts = build_scenes(folder, tmp_path / "a", **sizes)
    assert set(counts) == {*SETS, "edits_train", "edits_validation", "edits_test"}
    assert counts["train"] == 12 and counts["test_pair"] == 5
    before = {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()}
    (tmp_path / "a" / "test.parquet").unlink()
    build_scenes(folder, tmp_path / "a", **sizes)
    assert {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()} == before

    (tmp_path / "b").mkdir()
    pq.write_table(pa.table({"a": [1]}), tmp_path / "b" / "train.parquet")
    with pytest.raises(ValueError, match="made with settings that it does not tell"):
        build_scenes(folder, tmp_path / "b", **sizes)
    for other, words in (
        ({"train_rows": 13}, "train.parquet: made with rows 12, not 13"),
        ({"seed": 9}, "seed 0, not 9"),
        ({"pixels": 64}, "pixels 32, not 64"),
        ({"things": named}, "other things"),
    ):
        with pytest.raises(ValueError, match=words):
            build_scenes(folder, tmp_path / "a", **{**sizes, **other})

    row = load_dataset("parquet", data_files=str(tmp_path / "a" / "train.parquet"), cache_dir=tmp_path)["train"][3]
    world = World(sizes["things"])
    scene = world.draw("train", 0, 3)
    assert row["image"].size == (32, 32)
    assert row["description"] == full_description(scene) and row["captions"] == captions(scene)
    assert dict(zip(row["questions"], row["answers"])) == dict(
        questions(scene, generator("train", 0, 3, 1), list(world.things))
    )
    assert [item["thing"] for item in row["items"]] == [item.thing for item in scene.items]
