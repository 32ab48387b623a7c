"""What images are compared by: a CLIP folder, the EfficientNet of the judge, or Inception for FID."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch

from seed_hf.artifacts.loading import load_pretrained
from seed_hf.conversion.checkpoint_files import read_file
from seed_hf.devices import usable_device
from seed_hf.files import read_json, sha256_of

from .reference_models import efficientnet_features, load_efficientnet
from .result import model_facts


if TYPE_CHECKING:
    from PIL import Image

EFFICIENTNET = "efficientnet"


class ImageEncoder(Protocol):
    """Features of images, and of texts where `reads_text`."""

    reads_text: bool

    @property
    def facts(self) -> dict[str, Any]:
        """What a result says of it. Ready for JSON."""

    def images(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """`(len(images), width)` in fp32 on the CPU."""

    def texts(self, texts: Sequence[str]) -> torch.Tensor:
        """`(len(texts), width)` in fp32 on the CPU."""


class ClipEncoder:
    """A CLIP of transformers from a local folder: its projected features, as `get_image_features` returns them.

    Args:
        folder: With a CLIP model (`clip`), or an image encoder alone (`clip_vision_model`), and its preprocessor.
        device: Where it runs; a GPU if there is one. It computes in fp32.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: It holds something else.
    """

    def __init__(self, folder: str | Path, *, device: str | None = None):
        from transformers import AutoTokenizer, CLIPImageProcessor, CLIPModel, CLIPVisionModelWithProjection

        folder = Path(folder)
        if not (folder / "config.json").is_file():
            raise FileNotFoundError(
                f"{folder}: no CLIP here (no config.json). Give the folder of one, such as a copy of "
                "openai/clip-vit-large-patch14; nothing is downloaded."
            )
        kind = read_json(folder / "config.json").get("model_type")
        if kind not in ("clip", "clip_vision_model"):
            raise ValueError(f"{folder} holds a model of type {kind!r}; images are compared by CLIP.")
        self.reads_text = kind == "clip"
        self._model = load_pretrained(CLIPModel if self.reads_text else CLIPVisionModelWithProjection, folder)
        self._model = self._model.to(usable_device(device), torch.float32).eval()
        self._images = load_pretrained(CLIPImageProcessor, folder)
        self._texts = load_pretrained(AutoTokenizer, folder) if self.reads_text else None

    @property
    def facts(self) -> dict[str, Any]:
        return model_facts(self._model)

    @torch.inference_mode()
    def images(self, images: Sequence[Image.Image]) -> torch.Tensor:
        pixels = self._images(list(images), return_tensors="pt")["pixel_values"].to(self._model.device)
        if not self.reads_text:
            return self._model(pixels).image_embeds.float().cpu()
        return _features(self._model.get_image_features(pixels))

    @torch.inference_mode()
    def texts(self, texts: Sequence[str]) -> torch.Tensor:
        if self._texts is None:
            raise ValueError("This image encoder has no text encoder.")
        limit = self._model.config.text_config.max_position_embeddings
        inputs = self._texts(list(texts), padding=True, truncation=True, max_length=limit, return_tensors="pt")
        return _features(self._model.get_text_features(**inputs.to(self._model.device)))


class EfficientNetEncoder:
    """Pooled features of EfficientNet-Lite0 with ImageNet weights (extra `eval`): for pictograms, where no CLIP is."""

    reads_text = False

    @cached_property
    def _model(self) -> Any:
        return load_efficientnet()

    @property
    def facts(self) -> dict[str, Any]:
        return model_facts(self._model)

    def images(self, images: Sequence[Image.Image]) -> torch.Tensor:
        return efficientnet_features(self._model, images).float().cpu()

    def texts(self, texts: Sequence[str]) -> torch.Tensor:
        raise ValueError("EfficientNet reads no texts.")


class InceptionEncoder:
    """The Inception of FID, by torch-fidelity, with weights that you give.

    Args:
        weights: `weights-inception-2015-12-05-6726825d.pth`, as torch-fidelity publishes it.
        device: Where it runs; a GPU if there is one.

    Raises:
        FileNotFoundError: There is no such file.
        ConversionError: It is damaged, or holds pickled code.
        ModuleNotFoundError: torch-fidelity is not installed.
    """

    reads_text = False

    def __init__(self, weights: str | Path, *, device: str | None = None):
        if not Path(weights).is_file():
            raise FileNotFoundError(f"{weights}: no such file of Inception weights. Nothing is downloaded.")
        read_file(Path(weights))  # torch-fidelity would run code that is pickled in it
        try:
            from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError("FID needs torch-fidelity's Inception: pip install torch-fidelity") from error
        self._weights, self._device = Path(weights), usable_device(device)
        model = FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=str(weights))
        self._model = model.to(self._device).eval()

    @property
    def facts(self) -> dict[str, Any]:
        return {"class": "FeatureExtractorInceptionV3", "sha256": sha256_of(self._weights)}

    @torch.inference_mode()
    def images(self, images: Sequence[Image.Image]) -> torch.Tensor:
        import numpy as np

        # It enlarges to 299 x 299 by itself, image by image: they may differ in size.
        found = []
        for image in images:
            pixels = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)[None]
            found.append(self._model(pixels.to(self._device))[0])
        return torch.cat(found).float().cpu()

    def texts(self, texts: Sequence[str]) -> torch.Tensor:
        raise ValueError("Inception reads no texts.")


def open_encoder(name: str, *, device: str | None = None) -> ClipEncoder | EfficientNetEncoder:
    """An image encoder by the name that a user gives.

    Args:
        name: "efficientnet", or the folder of a CLIP.
        device: Where it runs.
    """
    return EfficientNetEncoder() if name == EFFICIENTNET else ClipEncoder(name, device=device)


def _features(output: Any) -> torch.Tensor:
    """The features of a call, which newer versions of transformers wrap in an output."""
    return getattr(output, "pooler_output", output).float().cpu()
