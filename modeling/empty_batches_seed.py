"""No rows in, no rows out: attention in PyTorch and transformers does not take empty batches."""

import functools

import torch
from transformers.utils import ModelOutput


def takes_empty_batches(method):
    """A method whose tensors and result are batches of rows also takes none: it is then run on one row of zeros.

    Args:
        method: The method.
    """

    @functools.wraps(method)
    def call(self, *arguments, **named):
        given = [value for value in (*arguments, *named.values()) if isinstance(value, torch.Tensor) and value.ndim]
        if all(value.shape[0] for value in given):  # not `len`, which torch.export takes for a constant
            return method(self, *arguments, **named)
        named = {name: _one_row(value) for name, value in named.items()}
        return _no_rows(method(self, *map(_one_row, arguments), **named))

    return call


def _one_row(value):
    return value.new_zeros((1, *value.shape[1:])) if isinstance(value, torch.Tensor) and value.ndim else value


def _no_rows(result):
    if isinstance(result, torch.Tensor):
        return result[:0]
    if isinstance(result, ModelOutput):
        return type(result)(**{name: _no_rows(value) for name, value in result.items()})
    return tuple(map(_no_rows, result)) if isinstance(result, tuple) else result


__all__ = ["takes_empty_batches"]
