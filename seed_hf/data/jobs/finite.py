"""No number of a job is NaN or infinite: neither weights, which are checked before, nor what comes out for a row."""

from __future__ import annotations

from collections.abc import Collection

from torch import nn


def check_weights(model: nn.Module, what: str, parts: Collection[str] | None = None) -> None:
    """Refuse weights that are NaN or infinite, as a broken training or a damaged file leaves them.

    Args:
        model: The model.
        what: What it is, for the message.
        parts: The first parts of the names of the weights to look at; all by default.

    Raises:
        ValueError: The message names the first such weight.
    """
    for name, weight in model.named_parameters():
        if (parts is None or name.partition(".")[0] in parts) and not weight.isfinite().all():
            raise ValueError(
                f"{what}: the weight {name} holds values that are NaN or infinite, so every image would get the same "
                "meaningless result. Take an intact copy, or a checkpoint from before they came up."
            )
