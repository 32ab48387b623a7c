"""Training of the judge: two linear heads on frozen features of real scenes, of a seed that nothing else uses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import cross_entropy, dropout
from tqdm.auto import tqdm

from seed_hf.pictograms.scene_sprites import load_sprites
from seed_hf.pictograms.scene_things import Thing
from seed_hf.pictograms.scenes import Item, Scene, World, paint

from .cutouts import cut_out, ink_parts
from .features import JudgeFeatures, count_features, enlarged, thing_features
from .judge import MOST, Head, SceneJudge
from .restyling import restyled


# No training of a model may use this seed, so that judge and model stay independent.
JUDGE_SEED = 7919
SCENES = 5000
FIRST_COUNTED, COUNTED = 10**6, 8  # it learns to count from an eighth as many of each number
PIXELS = 64
HIDDEN = 128  # units of the head that counts
EPOCHS, BATCH, RATE, DECAY, SMOOTHING, DROPOUT = 20, 128, 2e-3, 0.05, 0.1, 0.3
_AT_ONCE = 64


def train_judge(
    pictograms: str | Path,
    *,
    scenes: int = SCENES,
    seed: int = JUDGE_SEED,
    pixels: int = PIXELS,
    things: Sequence[Thing] | None = None,
    features: JudgeFeatures | None = None,
) -> SceneJudge:
    """Train a judge on scenes of the set "train". It sees no drawing, style or combination that is held out for tests.

    Every scene is seen twice, as it is and restyled. About seven minutes of CPU.

    Args:
        pictograms: Folder of the pictograms.
        scenes: How many it learns from.
        seed: Of the scenes, the restyling and the heads. The global random state does not change.
        pixels: Side of the scenes: that of the images that will be judged.
        things: The things of the world; by default those of the package.
        features: What it sees with; EfficientNet-Lite0 by default.

    Raises:
        FileNotFoundError: The pictograms are not there.
        ValueError: Fewer than one scene.
    """
    if scenes < 1:
        raise ValueError(f"scenes must be at least 1, got {scenes}.")
    world = World(things)
    sprites = load_sprites(pictograms, world.things.values())
    features = features or JudgeFeatures()
    names = sorted(world.things)
    generator = torch.Generator().manual_seed(seed)
    seen: list[torch.Tensor] = []
    labels: list[int] = []
    for start in tqdm(range(0, scenes, _AT_ONCE), desc="judge: things", unit="batch"):
        part = [world.draw("train", seed, index) for index in range(start, min(start + _AT_ONCE, scenes))]
        drawings, nouns = labelled_cutouts(part, [paint(scene, sprites, pixels) for scene in part])
        seen += [thing_features(features.maps(each)) for each in _twice(drawings, generator)]
        labels += [names.index(noun) for noun in nouns] * 2
    counted: list[torch.Tensor] = []
    numbers: list[int] = []
    shown = counted_scenes(world, seed, max(1, scenes // COUNTED))
    for start in tqdm(range(0, len(shown), _AT_ONCE), desc="judge: counts", unit="batch"):
        part = shown[start : start + _AT_ONCE]
        images = [paint(scene, sprites, pixels) for scene in part]
        counted += [count_features(features.maps(each), each) for each in _twice(images, generator)]
        numbers += [len(scene.items) - 1 for scene in part] * 2
    thing_head = train_head(torch.cat(seen), torch.tensor(labels), len(names), seed=seed)
    count_head = train_head(torch.cat(counted), torch.tensor(numbers), MOST, seed=seed, hidden=HIDDEN)
    return SceneJudge(thing_head, count_head, names, features, {"seed": seed, "scenes": scenes, "pixels": pixels})


def counted_scenes(world: World, seed: int, each: int) -> list[Scene]:
    """Scenes to learn counting from: as many of one thing, of two, of three and of four.

    Args:
        world: That they are drawn from.
        seed: Of the scenes.
        each: Scenes of every number.
    """
    found: dict[int, list[Scene]] = {number: [] for number in range(1, MOST + 1)}
    for index in count(FIRST_COUNTED):
        scene = world.draw("train", seed, index)
        if len(mine := found[len(scene.items)]) < each:
            mine.append(scene)
        if all(len(scenes) == each for scenes in found.values()):
            return [scene for several in zip(*found.values(), strict=True) for scene in several]
    raise AssertionError("scenes never end")


def labelled_cutouts(scenes: Sequence[Scene], images: Sequence[np.ndarray]) -> tuple[list[np.ndarray], list[str]]:
    """One cut-out of each thing of a scene, and its noun; of several of the same, one of them.

    Args:
        scenes: What the images show.
        images: `(side, side, 3)` uint8 each.
    """
    drawings, nouns = [], []
    for number, (scene, image) in enumerate(zip(scenes, images, strict=True)):
        parts = ink_parts(image, len(scene.items))
        if scene.layout == "many":
            parts = [parts[number % len(parts)]]
        for box, alone in parts:
            drawings.append(cut_out(alone, box))
            nouns.append(nearest_item(scene, box, len(image)).thing)
    return drawings, nouns


def nearest_item(scene: Scene, box: Sequence[int], side: int) -> Item:
    """The item of a scene whose centre is nearest to that of a box.

    Args:
        scene: With its items.
        box: (left, top, right, bottom) in pixels.
        side: Of the image, in pixels.
    """
    x, y = (box[0] + box[2]) / 2 / side, (box[1] + box[3]) / 2 / side
    return min(scene.items, key=lambda item: (item.x - x) ** 2 + (item.y - y) ** 2)


def _twice(images: Sequence[np.ndarray], generator: torch.Generator) -> Iterator[torch.Tensor]:
    """Batches of the images as they are, then of the images restyled."""
    batches = list(enlarged(images))
    yield from batches
    yield from (restyled(batch, generator) for batch in batches)


def train_head(
    features: torch.Tensor,
    labels: torch.Tensor,
    classes: int,
    *,
    seed: int,
    hidden: int | None = None,
    epochs: int = EPOCHS,
) -> Head:
    """A classifier on standardised features.

    Args:
        features: `(rows, width)`.
        labels: LongTensor `(rows,)`.
        classes: How many labels there are.
        seed: Of weights, dropout and order. The global random state does not change.
        hidden: Units of a hidden layer; `None` for a linear one.
        epochs: Passes over the rows.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = Head(features.shape[1], classes, hidden)
        head.mean.copy_(features.mean(0))
        head.deviation.copy_(features.std(0, correction=0) + 1e-3)
        features = (features - head.mean) / head.deviation
        optimizer = torch.optim.AdamW(head.parameters(), lr=RATE, weight_decay=DECAY)
        steps = epochs * -(-len(features) // BATCH)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
        for _ in range(epochs):
            for picked in torch.randperm(len(features)).split(BATCH):
                logits = head.layers(dropout(features[picked], DROPOUT))
                loss = cross_entropy(logits, labels[picked], label_smoothing=SMOOTHING)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
    return head.eval().requires_grad_(False)
