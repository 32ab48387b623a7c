"""Gathers features of all processes with a gradient, for a contrastive loss over the whole batch."""

import torch
from torch import distributed
from torch.autograd import Function


class _GatherRows(Function):
    """The rows of all processes, in the order of their ranks. torch's `all_gather` has no gradient."""

    @staticmethod
    def forward(ctx, rows: torch.Tensor) -> torch.Tensor:
        parts = [torch.empty_like(rows) for _ in range(distributed.get_world_size())]
        distributed.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> torch.Tensor:
        # Every process used these rows, and each knows only the gradient of its own loss.
        gradient = gradient.contiguous()
        distributed.all_reduce(gradient)
        return gradient.chunk(distributed.get_world_size())[distributed.get_rank()]


def gather_features(features: torch.Tensor) -> tuple[torch.Tensor, int]:
    """Gather the rows of all processes. The gradient flows back to every process.

    Args:
        features (`torch.Tensor` of shape `(batch, width)`): Of this process; the same number of rows in all processes.

    Returns:
        `torch.Tensor` of shape `(processes * batch, width)`, and the index of this process's first row in it.
    """
    return _GatherRows.apply(features), distributed.get_rank() * len(features)
