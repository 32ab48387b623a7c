"""Scenes of the small world: drawn at random, symbolically, and painted.

A scene is one thing anywhere in one of three sizes; two different things side by side or above one another; or two to
four of the same. Everything about scene `index` of a set follows from `(set, seed, index)`: a training run that counts
on never sees a scene twice, and one that was interrupted goes on with the same scenes.

What is held out, never in training, in no layout and in no edit:

- 12 % of the pairs of a thing and a colour (`test_colour`), and 3 % more for validation (`validation_colour`);
- 10 % of the pairs of two things (`test_pair`);
- for 15 % of the things, their drawings in one style (`test_art`);
- OpenMoji's drawings (`test_style`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from .scene_colours import COLOURS
from .scene_sprites import Sprite
from .scene_things import UNSEEN_STYLE, Thing, read_things, share_of


# The order is part of every draw: append only.
SETS = ("train", "validation", "test", "validation_colour", "test_colour", "test_pair", "test_art", "test_style")
TEST_COLOURS, VALIDATION_COLOURS, TEST_PAIRS = 0.12, 0.03, 0.10

# Share of the side of the image, two of each so that no size is one number.
SIZES = {"big": (0.82, 0.9), "medium": (0.52, 0.58), "small": (0.34, 0.39)}
SIZES_OF_TWO, SIZES_OF_MANY = (0.4, 0.45), (0.34, 0.39, 0.44)
# Centres of the three columns, and of the three rows.
THIRDS = {"medium": (0.31, 0.5, 0.69), "small": (0.22, 0.5, 0.78)}
RELATIONS = ("left of", "right of", "above", "below")
# Where the centres of two, three and four of the same may be.
ARRANGEMENTS = {
    2: (((0.26, 0.5), (0.74, 0.5)), ((0.5, 0.26), (0.5, 0.74)), ((0.27, 0.27), (0.73, 0.73)),
        ((0.73, 0.27), (0.27, 0.73))),
    3: (((0.26, 0.27), (0.74, 0.27), (0.5, 0.73)), ((0.5, 0.27), (0.26, 0.73), (0.74, 0.73)),
        ((0.27, 0.26), (0.27, 0.74), (0.73, 0.5)), ((0.73, 0.26), (0.73, 0.74), (0.27, 0.5))),
    4: (((0.26, 0.26), (0.74, 0.26), (0.26, 0.74), (0.74, 0.74)),
        ((0.5, 0.23), (0.23, 0.5), (0.77, 0.5), (0.5, 0.77))),
}  # fmt: skip
AS_DRAWN = 0.2  # of the things have their own colours
LAYOUTS, LAYOUT_SHARES = ("one", "two", "many"), (0.5, 0.27, 0.23)


@dataclass(frozen=True)
class Item:
    """One thing in a scene.

    Args:
        thing: its noun.
        colour: one of the eleven, or None for as drawn.
        art: id of the pictogram that is painted.
        x, y: its centre, as shares of the image's side, from the left and from the top.
        size: its longer side, as a share of the image's side.
    """

    thing: str
    colour: str | None
    art: str
    x: float
    y: float
    size: float


@dataclass(frozen=True)
class Scene:
    """What an image shows.

    Args:
        layout: "one", "two" or "many" (two to four of the same).
        style: the style of its drawings.
        items: its things; of two things, the first is the one that `relation` is about.
        size: of a single thing, "big", "medium" or "small"; else None.
        place: of a single thing that is not big, (column, row), each 0, 1 or 2; else None.
        relation: of two things, one of `RELATIONS`; else None.
    """

    layout: str
    style: str
    items: tuple[Item, ...]
    size: str | None = None
    place: tuple[int, int] | None = None
    relation: str | None = None


@dataclass(frozen=True)
class Edit:
    """An instruction's subject: the scene before, the scene after, and what changes.

    Args:
        before, after: scenes of one thing, alike but for `change`.
        change: "colour", "size", "place" or "thing".
    """

    before: Scene
    after: Scene
    change: str


def generator(name: str, seed: int, index: int, purpose: int = 0) -> np.random.Generator:
    """The random numbers of one scene: a stream of its own for every set, seed, index and purpose.

    Args:
        name: one of `SETS`.
        seed: of the run, or of the set; not negative.
        index: number of the scene.
        purpose: 0 for the scene itself; its texts, for example, have another.
    """
    return np.random.Generator(np.random.Philox(key=[SETS.index(name) + 16 * seed, index + (purpose << 48)]))


class World:
    """The things, what may be combined, and scenes drawn at random.

    Args:
        things: the things; by default those of the package.
    """

    def __init__(self, things: Sequence[Thing] | None = None):
        self.things = {thing.name: thing for thing in (things or read_things())}
        self._names = list(self.things)
        names = sorted(self._names)
        self._apart = {(a, b) for i, a in enumerate(names) for b in names[i + 1 :] if held_out_pair(a, b)}
        self._colours: dict[str, dict[str, list[str | None]]] = {"train": {}, "validation": {}, "test": {}}
        for thing in self.things.values():
            for part in self._colours.values():
                part[thing.name] = []
            for colour in COLOURS:
                self._colours[held_out_colour(thing, colour) or "train"][thing.name].append(colour)

    def draw(self, name: str, seed: int, index: int) -> Scene:
        """Scene number `index` of a set.

        Args:
            name: one of `SETS`. "validation" and "test" hold what training may hold too.
            seed: of the run, or of the set.
            index: number of the scene.

        Raises:
            ValueError: the set has no such name.
        """
        if name not in SETS:
            raise ValueError(f"unknown set {name!r}; scenes have {', '.join(SETS)}")
        random = generator(name, seed, index)
        if name == "test_pair":
            return self._two(random, name)
        if name in ("validation_colour", "test_colour", "test_art", "test_style"):
            return self._one(random, name)
        layout = LAYOUTS[int(np.searchsorted(np.cumsum(LAYOUT_SHARES), random.random()))]
        return {"one": self._one, "two": self._two, "many": self._many}[layout](random, name)

    def draw_edit(self, name: str, seed: int, index: int) -> Edit:
        """Edit number `index` of a set; colours change twice as often as anything else.

        Args:
            name: "train", "validation" or "test".
            seed: of the run, or of the set.
            index: number of the edit.
        """
        random = generator(name, seed, index)
        before = self._one(random, name)
        item = before.items[0]
        change = ("colour", "colour", "size", "place", "thing")[random.integers(5)]
        if change == "place" and before.place is None:
            change = "size"
        if change == "colour":
            colours = [colour for colour in self._colours["train"][item.thing] if colour != item.colour]
            after = replace(before, items=(replace(item, colour=_pick(random, colours)),))
        elif change == "thing":
            after = replace(before, items=(self._another(random, before.style, item),))
        else:
            after = self._moved(random, before, change)
        return Edit(before, after, change)

    def _one(self, random: np.random.Generator, name: str) -> Scene:
        thing, style = self._thing_and_style(random, name)
        size = ("big", "medium", "small")[random.integers(3)]
        x, y, share, place = _somewhere(random, size)
        item = Item(thing, self._colour(random, thing, name), self._art(random, thing, style), x, y, share)
        return Scene("one", style, (item,), size=size, place=place)

    def _two(self, random: np.random.Generator, name: str) -> Scene:
        while True:
            first, style = self._thing_and_style(random, name)
            second = _pick(random, self._names)
            held = (min(first, second), max(first, second)) in self._apart
            if first != second and held == (name == "test_pair") and style in self.things[second].training_styles:
                break
        relation = _pick(random, RELATIONS)
        across = relation in ("left of", "right of")
        near = 0 if relation in ("left of", "above") else 1
        items = []
        for number, thing in enumerate((first, second)):
            along = (0.26, 0.74)[near if number == 0 else 1 - near] + random.uniform(-0.02, 0.02)
            other = 0.5 + random.uniform(-0.08, 0.08)
            x, y = (along, other) if across else (other, along)
            size = _pick(random, SIZES_OF_TWO)
            colour = self._colour(random, thing, "train")
            items.append(Item(thing, colour, self._art(random, thing, style), x, y, size))
        return Scene("two", style, tuple(items), relation=relation)

    def _many(self, random: np.random.Generator, name: str) -> Scene:
        thing, style = self._thing_and_style(random, name)
        colour, art = self._colour(random, thing, name), self._art(random, thing, style)
        count = int(random.integers(2, 5))
        size = _pick(random, SIZES_OF_MANY)
        centres = _pick(random, ARRANGEMENTS[count])
        items = [
            Item(thing, colour, art, x + random.uniform(-0.03, 0.03), y + random.uniform(-0.03, 0.03), size)
            for x, y in centres
        ]
        return Scene("many", style, tuple(items))

    def _thing_and_style(self, random: np.random.Generator, name: str) -> tuple[str, str]:
        while True:
            thing = self.things[_pick(random, self._names)]
            if name == "test_art":
                if thing.held_out_style:
                    return thing.name, thing.held_out_style
            elif name == "test_style":
                return thing.name, UNSEEN_STYLE
            elif not name.endswith("_colour") or self._colours[name.removesuffix("_colour")][thing.name]:
                return thing.name, _pick(random, thing.training_styles)

    def _colour(self, random: np.random.Generator, thing: str, name: str) -> str | None:
        if name.endswith("_colour"):
            return _pick(random, self._colours[name.removesuffix("_colour")][thing])
        return None if random.random() < AS_DRAWN else _pick(random, self._colours["train"][thing])

    def _art(self, random: np.random.Generator, thing: str, style: str) -> str:
        return _pick(random, self.things[thing].art[style])

    def _another(self, random: np.random.Generator, style: str, item: Item) -> Item:
        """The item with another thing that may have its colour and is drawn in this style."""
        while True:
            name = _pick(random, self._names)
            drawn = style in self.things[name].training_styles
            if name != item.thing and drawn and item.colour in (None, *self._colours["train"][name]):
                return replace(item, thing=name, art=self._art(random, name, style))

    def _moved(self, random: np.random.Generator, scene: Scene, change: str) -> Scene:
        """The scene with another size at the same place, or with another place at the same size."""
        assert scene.size is not None  # a scene of one thing
        size, place = scene.size, scene.place or (1, 1)
        while change == "size" and size == scene.size:
            size = ("big", "medium", "small")[random.integers(3)]
        while change == "place" and place == scene.place:
            place = (int(random.integers(3)), int(random.integers(3)))
        x, y, share, seen = _somewhere(random, size, place)
        item = replace(scene.items[0], x=x, y=y, size=share)
        return replace(scene, items=(item,), size=size, place=seen)


def held_out_colour(thing: Thing, colour: str) -> str | None:
    """ "test" or "validation" if the pair is never trained on, else None. Colours that its own art has are never."""
    if colour in thing.natural:
        return None
    share = share_of("colour of", thing.name, colour)
    if share < TEST_COLOURS:
        return "test"
    return "validation" if share < TEST_COLOURS + VALIDATION_COLOURS else None


def held_out_pair(first: str, second: str) -> bool:
    """Whether the two things never stand beside each other in training."""
    return share_of("beside", *sorted((first, second))) < TEST_PAIRS


def _pick(random: np.random.Generator, choices: Sequence):
    return choices[int(random.random() * len(choices))]


def _somewhere(
    random: np.random.Generator, size: str, place: tuple[int, int] | None = None
) -> tuple[float, float, float, tuple[int, int] | None]:
    """(x, y, share of the side, place) of a single thing of this size; at this place, if one is given."""
    share = _pick(random, SIZES[size])
    if size == "big":
        free = (1 - share) / 2
        return 0.5 + random.uniform(-free, free), 0.5 + random.uniform(-free, free), share, None
    column, row = place or (int(random.integers(3)), int(random.integers(3)))
    x, y = (THIRDS[size][third] + random.uniform(-0.025, 0.025) for third in (column, row))
    return x, y, share, (column, row)


def paint(scene: Scene, sprites: Mapping[str, Sprite], pixels: int, mirrored: Collection[int] = ()) -> np.ndarray:
    """The image of a scene, `(pixels, pixels, 3)` uint8, on white.

    Args:
        scene: what to paint.
        sprites: the drawings by id, from `load_sprites`.
        pixels: side of the image.
        mirrored: numbers of the items whose drawings are mirrored, which no caption tells: more art to learn from.
    """
    image = np.full((pixels, pixels, 3), 255, np.uint8)
    for number, item in enumerate(scene.items):
        drawing = sprites[item.art].drawn(max(1, round(item.size * pixels)), item.colour)
        if number in mirrored:
            drawing = drawing[:, ::-1]
        height, width = drawing.shape[:2]
        top = min(max(0, round(item.y * pixels - height / 2)), pixels - height)
        left = min(max(0, round(item.x * pixels - width / 2)), pixels - width)
        # Boxes may overlap by their white margins: what is darker stays.
        place = image[top : top + height, left : left + width]
        np.minimum(place, drawing, out=place)
    return image
