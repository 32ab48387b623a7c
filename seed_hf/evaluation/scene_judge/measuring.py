"""How often images show what scenes say, as the judge sees it; and how often the judge is right on real images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL import Image

from seed_hf.evaluation.detections import Detection, Verdict, check
from seed_hf.evaluation.generation_prompts import asked_of_scene
from seed_hf.pictograms.scene_sprites import load_sprites
from seed_hf.pictograms.scene_things import Thing
from seed_hf.pictograms.scenes import Scene, World, paint

from .judge import SceneJudge
from .training import PIXELS


Figures = dict[str, float | int | None]
TEST_SETS = ("test", "test_colour", "test_pair", "test_art", "test_style")
# Scenes from this number on are for measuring the judge; training counts from 0.
FIRST_TEST_SCENE = 10**9


def verdict_of_scene(scene: Scene, found: Sequence[Detection]) -> Verdict:
    """Whether an image shows a scene: all its things, no more of them, in their colours, where they should be.

    Args:
        scene: What the image should show.
        found: What the judge saw in it.
    """
    return check(asked_of_scene(scene), found)


def shares(scenes: Sequence[Scene], found: Sequence[Sequence[Detection]]) -> dict[str, Figures]:
    """Shares in percent, by layout ("one", "two", "many"): things, colours, number, relations and all of it right.

    Colours are counted where a scene has one, whatever else is right; `objects` of "two" means both things. A share of
    nothing is `None`, such as that of relations where there is one thing.

    Args:
        scenes: What the images should show.
        found: What the judge saw in each image, see [`SceneJudge.detect`].

    Raises:
        ValueError: Not one image for each scene.
    """
    if len(scenes) != len(found):
        raise ValueError(f"One image for each scene is needed, got {len(found)} for {len(scenes)}.")
    figures: dict[str, Figures] = {}
    for layout in ("one", "two", "many"):
        pairs = [(scene, seen) for scene, seen in zip(scenes, found) if scene.layout == layout]
        if not pairs:
            continue
        verdicts = [verdict_of_scene(*pair) for pair in pairs]
        figures[layout] = {
            "objects": _share(verdict.objects for verdict in verdicts),
            "colours": _share(verdict.colours for verdict in verdicts),
            "number": _share(len(seen) == len(scene.items) for scene, seen in pairs),
            "relations": _share(verdict.relations for verdict in verdicts),
            "correct": _share(verdict.correct for verdict in verdicts),
            "images": len(pairs),
        }
    return figures


def _share(values: Iterable[bool | None]) -> float | None:
    counted = [value for value in values if value is not None]
    return 100.0 * sum(counted) / len(counted) if counted else None


def measure(
    judge: SceneJudge,
    pictograms: str | Path,
    *,
    sets: Sequence[str] = TEST_SETS,
    scenes: int = 500,
    pixels: int = PIXELS,
    batch_size: int = 64,
    things: Sequence[Thing] | None = None,
) -> dict[str, dict[str, Figures]]:
    """How often the judge is right on real images, by set and layout: the ceiling of what it says of drawings.

    Args:
        judge: Is measured.
        pictograms: Folder of the pictograms.
        sets: Of [`World.draw`]; "test_art" and "test_style" have drawings that it has never seen.
        scenes: Of each set.
        pixels: Side of the images.
        batch_size: Images at a time.
        things: The things of the world; by default those of the package.
    """
    world = World(things)
    sprites = load_sprites(pictograms, world.things.values(), ("train", "test_style"))
    figures = {}
    for name in sets:
        shown = [world.draw(name, judge.training["seed"], FIRST_TEST_SCENE + number) for number in range(scenes)]
        found = []
        for start in range(0, scenes, batch_size):
            images = [Image.fromarray(paint(each, sprites, pixels)) for each in shown[start : start + batch_size]]
            found += judge.detect(images)
        figures[name] = shares(shown, found)
    return figures
