"""Captions by a SEED model, and how many of them name the right thing exactly."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tqdm.auto import tqdm

from .sets import batches, open_picture


MAX_NEW_TOKENS = 24


@dataclass(frozen=True)
class CaptionResult:
    """Captions of a set.

    Attributes:
        exact_match: Share of the pictures, in percent, whose caption is the set's own, after [`normalize_text`].
        captions: The generated captions, in the order of the rows.
    """

    exact_match: float
    captions: list[str]

    def to_dict(self) -> dict[str, float]:
        return {"exact_match": self.exact_match, "num_images": len(self.captions)}


def normalize_text(text: str) -> str:
    """Lower case, single spaces, no final full stop: what exact match compares."""
    return " ".join(text.lower().split()).rstrip(".").rstrip()


def exact_match(predictions: Sequence[str], references: Sequence[str]) -> float:
    """Share of equal texts in percent, after [`normalize_text`].

    Raises:
        ValueError: The two lists are empty or differ in length.
    """
    if len(predictions) != len(references) or not predictions:
        raise ValueError(f"One prediction for each reference is needed, got {len(predictions)} and {len(references)}.")
    hits = sum(normalize_text(p) == normalize_text(r) for p, r in zip(predictions, references, strict=True))
    return 100.0 * hits / len(references)
