"""The small world as batches: images, captions and questions of scenes that no two steps share."""

from collections.abc import Iterable
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from pixels import normalise
from seed_hf.pictograms.scene_sprites import Sprite, load_sprites
from seed_hf.pictograms.scene_texts import full_description, some_caption
from seed_hf.pictograms.scenes import Scene, World, generator, paint


# Stages train on scenes of their own, but for stage II, which sees those of the language model.
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


def captions(found: list[Scene], stage: str, start: int, full: float = 0.0) -> list[str]:
    """One wording for each scene, always the same for the same scene; `full` of them the full description."""
    said = []
    for number, scene in enumerate(found):
        random = generator("train", 1000 + SEEDS[stage], start + number)
        said.append(full_description(scene) if random.random() < full else some_caption(scene, random))
    return said


class SceneRows(Dataset):
    """Scenes as rows for the trainers: `pixels`, and one `caption`.

    Args:
        stage: whose scenes.
        data: folder of the pictogram set.
        number: rows; no two are the same scene.
        pixels: side of the images.
        full: share of full descriptions among the captions.
    """

    def __init__(self, stage: str, data: Path, number: int, pixels: int = 96, full: float = 0.0):
        self.stage, self.data, self.number, self.pixels, self.full = stage, data, number, pixels, full

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, index: int) -> dict:
        found = scenes(self.stage, index, 1)
        mirror = generator("train", 2000 + SEEDS[self.stage], index)
        return {
            "pixels": images(found, self.data, self.pixels, mirror=mirror)[0],
            "caption": captions(found, self.stage, index, self.full)[0],
        }
