"""What helps against unused codes: k-means centres as a start, and random encoder outputs as replacements."""

import torch


def kmeans(vectors: torch.Tensor, clusters: int, iterations: int, generator: torch.Generator) -> torch.Tensor:
    """Lloyd's k-means in fp32. It starts at random vectors; an empty cluster starts again at another one.

    Args:
        vectors (`torch.Tensor` of shape `(N, D)`): At least `clusters` of them.
        clusters: Number of centres.
        iterations: Rounds.
        generator (`torch.Generator`): On the CPU; it alone decides the result.

    Returns:
        `torch.FloatTensor` of shape `(clusters, D)`: the centres.

    Raises:
        ValueError: There are fewer vectors than clusters.
    """
    if len(vectors) < clusters:
        raise ValueError(f"k-means needs at least one vector per cluster, got {len(vectors)} for {clusters} clusters.")
    vectors = vectors.float()
    centres = pick(vectors, clusters, generator)
    for _ in range(iterations):
        nearest = torch.cat([torch.cdist(part, centres).argmin(1) for part in vectors.split(4096)])
        sums = torch.zeros_like(centres).index_add_(0, nearest, vectors)
        counts = torch.bincount(nearest, minlength=clusters)
        empty = counts == 0
        centres = sums / counts.clamp(min=1)[:, None]
        centres[empty] = pick(vectors, int(empty.sum()), generator)
    return centres


def pick(vectors: torch.Tensor, number: int, generator: torch.Generator) -> torch.Tensor:
    """Random rows of `vectors`, without repetition if there are enough.

    Args:
        vectors (`torch.Tensor` of shape `(N, D)`): To choose from.
        number: How many.
        generator (`torch.Generator`): On the CPU.
    """
    rounds = [torch.randperm(len(vectors), generator=generator) for _ in range(-(-number // len(vectors)))]
    chosen = torch.cat(rounds)[:number] if rounds else torch.empty(0, dtype=torch.int64)
    return vectors[chosen.to(vectors.device)]
