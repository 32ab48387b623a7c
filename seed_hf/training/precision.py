"""Weights that are trained are fp32: in half precision an update that is small beside its weight would be lost."""

import logging
from itertools import chain

import torch
from torch import nn

from .options import has_adapters


logger = logging.getLogger(__name__)
_HALF = (torch.float16, torch.bfloat16)
_OF_AUTOCAST = {"fp16": torch.float16, "bf16": torch.bfloat16}


def widen_trained(model: nn.Module, autocast: str) -> list[torch.Tensor]:
    """Make half-precision weights that are trained fp32, and say so.

    Frozen matrices keep their number type if the run computes in it. If not, they become fp32, too: types that are
    mixed cannot be multiplied without autocast. Frozen vectors, which are small, become fp32 anyway: on a CPU a norm
    cannot be of a narrower type than what it reads. A model that trains no weight in half precision stays as it is.

    Args:
        model: Changed in place; the parameters remain the same objects.
        autocast: In what the run computes: "bf16", "fp16", or "no" for the types of the weights.

    Returns:
        What was widened.
    """
    halves = _halves(model)
    trained = [weight for weight in halves if weight.requires_grad]
    if not trained:
        return []
    computed = _OF_AUTOCAST.get(autocast)
    widened = [w for w in halves if w.requires_grad or w.ndim < 2 or w.dtype != computed]
    all_of_it = " So do the frozen ones, in whose type the run does not compute."
    logger.info(
        "%s: %s trained numbers become float32; in %s small updates would be lost.%s",
        type(model).__name__, f"{sum(weight.numel() for weight in trained):,}", _name(trained[0].dtype),
        all_of_it if len(trained) < len(widened) == len(halves) else "",
    )  # fmt: skip
    _widen(widened)
    return widened


def widen_rest(model: nn.Module) -> None:
    """Make all of a model fp32 whose trained weights are, so that it can be used and is saved without rounding them.

    The weights below adapters stay as they are: they are not saved.

    Args:
        model: After a training, changed in place.
    """
    if not has_adapters(model) and any(w.requires_grad and w.dtype == torch.float32 for w in model.parameters()):
        _widen(_halves(model))


def half_of_frozen(model: nn.Module) -> torch.dtype | None:
    """The half-precision type of frozen weights, if there are such.

    Args:
        model: Any model.
    """
    return next((w.dtype for w in model.parameters() if not w.requires_grad and w.dtype in _HALF), None)


def _halves(model: nn.Module) -> list[torch.Tensor]:
    return [weight for weight in chain(model.parameters(), model.buffers()) if weight.dtype in _HALF]


def _widen(weights: list[torch.Tensor]) -> None:
    for weight in weights:
        weight.data = weight.data.float()


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
