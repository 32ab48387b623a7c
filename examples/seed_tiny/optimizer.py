"""Muon for the weights of linear layers, AdamW for everything else, behind the face of one optimizer.

Muon (torch.optim.Muon) needs fewer steps than AdamW on transformers of this size; steps are what a CPU has least of.
"""

import torch


class MuonAdamW(torch.optim.Optimizer):
    """Both optimizers over the trainable parameters of `module`, with one learning rate.

    `match_rms_adamw` scales Muon's updates to the size of AdamW's, so the same rate suits both.
    """

    def __init__(self, module: torch.nn.Module, rate: float, decay: float):
        linear = {id(m.weight) for m in module.modules() if isinstance(m, torch.nn.Linear)}
        linear -= {id(m.weight) for m in module.modules() if isinstance(m, torch.nn.Embedding)}  # tied heads
        trained = [p for p in module.parameters() if p.requires_grad]
        rest = [p for p in trained if id(p) not in linear]
        groups = [
            {"params": [p for p in rest if p.ndim >= 2], "weight_decay": decay},
            {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0.0},
        ]
        matrices = [p for p in trained if id(p) in linear]
        self.parts = [
            torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98), fused=True),
            torch.optim.Muon(matrices, lr=rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw"),
        ]
        super().__init__([group for part in self.parts for group in part.param_groups], {"lr": rate})
        self._share_groups()

    def _share_groups(self) -> None:
        # The very dictionaries of the parts: what a scheduler sets here, they see.
        self.param_groups = [group for part in self.parts for group in part.param_groups]

    @torch.no_grad()
    def step(self, closure=None):
        for part in self.parts:
            part.step()

    def state_dict(self) -> dict:
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state: dict) -> None:
        for part, saved in zip(self.parts, state["parts"]):
            part.load_state_dict(saved)
        self._share_groups()
