"""Captions by a SEED model, and how many of them name the right thing exactly."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tqdm.auto import tqdm

from .sets import batches, open_picture


MAX_NEW_TOKENS = 32


@dataclass(frozen=True)
class CaptionResult:
    """Captions of a set.

    Attributes:
        exact_match: Share of the pictures, in percent, whose caption is the set's own, after [`normalize_text`].
        known_captions: Share of the pictures, in percent, that get a caption which the set has for some picture: what
            is missing to 100 are captions of other sets and inventions.
        captions: The generated captions, in the order of the rows.
    """

    exact_match: float
    known_captions: float
    captions: list[str]

    def to_dict(self) -> dict[str, float]:
        return {
            "exact_match": self.exact_match,
            "known_captions": self.known_captions,
            "num_images": len(self.captions),
        }


def normalize_text(text: str) -> str:
    """Lower case, single spaces, no final full stop: the form in which texts are compared."""
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


@torch.no_grad()
def generate_texts(
    model, processor, inputs: Mapping[str, torch.Tensor], max_new_tokens: int = MAX_NEW_TOKENS
) -> list[str]:
    """Greedy continuations of a batch of prompts, without the prompts.

    Args:
        model: A [`SeedForConditionalGeneration`].
        processor: Its [`SeedProcessor`].
        inputs: What `processor.caption` or `processor.ask` made, padded on the left; `codes` may stand in the place of
            `pixel_values`.
    """
    inputs = {name: value.to(model.device) for name, value in inputs.items()}
    settings = {"do_sample": False, "num_beams": 1, "max_new_tokens": max_new_tokens}
    ids = model.generate(**inputs, generation_mode="text", **settings)
    new = ids[:, inputs["input_ids"].shape[1] :]
    texts = processor.post_process_multimodal_output(new, generation_mode="text")
    return [text.strip() for text in texts]


def evaluate_captions(
    model,
    processor,
    rows: Sequence[Mapping[str, Any]],
    batch_size: int = 64,
    max_new_tokens: int = MAX_NEW_TOKENS,
) -> CaptionResult:
    """Greedy captions of the rows' pictures against the rows' captions.

    Args:
        model: A [`SeedForConditionalGeneration`].
        processor: Its [`SeedProcessor`]; the prompt is its `caption_prompt`.
        rows: Rows with `image` and `caption`.
        batch_size: Pictures at a time, padded on the left. The result does not depend on it.
    """
    captions: list[str] = []
    for batch in tqdm(list(batches(range(len(rows)), batch_size)), desc="captions", leave=False):
        inputs = processor.caption([open_picture(rows[i]) for i in batch])
        captions += generate_texts(model, processor, inputs, max_new_tokens)
    references = [row["caption"] for row in rows]
    known = {normalize_text(reference) for reference in references}
    return CaptionResult(
        exact_match=exact_match(captions, references),
        known_captions=100.0 * sum(normalize_text(caption) in known for caption in captions) / len(captions),
        captions=captions,
    )
