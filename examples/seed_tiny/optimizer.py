"""Muon for the weights of linear and convolutional layers, AdamW for everything else, as one optimizer.

Muon needs fewer steps than AdamW on models of this size; steps are what a CPU has least of. In 150 steps of stage I on
6,000 scenes of `examples/experiments`, 300 descriptions found their image first in 1 % of all cases with AdamW and in
99 % with Muon.
"""

import math
from collections import defaultdict

import torch
from torch import nn

from seed_hf.devices import has_native_bf16


class Muon(torch.optim.Optimizer):
    """Muon with the learning rate scaled as torch's `match_rms_adamw`; matrices of one shape are one computation.

    torch.optim.Muon takes them one after the other, which is thousands of kernels a step, and always in bf16.

    Args:
        matrices: two-dimensional parameters.
        rate: learning rate.
        decay: decoupled weight decay.
        bf16: whether to orthogonalise in bf16; else in fp32.
        momentum: of the gradients, as Nesterov's.
    """

    def __init__(self, matrices: list[nn.Parameter], rate: float, decay: float, bf16: bool, momentum: float = 0.95):
        super().__init__(matrices, {"lr": rate, "weight_decay": decay})
        self.dtype, self.momentum = torch.bfloat16 if bf16 else torch.float32, momentum

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            by_shape = defaultdict(list)
            for matrix in group["params"]:
                if matrix.grad is not None:
                    by_shape[matrix.shape].append(matrix)
            for shape, matrices in by_shape.items():
                gradients = [matrix.grad for matrix in matrices]
                for matrix in matrices:
                    if "momentum_buffer" not in self.state[matrix]:
                        self.state[matrix]["momentum_buffer"] = torch.zeros_like(matrix)
                buffers = [self.state[matrix]["momentum_buffer"] for matrix in matrices]
                torch._foreach_lerp_(buffers, gradients, 1 - self.momentum)
                updates = torch.stack(torch._foreach_lerp(gradients, buffers, self.momentum))
                updates = orthogonalised(updates.to(self.dtype)).float()
                torch._foreach_mul_(matrices, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_add_(matrices, updates.unbind(), alpha=-group["lr"] * 0.2 * math.sqrt(max(shape)))


def orthogonalised(matrices: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """`U V^T` of each matrix `U S V^T`, roughly, `(count, rows, columns)`, computed in their number type.

    Newton-Schulz iterations with Keller Jordan's coefficients.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrices.shape[1] > matrices.shape[2]
    found = matrices.mT if tall else matrices
    found = found / found.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(steps):
        gram = found @ found.mT
        found = torch.baddbmm(found, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), found, beta=a)
    return found.mT if tall else found


class MuonAdamW(torch.optim.Optimizer):
    """Both optimizers over the trainable parameters of `module`, with one learning rate.

    Muon's updates are scaled to the size of AdamW's, so the same rate suits both. Muon takes matrices
    alone: a convolution's weight is shown to it with all but its first dimension folded into one.

    Args:
        module: what is trained, frozen as it will be.
        rate: learning rate of both.
        decay: weight decay of everything but vectors.
        bf16: whether Muon orthogonalises in bf16, and not in fp32; by default where the device has hardware for it.
    """

    def __init__(self, module: nn.Module, rate: float, decay: float, bf16: bool | None = None):
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
        bf16 = has_native_bf16(self.matrices[0].device) if bf16 is None else bf16
        self.parts = [
            torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98), fused=True),
            Muon(self.matrices, rate, decay, bf16),
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
