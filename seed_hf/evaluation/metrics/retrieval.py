"""Image-text retrieval: find a caption of an image, and the image of a caption.

The protocol is that of the SEED paper, table 1, without re-ranking. An image is right if one of its captions is among
its k best captions (TR@k). A caption is right if one of its images is among its k best images (IR@k). R@m is the mean
of the six recalls at 1, 5 and 10. All figures are in percent.

Ties count against the model: a wrong candidate that scores as high as the right one ranks before it. So a model that
gives every image the same features scores 0, not 100.
"""

import torch


RECALLS_AT = (1, 5, 10)
# Scores of equal features differ in the last bits, depending on their place in the batch. These are ties, too.
TIE_TOLERANCE = 1e-6
_CHUNK_VALUES = 2**24  # similarities at a time


def retrieval_recalls(images: torch.Tensor, texts: torch.Tensor, pairs: torch.Tensor) -> dict[str, float]:
    """The recalls of images with any number of captions, and of captions of any number of images.

    Args:
        images: Features `(images, dim)`; need not be normalised.
        texts: Features `(captions, dim)`, of distinct captions.
        pairs: Integers `(pairs, 2)`, each once: an image and a caption of it. Every image and caption has one.

    Returns:
        `TR@1`, `TR@5`, `TR@10`, `IR@1`, `IR@5`, `IR@10`, their mean `R@m`, `num_images` and `num_captions`.

    Raises:
        ValueError: A feature is NaN or infinite.
    """
    named = zip(("TR", "IR"), (owner_ranks(images, texts, pairs), owner_ranks(texts, images, pairs.flip(1))))
    found = {f"{name}@{k}": value for name, ranks in named for k, value in zip(RECALLS_AT, recalls(ranks))}
    mean = sum(found.values()) / len(found)
    return {**found, "R@m": mean, "num_images": len(images), "num_captions": len(texts)}


def owner_ranks(queries: torch.Tensor, candidates: torch.Tensor, pairs: torch.Tensor) -> torch.Tensor:
    """Rank of each query's best own candidate among all candidates by cosine, 1 is best: LongTensor `(queries,)`.

    The query's other own candidates do not count; wrong ones that score as high do.

    Args:
        queries: Features `(queries, dim)`; need not be normalised.
        candidates: Features `(candidates, dim)`.
        pairs: Integers `(pairs, 2)`: query and own candidate. Every query has at least one.

    Raises:
        ValueError: A feature is NaN or infinite.
    """
    queries, candidates, pairs = _unit_vectors(queries), _unit_vectors(candidates), pairs.cpu()
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


def recalls(ranks: torch.Tensor) -> tuple[float, ...]:
    """Share of ranks of at most 1, 5 and 10, in percent.

    Args:
        ranks: Integers, 1 is best.
    """
    return tuple(100.0 * (ranks <= k).cpu().double().mean().item() for k in RECALLS_AT)


def _unit_vectors(features: torch.Tensor) -> torch.Tensor:
    if not features.isfinite().all():  # a comparison with NaN is false, so that it would rank first
        raise ValueError("Features are NaN or infinite: ranks would mean nothing. Use another --dtype.")
    return torch.nn.functional.normalize(features.cpu().double(), dim=-1)  # Apple's GPU has no such numbers
