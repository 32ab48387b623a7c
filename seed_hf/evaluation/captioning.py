"""Captions by a SEED model, and the share of them that equals the reference."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tqdm.auto import tqdm

from seed_hf.texts import MAX_NEW_TOKENS, generate_texts

from .sets import batches, captions_of_rows, open_picture


@dataclass(frozen=True)
class CaptionResult:
    """Captions of a set.

    Attributes:
        exact_match: Share of images, in percent, whose caption equals the reference after [`normalize_text`].
        known_captions: Share of images, in percent, whose caption is the reference of any image of the set. The rest
            are captions from elsewhere.
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
    """The form in which texts are compared: lower case, single spaces, no final full stop."""
    return " ".join(text.lower().split()).rstrip(".").rstrip()


def exact_match(predictions: Sequence[str], references: Sequence[str]) -> float:
    """Share of equal texts in percent, after [`normalize_text`].

    Args:
        predictions: Generated texts.
        references: The right text for each prediction.

    Raises:
        ValueError: The two lists are empty or differ in length.
    """
    if len(predictions) != len(references) or not predictions:
        raise ValueError(f"One prediction for each reference is needed, got {len(predictions)} and {len(references)}.")
    hits = sum(normalize_text(p) == normalize_text(r) for p, r in zip(predictions, references, strict=True))
    return 100.0 * hits / len(references)


def evaluate_captions(
    model,
    processor,
    rows: Sequence[Mapping[str, Any]],
    batch_size: int = 64,
    max_new_tokens: int = MAX_NEW_TOKENS,
) -> CaptionResult:
    """Compare greedy captions of the rows' images with the rows' captions.

    Args:
        model: A [`SeedForConditionalGeneration`].
        processor: Its [`SeedProcessor`]; the prompt is its `caption_prompt`.
        rows: Rows with `image` and `caption`.
        batch_size: Images at a time, padded on the left. The result does not depend on it.
        max_new_tokens: Length limit of a caption.
    """
    references = captions_of_rows(rows)
    captions: list[str] = []
    for batch in tqdm(list(batches(range(len(rows)), batch_size)), desc="captions", leave=False):
        inputs = processor.caption([open_picture(rows[i]) for i in batch])
        captions += generate_texts(model, processor, inputs, max_new_tokens)
    known = {normalize_text(reference) for reference in references}
    return CaptionResult(
        exact_match=exact_match(captions, references),
        known_captions=100.0 * sum(normalize_text(caption) in known for caption in captions) / len(captions),
        captions=captions,
    )
