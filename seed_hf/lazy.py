"""Public names that are imported on first use, so that importing what has them stays light."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_names(package: str, modules: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The `__getattr__` and `__dir__` of a package.

    Args:
        package: Its name.
        modules: For each public name the module that defines it.
    """

    def find(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}. Public names: {', '.join(modules)}.")
        return getattr(import_module(modules[name]), name)

    def names() -> list[str]:
        return sorted({*vars(import_module(package)), *modules})

    return find, names
