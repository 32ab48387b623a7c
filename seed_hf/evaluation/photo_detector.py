"""The detector of GenEval for photographs, from local folders: Mask2Former finds objects, CLIP names their colours."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn.functional import normalize

from seed_hf.artifacts.loading import load_pretrained
from seed_hf.devices import usable_device
from seed_hf.files import read_json

from .detections import Detection
from .image_encoders import ClipEncoder
from .result import model_facts


if TYPE_CHECKING:
    from PIL import Image

# GenEval's settings.
THRESHOLD, COUNTING_THRESHOLD = 0.3, 0.9
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")
WORDINGS = ("a photo of a {colour} {label}", "a photo of a {colour}-colored {label}", "a photo of a {colour} object")
GROUND = (0x99, 0x99, 0x99)
# What GenEval's prompts call COCO's objects, by COCO's names and by those of the Mask2Formers on the Hub.
GENEVAL_NAMES = {
    "mouse": "computer mouse",
    "remote": "tv remote",
    "keyboard": "computer keyboard",
    "motorbike": "motorcycle",
    "aeroplane": "airplane",
    "sofa": "couch",
    "pottedplant": "potted plant",
    "diningtable": "dining table",
    "tvmonitor": "tv",
    "hair dryer": "hair drier",
}


class PhotoDetector:
    """Objects by Mask2Former, their colours by CLIP on the object alone, on grey.

    Args:
        folder: With a Mask2Former for instances, such as a copy of facebook/mask2former-swin-small-coco-instance: the
            architecture of GenEval's own detector. Its labels become those of GenEval's prompts (`GENEVAL_NAMES`).
        clip: With a CLIP; GenEval's is OpenAI's ViT-L/14.
        threshold: Objects are surer than this.
        device: Where it runs; a GPU if there is one. It computes in fp32.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: It holds something else, or the CLIP has no text encoder.
        ModuleNotFoundError: scipy is not installed.
    """

    counting_score = COUNTING_THRESHOLD

    def __init__(
        self, folder: str | Path, clip: str | Path, *, threshold: float = THRESHOLD, device: str | None = None
    ):
        from transformers import Mask2FormerForUniversalSegmentation, Mask2FormerImageProcessor

        folder = Path(folder)
        if not (folder / "config.json").is_file():
            raise FileNotFoundError(
                f"{folder}: no detector here (no config.json). Give the folder of a Mask2Former for instances; "
                "nothing is downloaded."
            )
        if (kind := read_json(folder / "config.json").get("model_type")) != "mask2former":
            raise ValueError(f"{folder} holds a model of type {kind!r}; objects are found by a Mask2Former.")
        if importlib.util.find_spec("scipy") is None:
            raise ModuleNotFoundError("transformers' Mask2Former needs scipy: pip install scipy")
        self._clip, self.threshold = ClipEncoder(clip, device=device), threshold
        if not self._clip.reads_text:
            raise ValueError(f"{clip}: colours need a whole CLIP, with its text encoder.")
        model = load_pretrained(Mask2FormerForUniversalSegmentation, folder)
        self._model = model.to(usable_device(device), torch.float32).eval()
        self._images = load_pretrained(Mask2FormerImageProcessor, folder)
        self._names = geneval_names(self._model.config.id2label)
        self._colours_of = cache(self._colour_features)

    @property
    def facts(self) -> dict[str, Any]:
        return {
            **model_facts(self._model),
            "threshold": self.threshold,
            "counting_threshold": self.counting_score,
            "clip": self._clip.facts,
        }

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(self._names.values())

    def detect(self, images: Sequence[Image.Image]) -> list[list[Detection]]:
        """The objects in each image, with boxes in pixels.

        Args:
            images: Of any size.
        """
        return [self._detected(image.convert("RGB")) for image in images]

    @torch.inference_mode()
    def _detected(self, image: Image.Image) -> list[Detection]:
        inputs = self._images(images=[image], return_tensors="pt").to(self._model.device)
        found = self._images.post_process_instance_segmentation(
            self._model(**inputs),
            threshold=self.threshold,
            target_sizes=[image.size[::-1]],
            return_binary_maps=True,
        )[0]
        if not (segments := found["segments_info"]):
            return []
        pixels = np.asarray(image)
        boxes, crops, labels = [], [], []
        for segment, mask in zip(segments, found["segmentation"], strict=True):
            rows, columns = np.nonzero(mask.cpu().numpy() > 0)
            top, left, bottom, right = rows.min(), columns.min(), rows.max() + 1, columns.max() + 1
            alone = np.full_like(pixels, GROUND)
            alone[rows, columns] = pixels[rows, columns]
            boxes.append((float(left), float(top), float(right), float(bottom)))
            crops.append(_image(alone[top:bottom, left:right]))
            labels.append(self._names[segment["label_id"]])
        features = normalize(self._clip.images(crops), dim=-1)
        return [
            Detection(label, box, segment["score"], COLOURS[int((self._colours_of(label) @ row).argmax())])
            for label, box, segment, row in zip(labels, boxes, segments, features, strict=True)
        ]

    def _colour_features(self, label: str) -> torch.Tensor:
        """A unit vector for each colour, `(colours, width)`: the mean of those of its wordings."""
        each = [
            normalize(self._clip.texts([words.format(colour=colour, label=label) for words in WORDINGS]), dim=-1)
            for colour in COLOURS
        ]
        return normalize(torch.stack([vectors.mean(0) for vectors in each]), dim=-1)


def geneval_names(labels: Mapping[int, str]) -> dict[int, str]:
    """The labels of a detector as GenEval's prompts name them; others stay what they are.

    Args:
        labels: `id2label` of its configuration.
    """
    return {number: GENEVAL_NAMES.get(label, label) for number, label in labels.items()}


def _image(pixels: np.ndarray) -> Image.Image:
    from PIL import Image

    return Image.fromarray(np.ascontiguousarray(pixels))
