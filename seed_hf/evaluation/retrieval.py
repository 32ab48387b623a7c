"""Image-text retrieval: find the caption of an image, and the image of a caption.

The protocol is that of the SEED paper, table 1, without re-ranking and with distinct captions as candidates. An image
is right if its own caption is among its k best captions (TR@k). A caption is right if one of its images is among its k
best images (IR@k). R@m is the mean of the six recalls at 1, 5 and 10. All figures are in percent.

Ties count against the model: a wrong candidate that scores as high as the right one ranks before it. So a model that
gives every image the same features scores 0, not 100.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tqdm.auto import tqdm

from .sets import batches, captions_of_rows, distinct_captions, open_picture


RECALLS_AT = (1, 5, 10)
# Scores of equal features differ in the last bits, depending on their place in the batch. These are ties, too.
TIE_TOLERANCE = 1e-6
MAX_TEXT_TOKENS = 35  # of the authors' retrieval evaluation
_CHUNK_VALUES = 2**24  # similarities at a time


@dataclass(frozen=True)
class RetrievalResult:
    """Recalls in percent at 1, 5 and 10.

    Attributes:
        text_recalls: TR@1/5/10, image to caption.
        image_recalls: IR@1/5/10, caption to image.
        num_images: Number of images.
        num_captions: Number of distinct captions.
    """

    text_recalls: tuple[float, ...]
    image_recalls: tuple[float, ...]
    num_images: int
    num_captions: int

    @property
    def mean_recall(self) -> float:
        """R@m."""
        recalls = self.text_recalls + self.image_recalls
        return sum(recalls) / len(recalls)

    def to_dict(self) -> dict[str, float]:
        named = {f"TR@{k}": value for k, value in zip(RECALLS_AT, self.text_recalls, strict=True)}
        named |= {f"IR@{k}": value for k, value in zip(RECALLS_AT, self.image_recalls, strict=True)}
        return {**named, "R@m": self.mean_recall, "num_images": self.num_images, "num_captions": self.num_captions}


def caption_ranks(
    image_features: torch.Tensor, text_features: torch.Tensor, caption_of_image: torch.Tensor
) -> torch.Tensor:
    """Rank of each image's own caption among all captions by cosine, 1 is best: LongTensor `(images,)`.

    Args:
        image_features: `(images, dim)`; need not be normalised.
        text_features: `(captions, dim)`, one row for each distinct caption. Captions without an image are allowed.
        caption_of_image: Integers `(images,)`: the row of `text_features` that describes the image.

    Raises:
        ValueError: Shapes do not fit, an index is out of range, or a feature is NaN or infinite.
    """
    image_features, text_features = _checked(image_features, text_features, caption_of_image)
    return owner_ranks(image_features, text_features, _pairs(caption_of_image))


def image_ranks(
    image_features: torch.Tensor, text_features: torch.Tensor, caption_of_image: torch.Tensor
) -> torch.Tensor:
    """Rank of each caption's best own image among all images, 1 is best: LongTensor `(captions,)`.

    Args:
        image_features, text_features, caption_of_image: As in [`caption_ranks`].

    Raises:
        ValueError: As in [`caption_ranks`], or a caption has no image.
    """
    image_features, text_features = _checked(image_features, text_features, caption_of_image)
    images = torch.bincount(caption_of_image.cpu(), minlength=len(text_features))
    if (images == 0).any():
        raise ValueError(f"Caption {int((images == 0).nonzero()[0])} has no image, so no image can be found for it.")
    return owner_ranks(text_features, image_features, _pairs(caption_of_image).flip(1))


def owner_ranks(queries: torch.Tensor, candidates: torch.Tensor, pairs: torch.Tensor) -> torch.Tensor:
    """Rank of each query's best own candidate among all candidates by dot product, 1 is best: LongTensor `(queries,)`.

    The query's other own candidates do not count; wrong ones that score as high do.

    Args:
        queries: `(queries, dim)`, normalised.
        candidates: `(candidates, dim)`, normalised.
        pairs: Integers `(pairs, 2)`: query and own candidate. Every query has at least one.
    """
    pairs = pairs.to(queries.device)
    rows = max(1, _CHUNK_VALUES // len(candidates))
    ranks = []
    for start in range(0, len(queries), rows):
        scores = queries[start : start + rows] @ candidates.T
        inside = (pairs[:, 0] >= start) & (pairs[:, 0] < start + len(scores))
        query, candidate = (pairs[inside] - torch.tensor([start, 0], device=pairs.device)).unbind(1)
        own = torch.zeros(scores.shape, dtype=torch.bool, device=scores.device)
        own[query, candidate] = True
        best = scores.masked_fill(~own, -torch.inf).amax(1, keepdim=True)
        ranks.append(1 + ((scores >= best - TIE_TOLERANCE) & ~own).sum(1))
    return torch.cat(ranks)


def _pairs(caption_of_image: torch.Tensor) -> torch.Tensor:
    return torch.stack([torch.arange(len(caption_of_image)), caption_of_image.cpu()], dim=1)


def recalls(ranks: torch.Tensor) -> tuple[float, ...]:
    """Share of ranks of at most 1, 5 and 10, in percent.

    Args:
        ranks: Integers, 1 is best.
    """
    return tuple(100.0 * (ranks <= k).cpu().double().mean().item() for k in RECALLS_AT)


def retrieval_recalls(
    image_features: torch.Tensor, text_features: torch.Tensor, caption_of_image: torch.Tensor
) -> RetrievalResult:
    """The six recalls of a set.

    Args:
        image_features, text_features, caption_of_image: As in [`image_ranks`], which also says what is raised.
    """
    return RetrievalResult(
        text_recalls=recalls(caption_ranks(image_features, text_features, caption_of_image)),
        image_recalls=recalls(image_ranks(image_features, text_features, caption_of_image)),
        num_images=len(image_features),
        num_captions=len(text_features),
    )


@torch.no_grad()
def evaluate_retrieval(
    tokenizer,
    processor,
    rows: Sequence[Mapping[str, Any]],
    use_codes: bool = True,
    batch_size: int = 64,
) -> RetrievalResult:
    """Retrieval by a [`SeedTokenizer`] among the distinct images and captions of the rows.

    Args:
        tokenizer: A [`SeedTokenizer`] with a text tower.
        processor: A [`SeedProcessor`] whose text tokenizer is the one of stage I.
        rows: Rows with `image` and `caption`. An image of several rows, each with a caption, is one image.
        use_codes: `True` ranks by the embeddings reconstructed from the 32 codes ("causal code" in the paper), `False`
            by the continuous causal embeddings.
        batch_size: Images or captions at a time. The result does not depend on it.
    """
    captions, caption_of_row = distinct_captions(captions_of_rows(rows))
    image_features, image_of_row = [], []
    numbers: dict[bytes, int] = {}
    for batch in tqdm(list(batches(rows, batch_size)), desc="images", leave=False):
        new = []
        for picture in map(open_picture, batch):
            key = hashlib.sha256(f"{picture.size}".encode() + picture.tobytes()).digest()
            if key not in numbers:
                numbers[key] = len(numbers)
                new.append(picture)
            image_of_row.append(numbers[key])
        if not new:
            continue
        pixels = processor.image_processor(new, return_tensors="pt")["pixel_values"]
        pixels = pixels.to(tokenizer.device, tokenizer.dtype)
        given = {"codes": tokenizer.encode(pixels)} if use_codes else {"pixel_values": pixels}
        image_features.append(tokenizer.get_image_features(**given).pooler_output.float())
    text_features = []
    max_length = min(MAX_TEXT_TOKENS, tokenizer.config.qformer_config.max_position_embeddings)
    for batch in batches(captions, batch_size):
        inputs = processor.text_tower(batch, max_length).to(tokenizer.device)
        text_features.append(
            tokenizer.get_text_features(inputs["input_ids"], inputs["attention_mask"]).pooler_output.float()
        )
    pairs = torch.stack([torch.tensor(image_of_row), caption_of_row], 1).unique(dim=0)
    images, texts = (
        unit_vectors(torch.cat(features), f"the {name}")
        for features, name in ((image_features, "images"), (text_features, "captions"))
    )
    return recalls_of_pairs(images, texts, pairs)


def unit_vectors(features: torch.Tensor, what: str) -> torch.Tensor:
    """Features `(number, dim)` as unit vectors in float64, on the CPU: Apple's GPU has no such numbers.

    Args:
        features: Of any size, on any device.
        what: They are of, for the message.

    Raises:
        ValueError: One is NaN or infinite. A comparison with NaN is false, so that it would rank first.
    """
    if not features.isfinite().all():
        raise ValueError(f"The features of {what} are NaN or infinite: ranks would mean nothing. Use another --dtype.")
    return torch.nn.functional.normalize(features.cpu().double(), dim=-1)


def recalls_of_pairs(images: torch.Tensor, texts: torch.Tensor, pairs: torch.Tensor) -> RetrievalResult:
    """The six recalls of images with several captions and captions of several images.

    Args:
        images, texts: As [`unit_vectors`] makes them.
        pairs: Integers `(pairs, 2)`, each once: an image and a caption of it. Every image and caption has one.
    """
    return RetrievalResult(
        text_recalls=recalls(owner_ranks(images, texts, pairs)),
        image_recalls=recalls(owner_ranks(texts, images, pairs.flip(1))),
        num_images=len(images),
        num_captions=len(texts),
    )


def _checked(image_features, text_features, caption_of_image) -> tuple[torch.Tensor, torch.Tensor]:
    """Check shapes and values; both features normalised in float64 on the CPU."""
    shapes = f"{tuple(image_features.shape)} and {tuple(text_features.shape)}"
    if image_features.ndim != 2 or text_features.ndim != 2 or image_features.shape[1] != text_features.shape[1]:
        raise ValueError(f"Features must be (images, dim) and (captions, dim) with the same dim, got {shapes}.")
    if len(image_features) == 0 or len(text_features) == 0:
        raise ValueError(f"There must be at least one image and one caption, got features of {shapes}.")
    if tuple(caption_of_image.shape) != (len(image_features),) or caption_of_image.is_floating_point():
        raise ValueError(
            f"caption_of_image must hold one integer for each of the {len(image_features)} images, got shape "
            f"{tuple(caption_of_image.shape)} of {caption_of_image.dtype}."
        )
    low, high = int(caption_of_image.min()), int(caption_of_image.max())
    if low < 0 or high >= len(text_features):
        raise ValueError(f"caption_of_image must lie in [0, {len(text_features)}), got {low} to {high}.")
    for name, features in (("image_features", image_features), ("text_features", text_features)):
        # A comparison with NaN is false, so a row with NaN would rank first.
        if not torch.isfinite(features).all():
            raise ValueError(f"{name} holds NaN or infinite values: ranks would be meaningless.")
    normalize = torch.nn.functional.normalize
    return normalize(image_features.cpu().double(), dim=-1), normalize(text_features.cpu().double(), dim=-1)
