"""Weights that are sharded over processes, gathered to be saved."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.tensor import DTensor
from transformers.integrations import is_deepspeed_zero3_enabled


def whole_state(model: nn.Module, trainer: Any = None) -> dict[str, torch.Tensor] | None:
    """All weights of a model that FSDP2 or ZeRO-3 has sharded, on the CPU of the first process.

    Every process has to call it: each sends its part.

    Args:
        model: The model itself, unwrapped.
        trainer: That trains it, which knows the engine of DeepSpeed.

    Returns:
        For `save_pretrained(..., state_dict=...)`; `None` where every process has all weights anyway.
    """
    if any(isinstance(weight, DTensor) for weight in model.parameters()):
        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        return dict(get_model_state_dict(model, options=options))  # type: ignore[arg-type] # tensors alone
    if trainer is not None and trainer.is_deepspeed_enabled and is_deepspeed_zero3_enabled():
        return trainer.accelerator.get_state_dict(trainer.model_wrapped)
    return None
