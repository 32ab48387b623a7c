"""`codebook`: how many codes are used, how evenly, and how many differ within an image."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch

from seed_hf.evaluation.metrics.codebook import codebook_use
from seed_hf.evaluation.result import image_settings, model_facts
from seed_hf.evaluation.rows import EvaluationRow
from seed_hf.inference import encode_images


if TYPE_CHECKING:
    from PIL import Image


class Codebook:
    """The codes of images.

    Args:
        tokenizer: A [`SeedTokenizer`].
        image_processor: Prepares the images.
    """

    name = "codebook"

    def __init__(self, tokenizer: Any, image_processor: Any):
        self.tokenizer, self.image_processor = tokenizer, image_processor

    @property
    def settings(self) -> dict[str, Any]:
        return {"codebook_size": self.tokenizer.config.codebook_size, **image_settings(self.image_processor)}

    @property
    def protocol(self) -> dict[str, Any]:
        return {}

    @property
    def model(self) -> dict[str, Any]:
        return model_facts(self.tokenizer)

    def fault(self, row: EvaluationRow) -> str:
        return "no image" if row.image is None else ""

    def length(self, row: EvaluationRow) -> int:
        return 0

    @torch.inference_mode()
    def see(self, images: list[Image.Image]) -> list[list[int]]:
        return encode_images(self.tokenizer, self.image_processor, images).tolist()

    def measure(self, rows: list[EvaluationRow], seen: list[list[int]]) -> list[dict[str, Any]]:
        return [{"codes": codes} for codes in seen]

    def figures(self, records: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        """The figures of [`codebook_use`]."""
        images = {record.get("image", number): record["codes"] for number, record in enumerate(records)}
        codes = torch.tensor(list(images.values()))
        return {"all": codebook_use(codes, self.tokenizer.config.codebook_size)}
