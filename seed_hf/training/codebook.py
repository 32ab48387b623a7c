"""The health of a codebook: how much of it is used, a k-means start, and new places for codes that nobody uses."""

import torch


class CodebookUsage:
    """Counts how often each code was chosen since the last reading, on the training device."""

    def __init__(self, codebook_size: int, device: torch.device):
        self.counts = torch.zeros(codebook_size, dtype=torch.int64, device=device)

    def add(self, codes: torch.Tensor) -> None:
        codes = codes.detach().flatten()
        self.counts.scatter_add_(0, codes, torch.ones_like(codes))

    def read(self, accelerator) -> dict[str, float]:
        """`used_codes`, `dead_codes` and `perplexity` over all processes, nothing if no code was chosen; starts a new
        window."""
        counts = self.total(accelerator)
        self.counts.zero_()
        if not counts.any():
            return {}
        used = (counts > 0).sum().item()
        return {"used_codes": used, "dead_codes": len(counts) - used, "perplexity": perplexity(counts).item()}

    def total(self, accelerator) -> torch.Tensor:
        """The counts of all processes together, `(codebook_size,)`."""
        return accelerator.reduce(self.counts.clone(), "sum")


def distinct(codes: torch.Tensor) -> torch.Tensor:
    """How many different codes each row of `(batch, n)` has: `(batch,)`."""
    codes = codes.sort(1).values
    return 1 + (codes[:, 1:] != codes[:, :-1]).sum(1)


def perplexity(counts: torch.Tensor) -> torch.Tensor:
    """exp of the entropy of the code frequencies: 1 if one code does everything, K if K codes are used equally often.

    Args:
        counts (`torch.Tensor` of shape `(codebook_size,)`): How often each code was chosen.
    """
    share = counts.double().cpu() / counts.sum().cpu()
    return torch.special.entr(share).sum().exp()


def kmeans(vectors: torch.Tensor, clusters: int, iterations: int, generator: torch.Generator) -> torch.Tensor:
    """Lloyd's k-means in fp32 from randomly chosen vectors; a cluster that runs empty starts again at a random vector.

    Args:
        vectors (`torch.Tensor` of shape `(N, D)`): At least `clusters` of them.
        generator (`torch.Generator`): On the CPU; it alone decides the outcome.

    Returns:
        `torch.FloatTensor` of shape `(clusters, D)`.

    Raises:
        ValueError: there are fewer vectors than clusters.
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
    """`number` rows chosen at random, without repetition as long as there are enough of them."""
    rounds = [torch.randperm(len(vectors), generator=generator) for _ in range(-(-number // len(vectors)))]
    chosen = torch.cat(rounds)[:number] if rounds else torch.empty(0, dtype=torch.int64)
    return vectors[chosen.to(vectors.device)]
