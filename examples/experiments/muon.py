"""Muon for the weights of linear layers, AdamW for the rest.

In 150 steps of stage I on 6,000 scenes, 300 descriptions found their image first in 1 % of all cases with AdamW and in
99 % with Muon.

Source: Keller Jordan's Muon, with the scale that matches the updates of AdamW, as `torch.optim.Muon` has it. That one
computes in bf16, for which most CPUs have no hardware.
"""

import math

import torch
from torch import nn


MOMENTUM, STEPS = 0.95, 5
COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the Newton-Schulz iteration


class MuonAdamW(torch.optim.AdamW):
    """Both over the weights of `module` that are trained.

    Args:
        module: what is trained, frozen as it will be.
        rate: learning rate of both.
        decay: weight decay of everything but vectors.
    """

    def __init__(self, module: nn.Module, rate: float, decay: float = 0.05):
        linear = {id(layer.weight) for layer in module.modules() if isinstance(layer, nn.Linear)}
        embedded = {id(layer.weight) for layer in module.modules() if isinstance(layer, nn.Embedding)}
        trained = [weight for weight in module.parameters() if weight.requires_grad]
        muon = [weight for weight in trained if id(weight) in linear - embedded]  # an output layer may be tied
        rest = [weight for weight in trained if id(weight) not in linear - embedded]
        groups = [
            {"params": muon, "weight_decay": decay},
            {"params": [weight for weight in rest if weight.ndim > 1], "weight_decay": decay},
            {"params": [weight for weight in rest if weight.ndim < 2], "weight_decay": 0.0},
        ]
        super().__init__(groups, lr=rate, betas=(0.9, 0.98))

    @torch.no_grad()
    def step(self, closure=None):
        first = self.param_groups[0]
        for weight in first["params"]:
            if weight.grad is None:
                continue
            past = self.state[weight].setdefault("past", torch.zeros_like(weight))
            past.lerp_(weight.grad, 1 - MOMENTUM)
            update = orthogonal(weight.grad.lerp(past, MOMENTUM))
            weight.mul_(1 - first["lr"] * first["weight_decay"])
            weight.add_(update, alpha=-first["lr"] * 0.2 * math.sqrt(max(weight.shape)))
            weight.grad = None  # AdamW leaves it alone
        return super().step(closure)


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """`U V^T` of a matrix `U S V^T`, roughly."""
    a, b, c = COEFFICIENTS
    tall = matrix.shape[0] > matrix.shape[1]
    found = matrix.T if tall else matrix
    found = found / found.norm().clamp(min=1e-7)
    for _ in range(STEPS):
        gram = found @ found.T
        found = torch.addmm(found, torch.addmm(gram, gram, gram, beta=b, alpha=c), found, beta=a)
    return found.T if tall else found
