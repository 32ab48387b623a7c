"""The judge: a detector for scenes, independent of the models that it judges.

It counts what is drawn, cuts it apart by where the ink lies, names each cut-out among all things of the world and
measures its colour. It is never told what should be there. How often it is right on real images is the ceiling of
every figure that it gives; `measure` says it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from seed_hf.artifacts.fingerprints import weights_fingerprint
from seed_hf.evaluation.detections import Detection
from seed_hf.files import disk_errors, read_json, whole_file, write_text

from .colours import measured_colour
from .cutouts import cut_out, ink_parts, is_blank
from .features import JudgeFeatures


MOST = 4  # things in a scene
WEIGHTS, FACTS = "judge.safetensors", "judge.json"


class Head(nn.Module):
    """A classifier on standardised features.

    Args:
        width: Of the features.
        classes: How many labels there are.
        hidden: Units of a hidden layer; `None` for a linear one.
    """

    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(self, width: int, classes: int, hidden: int | None = None):
        super().__init__()
        self.hidden = hidden
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("deviation", torch.ones(width))
        first = [] if hidden is None else [nn.Linear(width, hidden), nn.GELU()]
        self.layers = nn.Sequential(*first, nn.Linear(hidden or width, classes))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Logits `(batch, classes)` of features `(batch, width)`."""
        return self.layers((features - self.mean) / self.deviation)


class SceneJudge:
    """A detector of the things of the small world; see [`train_judge`] and [`SceneJudge.load`].

    Args:
        things: Names a cut-out among `names`.
        counts: Says how many things an image shows, one to four.
        names: The nouns, in the order of the head's classes.
        features: What both heads look at.
        training: How it was trained: seed, scenes, pixels.
    """

    counting_score = 0.0  # what it counts does not rest on how sure it is of a name

    def __init__(
        self, things: Head, counts: Head, names: Sequence[str], features: JudgeFeatures, training: Mapping[str, int]
    ):
        self.things, self.counts, self.names = things, counts, tuple(names)
        self.features, self.training = features, dict(training)

    @property
    def labels(self) -> tuple[str, ...]:
        """The nouns that it knows."""
        return self.names

    @property
    def facts(self) -> dict[str, Any]:
        """What a result says of the judge: its training and the hash of its heads."""
        return {
            "class": type(self).__name__,
            **self.training,
            "sha256": weights_fingerprint(nn.ModuleList([self.things, self.counts])),
        }

    @torch.inference_mode()
    def detect(self, images: Sequence[Image.Image]) -> list[list[Detection]]:
        """The things in each image, with boxes as shares of its sides and measured colours; none in a blank one.

        Args:
            images: Drawings on white, of any size.
        """
        pixels = [np.asarray(image.convert("RGB")) for image in images]
        drawn = [number for number, image in enumerate(pixels) if not is_blank(image)]
        counts = self.counts(self.features.of_counts([pixels[number] for number in drawn])).argmax(1) + 1
        owners, boxes, cut = [], [], []
        for number, count in zip(drawn, counts.tolist(), strict=True):
            for box, alone in ink_parts(pixels[number], count):
                owners.append(number)
                boxes.append(box)
                cut.append(cut_out(alone, box))
        scores, best = self.things(self.features.of_things(cut)).softmax(1).max(1)
        found: list[list[Detection]] = [[] for _ in images]
        for number, box, drawing, score, label in zip(owners, boxes, cut, scores.tolist(), best.tolist(), strict=True):
            height, width = pixels[number].shape[:2]
            place = (box[0] / width, box[1] / height, box[2] / width, box[3] / height)
            found[number].append(Detection(self.names[label], place, score, measured_colour(drawing)))
        return found

    def save(self, folder: str | Path) -> None:
        """Write the heads, their labels and how they were trained into a folder; 2.7 MB.

        Args:
            folder: Made if it is not there.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        heads = (("things", self.things), ("counts", self.counts))
        state = {f"{name}.{key}": value for name, head in heads for key, value in head.state_dict().items()}
        with disk_errors(folder), whole_file(folder / WEIGHTS) as temporary:
            save_file(state, temporary)
        facts = {"training": self.training, "names": self.names, "hidden": self.counts.hidden}
        write_text(folder / FACTS, json.dumps(facts, indent=1) + "\n")

    @classmethod
    def load(cls, folder: str | Path, features: JudgeFeatures | None = None) -> SceneJudge:
        """Read what [`SceneJudge.save`] wrote.

        Args:
            folder: With `judge.json` and `judge.safetensors`.
            features: What it sees with; EfficientNet-Lite0 by default.

        Raises:
            FileNotFoundError: There is no judge.
            ValueError: Its files do not belong together.
        """
        folder = Path(folder)
        for name in (FACTS, WEIGHTS):
            if not (folder / name).is_file():
                raise FileNotFoundError(
                    f"{folder / name}: no such file. `seed-hf evaluate judge --pictograms DIR --out {folder}` trains "
                    "a judge."
                )
        try:
            facts, state = read_json(folder / FACTS), load_file(folder / WEIGHTS)
            names, training = tuple(facts["names"]), dict(facts["training"])
            heads = [
                _head(state, name, classes, hidden)
                for name, classes, hidden in (("things", len(names), None), ("counts", MOST, facts["hidden"]))
            ]
        except (KeyError, RuntimeError, SafetensorError, TypeError) as error:
            raise ValueError(
                f"{folder}: {WEIGHTS} and {FACTS} are damaged, or do not belong together. Train the judge again."
            ) from error
        return cls(heads[0], heads[1], names, features or JudgeFeatures(), training)


def _head(state: Mapping[str, torch.Tensor], name: str, classes: int, hidden: int | None) -> Head:
    """The head of this name; raises `KeyError` or `RuntimeError` if it is not what `state` holds."""
    mine = {key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")}
    head = Head(len(mine["mean"]), classes, hidden)
    head.load_state_dict(mine)
    return head.eval().requires_grad_(False)
