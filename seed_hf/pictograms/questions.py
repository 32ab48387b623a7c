"""Questions and short answers that follow from a row's metadata, without looking at the image.

Every question comes from one template of `QUESTIONS` and every answer from one table of this module, so that training
and evaluation ask in the same words. Definitions are not used: they describe the wrong sense of the word too often.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from .captions import join_words


# Topic to question.
QUESTIONS = {
    "object": "What is shown?",
    "category": "What kind of thing is it?",
    "kind": "Is it {}?",
    "main colour": "What is its main colour?",
    "colours": "Which colours does it have?",
    "has colour": "Is it mainly {}?",
    "style": "In which style is it drawn?",
    "look": "Is it flat, shaded, outlined or 3d?",
    "has look": "Is the drawing {}?",
    "animal": "What kind of animal is it?",
    "food": "What kind of food is it?",
    "flag": "Which country's flag is this?",
    "feeling": "How does the face feel?",
    "vehicle": "Is it a land, water or air vehicle?",
    "time": "What time does the clock show?",
}

CATEGORY_ANSWERS = {
    "smileys-emotion": "emotion",
    "people-body": "people",
    "animals-nature": "nature",
    "food-drink": "food",
    "travel-places": "travel",
    "activities": "activity",
    "objects": "object",
    "symbols": "symbol",
    "flags": "flag",
}

# Style to its look; styles in between are left out.
LOOKS = {
    "twemoji": "flat",
    "fluent-flat": "flat",
    "noto": "shaded",
    "fluent-color": "shaded",
    "fluent-3d": "3d",
    "streamline": "outlined",
    "openmoji": "outlined",
}

# Prefixes of subcategories (of emoji and of clip-art folders) and their answers; the first match counts.
ANIMALS = (
    ("animal-mammal", "a mammal"),
    ("animals/mammals", "a mammal"),
    ("animal-bird", "a bird"),
    ("animals/birds", "a bird"),
    ("animal-bug", "a bug"),
    ("animals/bugs", "a bug"),
    ("animal-marine", "a sea animal"),
    ("animals/fish", "a sea animal"),
    ("animal-reptile", "a reptile"),
    ("animal-amphibian", "an amphibian"),
)
FOODS = (
    ("food-fruit", "fruit"),
    ("food/fruit", "fruit"),
    ("food-vegetable", "a vegetable"),
    ("food/vegetables", "a vegetable"),
    ("food-sweet", "a sweet"),
    ("food/desserts", "a sweet"),
    ("food-prepared", "a meal"),
    ("food-asian", "asian food"),
)
FEELINGS = (
    ("face-smiling", "happy"),
    ("face-affection", "loving"),
    ("face-tongue", "playful"),
    ("face-neutral-skeptical", "neutral"),
    ("face-sleepy", "sleepy"),
    ("face-unwell", "unwell"),
    ("face-concerned", "worried"),
    ("face-negative", "angry"),
)
VEHICLES = (
    ("transport-ground", "land"),
    ("transport-water", "water"),
    ("transport-air", "air"),
)
# What the transport groups hold besides vehicles.
NO_VEHICLES = re.compile(
    r"\b(anchor|bus stop|buoy|construction|drum|light|motorway|pump|sign|siren|track|wheel|seat|parachute|hook)\b"
)

# What "Is it ...?" asks for. A subcategory without a match has no kind, unless its category has one.
KINDS = (
    ("animals/fantasy", None),
    ("animal-", "an animal"),
    ("animals", "an animal"),
    ("plant", "a plant"),
    ("food/beverages", "a drink"),
    ("drink", "a drink"),
    ("food", "food"),
    ("transport-", "a vehicle"),
    ("transportation/vehicles", "a vehicle"),
    ("place-building", "a building"),
    ("buildings/homes", "a building"),
    ("face-costume", None),
    ("face-", "a face"),
    ("hand", "a hand"),
    ("person-symbol", None),
    ("person", "a person"),
    ("family", "a person"),
    ("musical-instrument", "a musical instrument"),
    ("clothing", "something to wear"),
    ("people/clothing", "something to wear"),
)
# Kinds that an image may belong to at once; never used as each other's wrong answer.
NEIGHBOURS = (
    {"a person", "a face", "a hand", "something to wear"},
    {"an animal", "food", "a plant", "a drink"},
    {"a vehicle", "a building"},
    {"a flag", "a symbol"},
)
ALL_KINDS = tuple(sorted({kind for _, kind in KINDS if kind} | {"a flag", "a symbol"}))
# By category, for rows without a kind (most objects, places, games): kinds that are wrong for all of them.
KINDS_APART = {
    "smileys-emotion": ("a building", "a drink", "a flag", "a vehicle"),
    "people-body": ("a building", "a drink", "a flag", "a vehicle"),
    "animals-nature": ("a building", "a drink", "a flag", "a vehicle"),
    "food-drink": ("a building", "a flag", "a hand", "a vehicle"),
    "travel-places": ("a drink", "a flag", "a hand", "something to wear"),
    "activities": ("a building", "a drink", "a flag", "a vehicle"),
    "objects": ("a building", "a flag", "a plant", "an animal"),
}
BASIC_COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "grey", "white")
# Shades that people name differently: none of a set is a wrong answer where another is right.
COLOUR_FAMILIES = (
    {"red", "pink", "orange", "brown"},
    {"orange", "yellow", "tan", "brown"},
    {"green", "light green", "teal"},
    {"blue", "light blue", "dark blue", "teal", "purple"},
    {"purple", "pink"},
    {"black", "dark grey", "grey", "dark blue", "brown"},
    {"white", "light grey", "grey", "dark grey"},
)
TIME_PREFIX = "a clock face showing "
FLAG_PREFIX = "the flag of "


def questions_by_topic(row: Mapping[str, Any]) -> dict[str, list[tuple[str, str]]]:
    """The questions that one row of the pictogram set answers, with the answers.

    Args:
        row: A row with id, caption, style, style_phrase, category, subcategory and colours.

    Returns:
        (question, answer) pairs by topic (a key of `QUESTIONS`), always the same for the same row; topics without
        pairs are left out. Answers are short and in lower case: "a fire engine", "red", "food", "yes", "no". A row
        with a "yes" question mostly has a "no" question of the same topic, whose subject is chosen by a hash of the
        row's id.
    """
    asked: dict[str, list[tuple[str, str]]] = {}

    def ask(topic: str, answer: str | None, subject: str | None = None) -> None:
        if answer is not None:
            question = QUESTIONS[topic].format(subject) if subject else QUESTIONS[topic]
            asked.setdefault(topic, []).append((question, answer.lower()))

    caption, subcategory, colours = row["caption"], row["subcategory"], list(row["colours"])
    ask("object", caption)
    ask("category", CATEGORY_ANSWERS.get(row["category"]))

    kind = _kind(row)
    if kind is not None:
        ask("kind", "yes", kind)
    if wrong_kinds := _wrong_kinds(row, kind):
        ask("kind", "no", _pick(row, "kind", wrong_kinds))

    if colours:
        ask("main colour", colours[0])
        ask("colours", join_words(colours))
        ask("has colour", "yes", _pick(row, "colour", colours))
        near = set(colours).union(*(family for family in COLOUR_FAMILIES if family & set(colours)))
        if wrong := [colour for colour in BASIC_COLOURS if colour not in near]:
            ask("has colour", "no", _pick(row, "wrong colour", wrong))

    ask("style", row["style_phrase"])
    if look := LOOKS.get(row["style"]):
        ask("look", look)
        ask("has look", "yes", look)
        ask("has look", "no", _pick(row, "look", [other for other in sorted(set(LOOKS.values())) if other != look]))

    ask("animal", _lookup(ANIMALS, subcategory))
    ask("food", _lookup(FOODS, subcategory))
    ask("flag", _country(row))
    ask("feeling", _lookup(FEELINGS, subcategory) if "face" in caption else None)
    ask("vehicle", None if NO_VEHICLES.search(caption) else _lookup(VEHICLES, subcategory))
    ask("time", caption.removeprefix(TIME_PREFIX) if caption.startswith(TIME_PREFIX) else None)
    return asked


def _lookup(table: Sequence[tuple[str, str | None]], subcategory: str) -> str | None:
    return next((answer for prefix, answer in table if subcategory.startswith(prefix)), None)


def _kind(row: Mapping[str, Any]) -> str | None:
    if row["category"] in ("flags", "symbols"):
        return "a flag" if row["category"] == "flags" else "a symbol"
    kind = _lookup(KINDS, row["subcategory"])
    return None if kind == "a vehicle" and NO_VEHICLES.search(row["caption"]) else kind


def _wrong_kinds(row: Mapping[str, Any], kind: str | None) -> Sequence[str]:
    if kind is None:
        return KINDS_APART.get(row["category"], ())
    near = {kind}.union(*(group for group in NEIGHBOURS if kind in group))
    return [other for other in ALL_KINDS if other not in near]


def _country(row: Mapping[str, Any]) -> str | None:
    """The country of a flag; clip art counts where the caption is a plain name, not "Canada - Yukon"."""
    caption, subcategory = row["caption"], row["subcategory"]
    clip_art = subcategory.startswith("signs_and_symbols/flags/") and "historic" not in subcategory
    if not caption.startswith(FLAG_PREFIX) or not (subcategory == "country-flag" or clip_art):
        return None
    country = caption.removeprefix(FLAG_PREFIX)
    return None if clip_art and re.search(r" -|- ", country) else country


def _pick(row: Mapping[str, Any], salt: str, choices: Sequence[str]) -> str:
    """One of `choices`, drawn by a hash of the row's id: the same on every machine and in every run."""
    digest = hashlib.sha256(f"{salt}:{row['id']}".encode()).digest()
    return choices[int.from_bytes(digest[:8], "big") % len(choices)]
