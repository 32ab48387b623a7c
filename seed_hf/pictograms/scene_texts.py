"""What one says about a scene: captions in several wordings, questions with answers, instructions."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np

from .captions import with_article
from .scene_colours import COLOURS
from .scene_things import STYLES
from .scenes import Edit, Item, Scene


NUMBERS = {1: "one", 2: "two", 3: "three", 4: "four"}
PLURALS = {"mouse": "mice", "fish": "fish", "deer": "deer", "shrimp": "shrimp", "snowman": "snowmen"}
ROWS, COLUMNS = ("top", "", "bottom"), ("left", "", "right")
OPPOSITES = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
# How each relation is said; {a} is what the relation is about.
RELATION_WORDS = {
    "left of": ("{a} to the left of {b}", "{a} left of {b}", "{a} on the left and {b} on the right"),
    "right of": ("{a} to the right of {b}", "{a} right of {b}", "{a} on the right and {b} on the left"),
    "above": ("{a} above {b}", "{a} over {b}", "{a} at the top and {b} at the bottom"),
    "below": ("{a} below {b}", "{a} under {b}", "{a} at the bottom and {b} at the top"),
}
FRAMES = ("a picture of {}", "an image of {}", "a drawing of {}", "{} on white", "there is {}")


def plural(noun: str) -> str:
    """The plural of a thing's noun."""
    first, _, last = noun.rpartition(" ")
    if last in PLURALS:
        last = PLURALS[last]
    elif re.search("(s|x|ch|sh|tomato)$", last):
        last += "es"
    elif re.search("[^aeiou]y$", last):
        last = last[:-1] + "ies"
    else:
        last += "s"
    return f"{first} {last}".strip()


def phrase(item: Item, size: str | None = None) -> str:
    """ "a small blue hamburger"."""
    return with_article(" ".join(word for word in (size, item.colour, item.thing) if word))


def place_words(place: tuple[int, int]) -> str:
    """ "at the top left", "in the middle", "on the right"."""
    column, row = place
    if place == (1, 1):
        return "in the middle"
    if row == 1:
        return f"on the {COLUMNS[column]}"
    return f"at the {ROWS[row]} {COLUMNS[column]}".strip()


def caption(scene: Scene) -> str:
    """The plainest true caption: "a blue hamburger", "two green cats", "a red apple to the left of a yellow star"."""
    if scene.layout == "two":
        first, second = (phrase(item) for item in scene.items)
        return RELATION_WORDS[_relation(scene)][0].format(a=first, b=second)
    item = scene.items[0]
    if scene.layout == "many":
        return " ".join(word for word in (NUMBERS[len(scene.items)], item.colour, plural(item.thing)) if word)
    return phrase(item)


def captions(scene: Scene) -> list[str]:
    """All captions that are right: `caption(scene)` first; of two things, also what one says of the other of them."""
    other = [_other_way_round(scene)] if scene.layout == "two" else []
    return [caption(each) for each in (scene, *other)]


def _other_way_round(scene: Scene) -> Scene:
    return replace(scene, items=scene.items[::-1], relation=OPPOSITES[_relation(scene)])


def in_reading_order(scene: Scene) -> Scene:
    """The same image with the left or upper of its two things first: which comes first, no image tells."""
    return _other_way_round(scene) if scene.relation in ("right of", "below") else scene


def full_description(scene: Scene) -> str:
    """All that the world's words can say: "a flat drawing of a small blue hamburger at the top left".

    It is what the generation embeddings aim at, so it says nothing that the image does not tell.
    """
    scene = in_reading_order(scene)
    text = caption(scene)
    if scene.layout == "one":
        text = phrase(scene.items[0], scene.size if scene.size != "medium" else None)
        if scene.place is not None:
            text += f" {place_words(scene.place)}"
    look = STYLES.get(scene.style)
    return f"{with_article(f'{look} drawing') if look else 'a drawing'} of {text}"


def some_caption(scene: Scene, random: np.random.Generator) -> str:
    """A caption in one of its wordings: often the plainest, now and then with style, size and place."""
    chance = random.random()
    if chance < 0.3:
        return caption(scene)
    if chance < 0.5:
        return full_description(scene)
    if scene.layout == "two":
        text = _some_relation(scene, random)
    elif scene.layout == "many":
        text = caption(scene)
        if random.random() < 0.2:
            text = text.replace(NUMBERS[len(scene.items)], str(len(scene.items)), 1)
    else:
        size = scene.size if scene.size != "medium" and random.random() < 0.5 else None
        text = phrase(scene.items[0], size)
        if size == "big" and random.random() < 0.3:
            text = text.replace("big", "large", 1)
        if scene.place is not None and random.random() < 0.5:
            text += f" {place_words(scene.place)}"
    if random.random() < 0.2 and scene.style in STYLES:
        return f"{with_article(STYLES[scene.style] + ' drawing')} of {text}"
    if random.random() < 0.2:
        frame = FRAMES[random.integers(len(FRAMES))]
        if frame == "there is {}" and scene.layout == "many":
            frame = "there are {}"
        return frame.format(text)
    return text


def _some_relation(scene: Scene, random: np.random.Generator) -> str:
    if random.random() < 0.15:
        return " and ".join(map(phrase, scene.items))
    if random.random() < 0.5:
        scene = _other_way_round(scene)
    first, second = scene.items
    wordings = RELATION_WORDS[_relation(scene)]
    return wordings[random.integers(len(wordings))].format(a=phrase(first), b=phrase(second))


def questions(scene: Scene, random: np.random.Generator, things: list[str]) -> list[tuple[str, str]]:
    """Questions about a scene with their answers, in lower case; every topic once.

    Args:
        scene: what is asked about.
        random: chooses the subjects of "no" questions.
        things: nouns of the world, for these subjects.

    Returns:
        (question, answer) pairs.
    """
    item = scene.items[0]
    shown = {each.thing for each in scene.items}
    while (other := things[random.integers(len(things))]) in shown:
        pass
    asked = [
        ("What is shown?", caption(in_reading_order(scene))),  # one answer, that the image tells
        (f"Is there {with_article(item.thing)}?", "yes"),
        (f"Is there {with_article(other)}?", "no"),
        ("How many things are there?", NUMBERS[len(scene.items)]),
    ]
    if scene.layout == "two":
        second, relation = scene.items[1], _relation(scene)
        asked += [
            (f"What is {_side(relation)} the {second.thing}?", with_article(item.thing)),
            (f"What is {_side(OPPOSITES[relation])} the {item.thing}?", with_article(second.thing)),
            (f"Where is the {item.thing}?", f"{_side(relation)} the {second.thing}"),
        ]
        return asked + [(f"What colour is the {each.thing}?", each.colour) for each in scene.items if each.colour]
    noun = item.thing if scene.layout == "one" else plural(item.thing)
    verb = "is" if scene.layout == "one" else "are"
    pronoun = "it" if scene.layout == "one" else "they"
    if item.colour:
        others = [colour for colour in COLOURS if colour != item.colour]
        wrong = others[random.integers(len(others))]
        asked += [
            (f"What colour {verb} {pronoun}?", item.colour),
            (f"What colour {verb} the {noun}?", item.colour),
            (f"{verb.capitalize()} the {noun} {item.colour}?", "yes"),
            (f"{verb.capitalize()} the {noun} {wrong}?", "no"),
        ]
    if scene.layout == "many":
        return [*asked, (f"How many {noun} are there?", NUMBERS[len(scene.items)])]
    asked.append(("What is it?", with_article(item.thing)))
    if scene.place is not None:
        asked.append((f"Where is the {noun}?", place_words(scene.place)))
    assert scene.size is not None  # a scene of one thing
    return [*asked, (f"How big is the {noun}?", scene.size)]


def _relation(scene: Scene) -> str:
    assert scene.relation is not None  # a scene of two things
    return scene.relation


def _side(relation: str) -> str:
    return f"to the {relation}" if relation in ("left of", "right of") else relation


def instruction(edit: Edit, random: np.random.Generator) -> str:
    """What one says to get from one scene to the other: "make it blue", "turn it into a star"."""
    before, after = edit.before.items[0], edit.after.items[0]
    name = "it" if random.random() < 0.6 else f"the {before.thing}"
    if edit.change == "colour":
        wordings = ("make {} {}", "paint {} {}", "turn {} {}")
        return wordings[random.integers(3)].format(name, after.colour)
    if edit.change == "size":
        return f"make {name} {edit.after.size if edit.after.size != 'medium' else 'medium sized'}"
    if edit.change == "place":
        assert edit.after.place is not None  # a thing that is big has no place to change
        words = place_words(edit.after.place)
        return (
            f"move {name} {words.replace('at the', 'to the').replace('on the', 'to the').replace('in the', 'to the')}"
        )
    exchange = ("turn {} into {}", "replace {} with {}")
    return exchange[random.integers(2)].format(name, with_article(after.thing))
