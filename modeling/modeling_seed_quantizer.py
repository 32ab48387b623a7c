"""The codebook of the SEED tokenizer: nearest vector by Euclidean distance, always in fp32."""

import torch
from torch import nn

from .offloading_seed import at_hand


# Distances that are in memory at once. On a CPU they stay in its cache (8 MB); elsewhere larger pieces are faster.
_DISTANCES_AT_ONCE = {"cpu": 2**21}
_DISTANCES_ELSEWHERE = 2**26


class SeedCodebook(nn.Embedding):
    """The codebook's vectors. `_init_weights` recognises this class; transformers skips modules of other packages that
    have no parameters of their own, such as the quantizer around this one."""


class SeedVectorQuantizer(nn.Module):
    """A plain VQ codebook with a straight-through gradient (paper 3.2).

    Args:
        codebook_size: Number of vectors.
        code_dim: Their width.
        beta: Commitment weight.
        legacy_beta: `True` weighs the codebook side with `beta`, as the authors' code does; `False` the encoder side.
    """

    def __init__(self, codebook_size: int, code_dim: int, beta: float = 0.25, legacy_beta: bool = True):
        super().__init__()
        self.embedding = SeedCodebook(codebook_size, code_dim)
        self.beta = beta
        self.legacy_beta = legacy_beta

    @torch.no_grad()
    def encode(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Index of the nearest codebook vector, shape `hidden_states.shape[:-1]`; ties go to the lowest index.

        Distances are fp32 under any autocast: half precision changes codes.
        """
        with torch.autocast(hidden_states.device.type, enabled=False):
            codebook = at_hand(self.embedding, "weight").float()
            # |z - e|^2 without the |z|^2 that all candidates share, halved.
            half_norms = codebook.pow(2).sum(-1) / 2
            rows = hidden_states.reshape(-1, codebook.shape[1]).float()
            at_once = _DISTANCES_AT_ONCE.get(rows.device.type, _DISTANCES_ELSEWHERE) // len(codebook)
            # Compiled code has one graph for every number of rows, so there it is one piece.
            parts = (rows,) if torch.compiler.is_compiling() else rows.split(max(1, at_once))
            # The first of equal minima; on a CPU twice as fast as argmin.
            nearest = [torch.addmm(half_norms, part, codebook.T, alpha=-1).min(-1).indices for part in parts]
        codes = torch.cat(nearest)
        return codes.view(hidden_states.shape[:-1])

    def lookup(self, codes: torch.Tensor) -> torch.Tensor:
        """Codebook vectors `(*codes.shape, code_dim)`."""
        return self.embedding(codes)

    def forward(self, hidden_states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(codes, vectors with a straight-through gradient, VQ loss `()`) for `(batch, n, code_dim)`."""
        codes = self.encode(hidden_states)
        vectors = self.lookup(codes)
        encoder_side = (vectors.detach() - hidden_states).float().pow(2).mean()
        codebook_side = (vectors - hidden_states.detach()).float().pow(2).mean()
        if self.legacy_beta:
            loss = encoder_side + self.beta * codebook_side
        else:
            loss = codebook_side + self.beta * encoder_side
        return codes, hidden_states + (vectors - hidden_states).detach(), loss


__all__ = ["SeedCodebook", "SeedVectorQuantizer"]
