"""Statistics of visual codes: how often each is used, how many differ in an image, the perplexity."""

import torch


class CodebookUsage:
    """Counts how often each code was chosen since the last reading, on the training device."""

    def __init__(self, codebook_size: int, device: torch.device):
        self.counts = torch.zeros(codebook_size, dtype=torch.int64, device=device)
        self.last: torch.Tensor | None = None  # the counts that were read last, of all processes

    def add(self, codes: torch.Tensor) -> None:
        codes = codes.detach().flatten()
        self.counts.scatter_add_(0, codes, torch.ones_like(codes))

    def read(self, accelerator) -> dict[str, float]:
        """`used_codes`, `dead_codes` and `perplexity` over all processes, nothing if no code was chosen; starts a new
        window."""
        counts = self.total(accelerator)
        self.counts.zero_()
        self.last = counts
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
    counts = counts.cpu().double()  # of which Apple's GPU has none
    share = counts / counts.sum()
    return torch.special.entr(share).sum().exp()
