"""A judge of drawings, independent of the model: a small convolutional net that learned real scenes of another seed.

It names the thing and the colour of a single thing, also of one that was cut out of a scene of two, and counts up to
four of the same. `judge.py --data D --work W` trains it (some minutes) and says how it does on real scenes, which is
what drawings are to be compared with; `measure_drawings.py` uses it.
"""

import logging
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from loop import autocast, device, stage_arguments, train
from pixels import changed_images
from seed_hf.pictograms.scene_colours import COLOURS
from seed_hf.pictograms.scenes import Scene
from world import images, scenes, world


STEPS, BATCH, RATE = 700, 96, 2e-3
SIDE = 64
THINGS = sorted(world().things)
TONES = [*COLOURS, None]  # None: as drawn


class Judge(nn.Module):
    def __init__(self):
        super().__init__()
        layers, width = [nn.PixelUnshuffle(2)], 12
        for wide, stride in ((48, 1), (96, 2), (192, 2), (256, 2)):
            layers += [nn.Conv2d(width, wide, 3, stride, 1, bias=False), nn.GroupNorm(8, wide), nn.SiLU()]
            width = wide
        self.body = nn.Sequential(*layers, nn.Conv2d(width, 320, 4), nn.SiLU(), nn.Flatten())
        self.thing, self.colour, self.count = (nn.Linear(320, n) for n in (len(THINGS), len(TONES), 4))

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Logits of thing, colour and number, of images `(batch, 3, 64, 64)` in [0, 1]."""
        seen = self.body(pixels - 1)
        return self.thing(seen), self.colour(seen), self.count(seen)


def parts(scene: Scene, pixels: torch.Tensor) -> list[torch.Tensor]:
    """The image as it is; of a scene of two, its halves, each in the middle of a white image."""
    if scene.layout != "two":
        return [pixels]
    across = scene.relation in ("left of", "right of")
    halves = pixels.chunk(2, dim=2 if across else 1)
    if scene.relation in ("right of", "below"):
        halves = halves[::-1]
    quarter = SIDE // 4
    margins = (quarter, quarter, 0, 0) if across else (0, 0, quarter, quarter)
    return [F.pad(half, margins, value=1.0) for half in halves]


def labelled(found: list[Scene], pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(what the judge looks at, the numbers of thing, colour and count)"""
    looks, labels = [], []
    for scene, image in zip(found, pixels):
        for item, part in zip(scene.items, parts(scene, image)):
            looks.append(part)
            count = len(scene.items) - 1 if scene.layout == "many" else 0
            labels.append((THINGS.index(item.thing), TONES.index(item.colour), count))
    return torch.stack(looks), torch.tensor(labels)


def main(argv: list[str] | None = None) -> None:
    arguments = stage_arguments(__doc__, argv, steps=STEPS)
    out = arguments.work / "judge"
    torch.manual_seed(0)
    judge = Judge().to(device())
    if not (out / "judge.pt").exists():

        def loss_of(step: int) -> dict[str, torch.Tensor]:
            found = scenes("judge", step * BATCH, BATCH)
            pixels = images(found, arguments.data, SIDE).float() / 255
            looks, labels = labelled(found, changed_images(pixels))
            with autocast():
                guesses = judge(looks.to(device()))
            losses = [F.cross_entropy(guess.float(), labels[:, i].to(device())) for i, guess in enumerate(guesses)]
            return {"loss": sum(losses), **dict(zip(("thing", "colour", "count"), losses))}

        train(judge, loss_of, out=out, steps=arguments.steps, learning_rate=RATE, average=0.99, muon=True)
        torch.save(judge.state_dict(), out / "judge.pt")
    judge = load_judge(arguments.work)
    for name in ("test", "test_colour", "test_pair", "test_art", "test_style"):
        found = scenes("judge", 10**9, 500, name)
        pixels = images(found, arguments.data, SIDE, ("train", "test_style")).float() / 255
        print(name, verdicts(judge, found, pixels))


def load_judge(work: Path) -> Judge:
    judge = Judge().eval()
    judge.load_state_dict(torch.load(work / "judge" / "judge.pt", weights_only=True))
    return judge


@torch.no_grad()
def verdicts(judge: Judge, found: list[Scene], pixels: torch.Tensor) -> dict[str, float]:
    """Shares of scenes, by layout, in which thing, colour (where one is asked for), number, and all of it are right.

    Args:
        judge: the trained judge.
        found: what the images should show.
        pixels: `(scenes, 3, 64, 64)` in [0, 1].
    """
    looks, labels = labelled(found, pixels)
    guesses = torch.stack([guess.argmax(1) for guess in judge(looks)], 1)
    right = guesses == labels
    right[:, 1] |= labels[:, 1] == TONES.index(None)
    asked = labels[:, 1] != TONES.index(None)
    shares: dict[str, float] = {}
    row, whole = 0, []
    for scene in found:
        number = 2 if scene.layout == "two" else 1
        whole.append((scene.layout, right[row : row + number], asked[row : row + number]))
        row += number
    for layout in ("one", "two", "many"):
        some = [(ok, colour) for kind, ok, colour in whole if kind == layout]
        if not some:
            continue
        shares[f"{layout} n"] = len(some)
        shares[f"{layout} thing"] = _share(ok[:, 0].all() for ok, _ in some)
        shares[f"{layout} colour"] = _share(ok[:, 1].all() for ok, colour in some if colour.any())
        shares[f"{layout} both"] = _share(ok[:, :2].all() for ok, _ in some)
        if layout == "many":
            shares["many number"] = _share(ok[:, 2].all() for ok, _ in some)
    return shares


def _share(values: Iterable) -> float:
    return round(float(np.mean([bool(value) for value in values] or [np.nan])), 3)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    main()
