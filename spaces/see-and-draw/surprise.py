"""Surprise me: a prompt of the small world, by a number. Two in three are a combination that was never trained on."""

from functools import cache

from seed_hf.artifacts.known_words import KnownWords
from seed_hf.pictograms.scene_texts import caption
from seed_hf.pictograms.scene_things import read_things
from seed_hf.pictograms.scenes import World


NEW = {
    "test": "Its words are known, and their combination may be.",
    "test_colour": "Never trained on: this thing in this colour.",
    "test_pair": "Never trained on: these two things together.",
}


def surprise(seed: int) -> tuple[str, str]:
    """A prompt, and what of it is new. The same seed gives the same."""
    name = list(NEW)[seed % len(NEW)]
    return caption(_world().draw(name, seed, 0)), NEW[name]


@cache
def _world() -> World:
    return World()


def knows_the_world(known: KnownWords | None) -> bool:
    """Whether a model has read of all things of the small world."""
    return known is not None and {thing.name for thing in read_things()} <= set(known.things)
