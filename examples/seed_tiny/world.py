"""The small world as batches: images, captions and questions of scenes, each of which its number decides."""

from collections.abc import Iterable
from functools import cache
from pathlib import Path

import numpy as np
import torch

from pixels import normalise
from seed_hf.pictograms.scene_sprites import Sprite, load_sprites
from seed_hf.pictograms.scene_texts import full_description, some_caption
from seed_hf.pictograms.scenes import Scene, World, generator, paint


# Stages before `features` train on scenes of their own; those after it share the scenes of "language".
SEEDS = {
    "autoencoder": 1,
    "teacher": 2,
    "vision": 3,
    "contrastive": 4,
    "language": 6,
    "measuring": 7,
    "unet": 9,
}


@cache
def world() -> World:
    return World()


@cache
def sprites(data: Path, splits: tuple[str, ...] = ("train",)) -> dict[str, Sprite]:
    return load_sprites(data, world().things.values(), splits)


def scenes(stage: str, start: int, count: int, name: str = "train") -> list[Scene]:
    """Scenes `start` to `start + count` of a stage."""
    return [world().draw(name, SEEDS[stage], index) for index in range(start, start + count)]


def images(
    found: list[Scene],
    data: Path,
    pixels: int,
    splits: tuple[str, ...] = ("train",),
    mirror: np.random.Generator | None = None,
) -> torch.Tensor:
    """`(scenes, 3, pixels, pixels)` uint8; with `mirror`, half of the drawings are mirrored."""
    drawings = sprites(data, splits)
    flips = [() if mirror is None else np.flatnonzero(mirror.random(len(scene.items)) < 0.5) for scene in found]
    painted = np.stack([paint(scene, drawings, pixels, flip) for scene, flip in zip(found, flips)])
    return torch.from_numpy(painted).permute(0, 3, 1, 2)


def normalised_images(found: list[Scene], data: Path, pixels: int) -> torch.Tensor:
    """Images of any set as the ViT takes them, also those with drawings that are held out."""
    return normalise(images(found, data, pixels, ("train", "test_style")).float() / 255)


def descriptions(rows: Iterable[int]) -> list[str]:
    """Full descriptions of scenes of the stage "language", whose embeddings and codes are kept."""
    return [full_description(scene) for row in rows for scene in scenes("language", row, 1)]


def two_twice(rows: int) -> np.ndarray:
    """Rows of the stage "language" in a fixed random order; those of two things come twice.

    Two things are a quarter of the scenes, have twice as much to say and are what codes and captions lose first.
    """
    two = [row for row in range(rows) if scenes("language", row, 1)[0].layout == "two"]
    return np.random.default_rng(0).permutation([*range(rows), *two])


def some_of(order: np.ndarray, count: int) -> list[int]:
    """`count` rows of an order, with torch's random numbers."""
    return order[torch.randint(len(order), (count,)).numpy()].tolist()


def captions(found: list[Scene], stage: str, start: int, full: float = 0.0) -> list[str]:
    """One wording for each scene, always the same for the same scene; `full` of them the full description."""
    said = []
    for number, scene in enumerate(found):
        random = generator("train", 1000 + SEEDS[stage], start + number)
        said.append(full_description(scene) if random.random() < full else some_caption(scene, random))
    return said
