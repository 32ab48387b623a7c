"""Options that several commands share: a parameter of a command may be a dataclass, whose fields are options."""

import inspect
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import wraps
from typing import Any


def expanded(command: Callable[..., Any]) -> Callable[..., Any]:
    """A command as Typer reads it: in the place of each dataclass among its parameters are the fields."""
    groups: dict[str, Any] = {}
    options: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command, eval_str=True).parameters.items():
        if is_dataclass(parameter.annotation):
            groups[name] = parameter.annotation
            options += inspect.signature(groups[name], eval_str=True).parameters.values()
        else:
            options.append(parameter)

    @wraps(command)
    def call(**given: Any) -> Any:
        for name, group in groups.items():
            given[name] = group(**{field.name: given.pop(field.name) for field in fields(group)})
        return command(**given)

    by_name = [option.replace(kind=inspect.Parameter.KEYWORD_ONLY) for option in options]
    call.__signature__ = inspect.Signature(by_name)  # type: ignore[attr-defined]
    return call
