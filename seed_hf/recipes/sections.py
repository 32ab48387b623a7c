"""A section of a YAML file as a dataclass: keys and types are checked, and every error names the key."""

import dataclasses
from collections.abc import Mapping
from dataclasses import MISSING
from enum import Enum
from types import UnionType
from typing import Any, Union, get_args, get_origin


_PLAIN = {bool, int, float, str, dict, list, type(None)}


def read_section(cls: type, name: str, values: Mapping[str, Any]) -> Any:
    """`cls(**values)`, with values of the types that its fields declare.

    Args:
        cls: A dataclass. `output_dir` is required wherever it is a field.
        name: Of the section, for messages.
        values: What the file says.

    Raises:
        ValueError: There are unknown keys, missing keys, or values of a wrong type.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"The section {name} must be a mapping, got {type(values).__name__}.")
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}
    if unknown := sorted(map(str, set(values) - set(fields))):
        reasons = getattr(cls, "refused", {})  # of arguments of other versions of transformers, too
        if known := [key for key in unknown if key in reasons]:
            raise ValueError(f"{name}.{known[0]} is not supported: {reasons[known[0]]}.")
        raise ValueError(f"{name} has unknown keys: {', '.join(unknown)}. Allowed keys: {', '.join(sorted(fields))}.")
    required = [f.name for f in fields.values() if f.default is MISSING and f.default_factory is MISSING]
    if "output_dir" in fields:
        required.append("output_dir")
    if missing := [key for key in required if values.get(key) is None]:
        raise ValueError(f"{name} lacks {', '.join(missing)}.")
    return cls(**{key: _typed(f"{name}.{key}", value, fields[key].type) for key, value in values.items()})


def _typed(key: str, value: Any, annotation) -> Any:
    """`value`, if it has a type of the field. Text that is a number counts as one where a number is wanted."""
    union = get_origin(annotation) in (Union, UnionType)
    types = [get_origin(part) or part for part in (get_args(annotation) if union else (annotation,))]
    enums = [part for part in types if isinstance(part, type) and issubclass(part, Enum)]
    if value is None and (type(None) in types or not set(types) <= _PLAIN):
        return value
    if enums:
        return _member(key, value, enums[0], types)
    if not set(types) <= _PLAIN:
        return value  # the class itself checks it
    for part in types:
        wanted = (int, float) if part is float else part
        if isinstance(value, wanted) and (part is bool or not isinstance(value, bool)):
            return value
    if float in types and isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            raise ValueError(f"{key} must be a number, got {value!r}.") from None
    names = " or ".join(part.__name__ for part in types if part is not type(None))
    raise ValueError(f"{key} must be {names}, got {'nothing' if value is None else repr(value)}.")


def _member(key: str, value: Any, enum: type[Enum], types: list) -> Any:
    allowed = [member.value for member in enum]
    if value in allowed or isinstance(value, bool) and bool in types:
        return value
    raise ValueError(f"{key} must be one of {', '.join(map(str, allowed))}; got {value!r}.")
