"""NaN and infinity are errors that say where they come from: codes and features of them would look like any others."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import nn


class NotFiniteError(ValueError):
    """What a model computes is NaN or infinite.

    Args:
        message: What is wrong, and what to do.
        rows: The rows of the batch that are; all of them where weights are at fault.
    """

    def __init__(self, message: str, rows: list[int]):
        super().__init__(message)
        self.rows = rows


def require_finite(
    results: torch.Tensor,
    model: Any,
    roles: Iterable[str],
    pixel_values: torch.Tensor | None = None,
    hiding: Iterable[torch.Tensor] = (),
) -> torch.Tensor:
    """Returns results of a tokenizer if they are finite. Compiled and captured code, which cannot look, passes.

    Outside training the weights are looked at once, too: attention may hide that a weight is NaN.

    Args:
        results: `(batch, ...)`.
        model ([`SeedTokenizer`]): The tokenizer.
        roles: The keys of its `PARTS` that computed them.
        pixel_values: What they were computed from, `(batch, 3, height, width)`.
        hiding: Values on the way whose infinity the results would not show.

    Raises:
        NotFiniteError: The message names the images if their pixels are not finite, else the weights, else the type.
    """
    if torch.compiler.is_compiling() or results.is_meta:
        return results
    if results.is_cuda and torch.cuda.is_current_stream_capturing():
        return results
    new = set() if model.training else set(roles) - model.finite_roles
    looked_at = [values.detach() for values in (results, *hiding) if not values.is_meta and values.numel()]
    looked_at += [weight.detach().sum(dtype=torch.float32) for _, weight in _weights(model, new)]
    # Both ends are finite if all is: one pass over the values, and no copies.
    ends = [end.isfinite().to(results.device) for values in looked_at for end in values.aminmax()]
    if not ends or torch.stack(ends).all():  # none: nothing was asked for
        model.finite_roles |= new
        return results
    wrong = [] if pixel_values is None else rows_not_finite(pixel_values)
    if wrong:
        named = _named(wrong, len(results))
        raise NotFiniteError(f"pixel_values hold NaN or infinite values in {named}: check their preparation.", wrong)
    broken = [name for name, weight in _weights(model, roles) if not weight.isfinite().all()]
    if broken:
        more = f" (and {len(broken) - 1} more)" if len(broken) > 1 else ""
        raise NotFiniteError(
            f"The weight {broken[0]}{more} holds NaN or infinite values: results would mean nothing. Take an intact "
            "copy, or a checkpoint from before they came up.",
            list(range(len(results))),
        )
    wrong = rows_not_finite(results) or list(range(len(results)))
    raise NotFiniteError(
        f"The features of {_named(wrong, len(results))} are NaN or infinite: numbers became too large for "
        f"{results.dtype}. Use float32 or bfloat16.",
        wrong,
    )


def mark_not_finite(
    codes: torch.Tensor, values: Iterable[torch.Tensor], weights: Iterable[torch.Tensor]
) -> torch.Tensor:
    """Codes with -1 in the rows that are not finite, without waiting for the device.

    Args:
        codes: `(batch, n)`.
        values: What they were computed from, each `(batch, ...)`.
        weights: What they were computed with; if one is not finite, no row is.
    """
    flags = [value.isfinite().flatten(1).all(1) for value in values]
    flags += [weight.isfinite().all().expand(codes.shape[0]) for weight in weights if not weight.is_meta]
    return torch.where(torch.stack(flags).all(0)[:, None], codes, -1)


def _weights(model: Any, roles: Iterable[str]) -> Iterator[tuple[str, nn.Parameter]]:
    """Plain weights; those that are sharded, or not in memory, cannot be looked at by one process."""
    names = {name for role in roles for name in model.PARTS[role]}
    for name, weight in model.named_parameters() if names else ():
        if name.partition(".")[0] in names and type(weight) is nn.Parameter and not weight.is_meta:
            yield name, weight


def rows_not_finite(values: torch.Tensor) -> list[int]:
    """The numbers of the rows that hold NaN or infinity.

    Args:
        values: `(batch, ...)`.
    """
    return (~values.detach().isfinite().flatten(1).all(1)).nonzero().flatten().tolist()


def _named(rows: list[int], batch: int) -> str:
    shown = ", ".join(map(str, rows[:8])) + (" .." if len(rows) > 8 else "")
    return f"row{'s' if len(rows) > 1 else ''} {shown} of {batch} (counted from 0)"


__all__ = ["NotFiniteError", "mark_not_finite", "require_finite", "rows_not_finite"]
