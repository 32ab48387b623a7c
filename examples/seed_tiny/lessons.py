"""What drawing is learned from: rows of codes, and the training picture that each is to become.

A caption has pictures in up to ten styles, and models of this size that learn all of them alike remember none. So each
plain caption stands for one picture, in the first style of `STYLES` that has it; the other pictures are learned from
their full descriptions and from their own codes.
"""

from pathlib import Path

import numpy as np
import torch

from features import rows_of
from loop import device


# What a picture is drawn from: what the language model says of its caption or of its description, or its own codes.
CAPTION, DESCRIPTION, OWN = 0.8, 0.1, 0.1
GREEDY = 0.75  # how often the first of a caption's takes
VIEWS = 4  # of each picture's own codes
STYLES = ("fluent-flat", "twemoji", "noto", "emojione2", "noto-blob", "fluent-color", "fluent-3d", "fxemoji",
          "streamline", "openclipart")  # fmt: skip


class Lessons:
    """`codes` `(lessons, 32)`, and random draws of them with the rows of their pictures."""

    def __init__(self, data: Path, work: Path):
        spoken = np.load(work / "features" / "spoken.npz")
        own = np.load(work / "features" / "train.codes.npy")[:VIEWS]
        (self.takes, self.captions), self.rows = spoken["plain"].shape[:2], own.shape[1]
        codes = [spoken["plain"].reshape(-1, own.shape[-1]), spoken["described"], own.reshape(-1, own.shape[-1])]
        self.codes = torch.from_numpy(np.concatenate(codes).astype(np.int64)).to(device())
        self.pictures = torch.tensor(standing_for(rows_of(data), spoken["captions"].tolist()), device=device())

    def draw(self, batch: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Places in `codes` and rows of the pictures, `(batch,)` each."""
        where = self.codes.device
        chance = torch.rand(batch, device=where)
        rows = torch.randint(self.rows, (batch,), device=where)
        captions = torch.randint(self.captions, (batch,), device=where)
        takes = torch.randint(1, self.takes, (batch,), device=where)
        takes[torch.rand(batch, device=where) < GREEDY] = 0
        described = self.takes * self.captions + rows
        places = described + self.rows * (1 + torch.randint(VIEWS, (batch,), device=where))
        places = torch.where(chance < CAPTION + DESCRIPTION, described, places)
        places = torch.where(chance < CAPTION, takes * self.captions + captions, places)
        return places, torch.where(chance < CAPTION, self.pictures[captions], rows)


def standing_for(rows: list[dict], captions: list[str]) -> list[int]:
    """For each caption the row of the picture that a drawing of it should look like."""
    best: dict[str, int] = {}
    rank = [STYLES.index(row["style"]) for row in rows]
    for place, row in enumerate(rows):
        caption = row["caption"].lower()
        if caption not in best or rank[place] < rank[best[caption]]:
            best[caption] = place
    return [best[caption] for caption in captions]
