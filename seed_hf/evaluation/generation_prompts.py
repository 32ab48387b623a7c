"""Prompts of GenEval's six kinds with what their images must show: made of any list of objects, or of scenes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from seed_hf.pictograms.captions import with_article
from seed_hf.pictograms.scene_colours import COLOURS
from seed_hf.pictograms.scene_texts import NUMBERS, plural
from seed_hf.pictograms.scenes import RELATIONS, Scene

from .detections import Asked, Wanted


TAGS = ("single_object", "two_object", "counting", "colors", "position", "color_attr")
MOST = 4  # objects of a counting prompt


def make_prompts(
    objects: Sequence[str],
    per_tag: int = 100,
    *,
    seed: int = 0,
    colours: Sequence[str] = tuple(COLOURS),
    frame: str = "{}",
) -> list[tuple[str, Asked]]:
    """Prompts of all six kinds, as GenEval draws them, each with what its image must show.

    Args:
        objects: Names of countable things.
        per_tag: Prompts of a kind; at most one for each object where a single object is asked for.
        seed: Of the draw.
        colours: To choose from.
        frame: Around every prompt, such as "a photo of {}".

    Raises:
        ValueError: Fewer than two objects or colours, or `frame` has no {}.
    """
    if len(set(objects)) < 2 or len(set(colours)) < 2 or per_tag < 1:
        raise ValueError(
            f"At least two objects, two colours and one prompt of a kind are needed; got {len(set(objects))}, "
            f"{len(set(colours))} and {per_tag}."
        )
    if frame.count("{}") != 1:
        raise ValueError(f"frame must have one {{}} where the prompt goes, got {frame!r}.")
    random = np.random.default_rng(seed)
    found: dict[str, Asked] = {}
    names, tones = list(dict.fromkeys(objects)), list(dict.fromkeys(colours))
    for number in random.permutation(len(names))[:per_tag]:
        found[with_article(names[number])] = Asked((Wanted(names[number]),), tag="single_object")
    for tag in TAGS[1:]:
        for _ in range(per_tag):
            first, second = (names[number] for number in random.choice(len(names), 2, replace=False))
            one, other = (tones[number] for number in random.choice(len(tones), 2, replace=False))
            count, relation = int(random.integers(2, MOST + 1)), RELATIONS[random.integers(len(RELATIONS))]
            text, asked = _prompt(tag, first, second, one, other, count, relation)
            found[text] = asked
    return [(frame.replace("{}", text), asked) for text, asked in found.items()]


def _prompt(tag: str, first: str, second: str, one: str, other: str, count: int, relation: str) -> tuple[str, Asked]:
    if tag == "counting":
        return f"{NUMBERS[count]} {plural(first)}", Asked((Wanted(first, count),), ((first, count + 1),), tag)
    if tag == "colors":
        return with_article(f"{one} {first}"), Asked((Wanted(first, 1, one),), tag=tag)
    if tag == "position":
        wanted = (Wanted(second), Wanted(first, relation=relation))
        words = f"to the {relation}" if relation in ("left of", "right of") else relation
        return f"{with_article(first)} {words} {with_article(second)}", Asked(wanted, tag=tag)
    coloured = (Wanted(first, 1, one), Wanted(second, 1, other)) if tag == "color_attr" else ()
    said = [with_article(f"{each.colour} {each.label}") for each in coloured]
    wanted = coloured or (Wanted(first), Wanted(second))
    return " and ".join(said or [with_article(first), with_article(second)]), Asked(wanted, tag=tag)


def asked_of_scene(scene: Scene) -> Asked:
    """What an image of a scene must show: its things, their colours where they have one, number and relation.

    Args:
        scene: Of the small world.
    """
    items = scene.items
    if scene.layout == "many":
        wanted = Wanted(items[0].thing, len(items), items[0].colour)
        return Asked((wanted,), ((items[0].thing, len(items) + 1),), "counting")
    if scene.layout == "two":
        first, second = items
        target = Wanted(second.thing, 1, second.colour)
        return Asked((target, Wanted(first.thing, 1, first.colour, scene.relation)), tag="position")
    return Asked((Wanted(items[0].thing, 1, items[0].colour),), tag="colors" if items[0].colour else "single_object")


def metadata_lines(prompts: Sequence[tuple[str, Asked]]) -> Iterator[str]:
    """Lines of a file as GenEval publishes its prompts (`evaluation_metadata.jsonl`).

    Args:
        prompts: From `make_prompts`.
    """
    import json

    for text, asked in prompts:
        yield json.dumps({**asked.to_metadata(), "prompt": text}, ensure_ascii=False)
