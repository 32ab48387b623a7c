"""Checks of the fields of a configuration: an edited or foreign one gets a clear error before a model is built."""

from inspect import signature
from math import isfinite
from numbers import Integral, Real
from typing import Any


_LARGEST_SIZE = 2**31 - 1
_TYPES: dict[Any, tuple[type, str]] = {
    int: (Integral, "an integer"),
    int | None: (Integral, "an integer"),
    float: (Real, "a number"),
    bool: (bool, "true or false"),
    str: (str, "a text"),
}


def check_types(config) -> None:
    """Raises `TypeError` or `ValueError` for a field that is not of the type that `__init__` names.

    Args:
        config: With a written `__init__`; its annotations are read.
    """
    for name, field in signature(type(config).__init__).parameters.items():
        if field.annotation not in _TYPES:
            continue
        wanted, words = _TYPES[field.annotation]
        value = getattr(config, name)
        if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
            raise TypeError(f"{name} must be {words}, got {value!r}.")
        if wanted is Real and not isfinite(getattr(config, name)):
            raise ValueError(f"{name} must be a finite number, got {value!r}.")


def check_sizes(config, *names: str, part: str = "") -> None:
    """Raises `ValueError` for sizes with which no model can be built.

    Args:
        config: Any configuration.
        names: Of its fields.
        part: Goes before the names in the message.
    """
    for name in names:
        value = getattr(config, name)
        if not isinstance(value, Integral) or int(value) < 1:
            raise ValueError(f"{part}{name} must be at least 1, got {value!r}.")
        if int(value) > _LARGEST_SIZE:
            raise ValueError(f"{part}{name} must be at most {_LARGEST_SIZE}, got {value!r}.")


def forget_code_memory(fields: dict) -> None:
    """Drops what the first folders of 0.1 say of an option that is gone. Where it was on, they are refused."""
    width = fields.pop("generation_memory_dim", 0)
    fields.pop("generation_memory_rank", None)
    if width:
        raise ValueError(
            f"generation_memory_dim is {width!r}: these weights have a code memory, which this version no longer has. "
            "The seed_hf that saved them, an early 0.1, loads them."
        )


__all__ = ["check_sizes", "check_types", "forget_code_memory"]
