"""The things of the small world: which nouns it has, and in which styles each is drawn.

`things.json` beside this file is the list that [`choose_things`] makes of the training split. Rows are named by id, so
the list needs the pictogram set beside it, and nothing of the pictograms is copied.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources
from typing import Any

from .scene_colours import COLOURS, basic_colour


MIN_STYLES = 6
MAX_WORDS = 3
UNSEEN_STYLE = "openmoji"
# "openclipart" is many hands and no style; it is not part of the world.
STYLES = {
    "noto": "shaded",
    "noto-blob": "blob",
    "twemoji": "flat",
    "fluent-color": "glossy",
    "fluent-flat": "plain",
    "fluent-3d": "3d",
    "emojione2": "bold",
    "fxemoji": "soft",
    "streamline": "outlined",
}
# The three Fluent sets share their outlines, so that holding one of them out would hold out nothing.
STYLES_WITH_OWN_SHAPES = ("noto", "noto-blob", "twemoji", "emojione2", "fxemoji", "streamline")

# Prefixes of subcategories. People, faces, hands, flags, symbols, signs, medals and banknotes are not among them.
SUBCATEGORIES = tuple(
    """animal- plant- food- drink dishware sport game event clothing computer household light-video lock mail medical
    music office other-object phone science sound tool writing transport-air transport-ground transport-water
    sky-weather place-building place-geographic place-other time book-paper""".split()
)
# A name with one of these words says more than what the thing is: where, beside what, or in which state.
NO_PART_OF_A_NOUN = frozenset(
    """and with of in on behind not no at off to open closed locked unlocked incoming oncoming outbox inbox first last
    full new waning waxing crossed fast old left right horizontal vertical shaved cooked fried wilted fallen hatching
    roasted without done decreasing increasing muted arrival departure""".split()
)
SINGULAR_IN_S = frozenset("bus cactus octopus rhinoceros cross glass dress grass hibiscus".split())
# What eyes on a contact sheet found, by reason.
LEFT_OUT = {
    "a sign, a symbol, or text is what is drawn": """e-mail, label, newspaper, calendar, dvd, joker, musical note,
        high voltage, card file box, card index, love hotel, reminder ribbon, speaker high volume, speaker low volume,
        speaker medium volume, musical keyboard, pill, bar chart, clapper board, slot machine, memo, musical score,
        club suit, diamond suit, heart suit, spade suit, video game, ticket, school, bank, hospital, hotel,
        convenience store, department store, post office, fax machine, pager, metro, station, motorway,
        police car light, rosette, link, computer disk, optical disk, videocassette, mahjong red dragon, battery,
        game die, postbox, file folder, scroll, stopwatch, nib, spiral notepad, fountain""",
    "a scene of several things": """carp streamer, moon viewing ceremony, pine decoration, tanabata tree, wind chime,
        desert, camping, desert island, national park, mount fuji, cityscape, foggy, sunrise, wedding, milky way,
        bento box, construction, building construction, railway track, mountain railway, aerial tramway,
        mountain cableway, cooking, steaming bowl, classical building, office building, water wave, cyclone,
        rice cracker, light rail, monorail, bowling, ice hockey, field hockey, ping pong, goal net, shower, bouquet,
        herb, stadium, roller coaster""",
    "too like another thing at 64 pixels": """ewe, ram, ox, water buffalo, boar, rat, chipmunk, leopard, dove, poodle,
        pig nose, lizard, baby chick, tangerine, peach, chestnut, shortcake, stuffed flatbread, burrito,
        tumbler glass, tropical drink, tram car, articulated lorry, sport utility vehicle, motor scooter, racing car,
        taxi, bullet train, speedboat, motor boat, canoe, clutch bag, handbag, rugby football, kimono, running shirt,
        mantelpiece clock, timer clock, comet, triangular ruler, snowman without snow, flashlight, maple leaf,
        shamrock, seedling, honey pot, evergreen tree, potato, rice ball, laptop, floppy disk, trackball, keyboard,
        film projector, postal horn, loudspeaker, megaphone, notebook, satellite, wolf, hibiscus, blossom, flower,
        jack-o-lantern, american football, martial arts uniform, purse, telescope, tram, thermometer, seat,
        party popper, goat, hot beverage""",
    "nobody would ask for it by this name": """cigarette, coffin, funeral urn, syringe, joystick, bullseye,
        crystal ball, moai, barber pole, alembic, amphora, clamp, pick, headphone, studio microphone, bikini,
        lipstick, water pistol, dagger, fuel pump, package, spider web, bug, paper lantern, ribbon, sparkler, radio,
        window, electric plug, straight ruler, wastebasket, clipboard, shopping cart, ice skate, factory, printer,
        beer mug, bomb""",
}
EXCLUDED = frozenset(name for names in LEFT_OUT.values() for name in re.split(r",\s+", names))
# What people call them.
RENAMED = {
    "automobile": "car",
    "deciduous tree": "tree",
    "honeybee": "bee",
    "lady beetle": "ladybird",
    "locomotive": "train",
    "poultry leg": "chicken leg",
    "high-heeled shoe": "high heel",
}


@dataclass(frozen=True)
class Thing:
    """One thing of the world.

    Args:
        name: its noun, such as "fire engine".
        natural: the basic colours that its art has mainly; "as drawn" already shows them.
        art: style -> ids of the rows that draw it, training split and OpenMoji alike.
    """

    name: str
    natural: tuple[str, ...]
    art: Mapping[str, tuple[str, ...]]

    @cached_property
    def held_out_style(self) -> str | None:
        """The style whose drawing of this thing is never trained on, for 15 % of the things."""
        if share_of("unseen art of", self.name) >= UNSEEN_ART:
            return None
        own = [style for style in STYLES_WITH_OWN_SHAPES if style in self.art]
        return own[int(share_of("which art", self.name) * len(own))] if own else None

    @cached_property
    def training_styles(self) -> tuple[str, ...]:
        """The styles that training may draw it in."""
        return tuple(style for style in STYLES if style in self.art and style != self.held_out_style)


UNSEEN_ART = 0.15


def share_of(salt: str, *names: str) -> float:
    """A number in [0, 1) that depends on the names alone: the same on every machine and in every version."""
    digest = hashlib.sha256(":".join((salt, *names)).encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def noun_of(caption: str) -> str | None:
    """The plain noun of a caption without article and leading colour; None where it is no singular countable noun."""
    found = re.fullmatch(r"an? ([a-z -]+)", caption)
    words = found[1].split() if found else []
    if words and words[0] in COLOURS:
        words = words[1:]
    if not 0 < len(words) <= MAX_WORDS or NO_PART_OF_A_NOUN & set(words) or words[-1] == "face":
        return None
    if words[-1].endswith("s") and words[-1] not in SINGULAR_IN_S:
        return None
    return " ".join(words)


def choose_things(rows: Iterable[Mapping[str, Any]], unseen: Iterable[Mapping[str, Any]]) -> list[Thing]:
    """Apply the rule to rows of the training split.

    A thing is a singular noun of up to three words, of a subcategory that has no people, faces, flags or signs, drawn
    in at least six styles and by OpenMoji. A leading colour is taken off the name ("red apple"). A name that ends with
    another thing's name is a variety of it and left out ("tropical fish"). `LEFT_OUT` names what else is left out,
    with reasons.

    Args:
        rows: rows of the training split with id, caption, style, subcategory and colours.
        unseen: the same of OpenMoji's art.
    """
    art: dict[str, dict[str, list[str]]] = {}
    colours: dict[str, Counter] = {}
    for row in rows:
        name = noun_of(row["caption"])
        if name is None or row["style"] not in STYLES or not row["subcategory"].startswith(SUBCATEGORIES):
            continue
        art.setdefault(name, {}).setdefault(row["style"], []).append(row["id"])
        colours.setdefault(name, Counter()).update({basic_colour(colour) for colour in row["colours"][:2]})
    for row in unseen:
        if (name := noun_of(row["caption"])) in art:
            art[name].setdefault(UNSEEN_STYLE, []).append(row["id"])
    enough = {name for name, drawn in art.items() if UNSEEN_STYLE in drawn and len(drawn) > MIN_STYLES}
    varieties = {name for name in enough for other in enough if name.endswith(f" {other}")}
    things = []
    for name in sorted(enough - varieties - EXCLUDED):
        drawings = sum(len(ids) for style, ids in art[name].items() if style != UNSEEN_STYLE)
        natural = [colour for colour, times in colours[name].items() if times * 3 >= drawings]
        drawn = {style: tuple(sorted(ids)) for style, ids in sorted(art[name].items())}
        things.append(Thing(RENAMED.get(name, name), tuple(sorted(natural)), drawn))
    return sorted(things, key=lambda thing: thing.name)


@cache
def read_things() -> tuple[Thing, ...]:
    """The things of the world, in alphabetical order."""
    text = resources.files("seed_hf.pictograms").joinpath("things.json").read_text(encoding="utf-8")
    return tuple(
        Thing(row["name"], tuple(row["natural"]), {style: tuple(ids) for style, ids in row["art"].items()})
        for row in json.loads(text)
    )
