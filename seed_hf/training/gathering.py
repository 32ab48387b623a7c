"""Features of all processes, with a gradient: what a contrastive loss over the whole batch needs."""

import torch
from torch import distributed
from torch.autograd import Function


class _GatherRows(Function):
    """All processes' rows, in the order of their ranks. `all_gather` of torch has no gradient of its own."""

    @staticmethod
    def forward(ctx, rows: torch.Tensor) -> torch.Tensor:
        parts = [torch.empty_like(rows) for _ in range(distributed.get_world_size())]
        distributed.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> torch.Tensor:
        # Every process has used these rows, and each knows only what its own loss makes of them.
        gradient = gradient.contiguous()
        distributed.all_reduce(gradient)
        return gradient.chunk(distributed.get_world_size())[distributed.get_rank()]


def gather_features(features: torch.Tensor) -> tuple[torch.Tensor, int]:
    """`(batch, width)` of this process to `(processes * batch, width)` of all, and the row at which its own begin.

    The gradient flows back to every process. All processes must give equally many rows.
    """
    return _GatherRows.apply(features), distributed.get_rank() * len(features)
