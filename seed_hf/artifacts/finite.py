"""Weights that are NaN or infinite, which nobody sees in what comes of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from torch import nn


def check_finite_weights(model: nn.Module, what: str, parts: Collection[str] | None = None) -> None:
    """Refuse weights that are NaN or infinite, as a broken training or a damaged file leaves them.

    Args:
        model: The model.
        what: What it is, for the message.
        parts: The first parts of the names of the weights to look at; all by default.

    Raises:
        ValueError: The message names the first such weight.
    """
    for name, weight in model.named_parameters():
        wanted = parts is None or name.partition(".")[0] in parts
        if wanted and not weight.is_meta and not weight.isfinite().all():
            raise ValueError(
                f"{what}: the weight {name} holds values that are NaN or infinite, so results would mean nothing "
                "and look like any others. Take an intact copy, a checkpoint from before they came up, or another "
                "number type if rounding made them."
            )


def check_finite_parts(source: Any, parts: Iterable[Any]) -> None:
    """[`check_finite_weights`] of all models among the parts of something that was loaded.

    Args:
        source: What it was loaded from, as for the loaders; `None`: seed-tiny.
        parts: Models, processors ...

    Raises:
        ValueError: A weight is NaN or infinite.
    """
    for part in parts:
        if isinstance(part, nn.Module):
            check_finite_weights(part, f"{source or 'seed-tiny'}, {type(part).__name__}")
