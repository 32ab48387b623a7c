"""Muon for the weights of linear and convolutional layers, AdamW for everything else, as one optimizer.

Muon (torch.optim.Muon) needs fewer steps than AdamW on models of this size; steps are what a CPU has least of.
"""

import math

import torch
from torch import nn

from seed_hf.devices import has_native_bf16


class Float32Muon(torch.optim.Muon):
    """Muon whose Newton-Schulz iteration runs in fp32; torch's always runs it in bf16. The learning rate is scaled as
    by `match_rms_adamw`."""

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            rate, momentum = group["lr"], group["momentum"]
            parameters, gradients, buffers = [], [], []
            self._init_group(group, parameters, gradients, buffers)
            for parameter, gradient, buffer in zip(parameters, gradients, buffers):
                buffer.lerp_(gradient, 1 - momentum)
                update = gradient.lerp(buffer, momentum) if group["nesterov"] else buffer
                update = orthogonalised(update, group["ns_coefficients"], group["ns_steps"], group["eps"])
                parameter.mul_(1 - rate * group["weight_decay"])
                parameter.add_(update, alpha=-rate * 0.2 * math.sqrt(max(parameter.shape)))


def orthogonalised(matrix: torch.Tensor, coefficients: tuple, steps: int, eps: float) -> torch.Tensor:
    """`U V^T` of a matrix `U S V^T`, roughly, by Newton-Schulz iterations in the matrix's own number type."""
    a, b, c = coefficients
    tall = matrix.size(0) > matrix.size(1)
    found = matrix.T if tall else matrix
    found = found / found.norm().clamp(min=eps)
    for _ in range(steps):
        gram = found @ found.T
        found = torch.addmm(found, torch.addmm(gram, gram, gram, beta=b, alpha=c), found, beta=a)
    return found.T if tall else found


class MuonAdamW(torch.optim.Optimizer):
    """Both optimizers over the trainable parameters of `module`, with one learning rate.

    `match_rms_adamw` scales Muon's updates to the size of AdamW's, so the same rate suits both. Muon takes matrices
    alone: a convolution's weight is shown to it with all but its first dimension folded into one. On a device that
    has no hardware for bf16 it orthogonalises in fp32.
    """

    def __init__(self, module: nn.Module, rate: float, decay: float):
        tied = {id(m.weight) for m in module.modules() if isinstance(m, nn.Embedding)}
        layers = [m.weight for m in module.modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
        weights = {id(w): w for w in layers if w.requires_grad and id(w) not in tied}
        rest = [p for p in module.parameters() if p.requires_grad and id(p) not in weights]
        groups = [
            {"params": [p for p in rest if p.ndim >= 2], "weight_decay": decay},
            {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0.0},
        ]
        self.weights = list(weights.values())
        self.matrices = [nn.Parameter(weight.data.flatten(1)) for weight in self.weights]  # share the weights' memory
        muon = torch.optim.Muon if has_native_bf16(self.matrices[0].device) else Float32Muon
        self.parts = [
            torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98), fused=True),
            muon(self.matrices, lr=rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw"),
        ]
        super().__init__([group for part in self.parts for group in part.param_groups], {"lr": rate})
        self._share_groups()

    def _share_groups(self) -> None:
        # The very dictionaries of the parts: what a scheduler sets here, they see.
        self.param_groups = [group for part in self.parts for group in part.param_groups]

    @torch.no_grad()
    def step(self, closure=None):
        for weight, matrix in zip(self.weights, self.matrices):
            matrix.grad = None if weight.grad is None else weight.grad.flatten(1)
        for part in self.parts:
            part.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.parts[0].zero_grad(set_to_none)
        for weight in self.weights:
            weight.grad = None

    def state_dict(self) -> dict:
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state: dict) -> None:
        for part, saved in zip(self.parts, state["parts"]):
            part.load_state_dict(saved)
        self._share_groups()
