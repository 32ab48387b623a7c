"""Public names that are imported on first use, so that importing what has them stays light."""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.util import find_spec
from types import ModuleType
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


def lend_name(library: str, name: str, module: str) -> None:
    """Gives another library a public name of ours, as if it were its own. Neither is imported for that.

    Args:
        library: Name of the package. If it is imported later, it has the name from then on.
        name: What it lacks. A name that it has stays as it is.
        module: The module of ours that defines it.
    """
    if library in sys.modules:
        _lend(sys.modules[library], name, module)
    else:
        sys.meta_path.insert(0, _WhenImported(library, lambda: _lend(sys.modules[library], name, module)))


def _lend(library: ModuleType, name: str, module: str) -> None:
    if not hasattr(library, name):
        found = property(lambda self: getattr(import_module(module), name))
        library.__class__ = type(type(library).__name__, (type(library),), {name: found})


class _WhenImported(MetaPathFinder):
    """Finds one module as all others do, and then calls a function once it is imported."""

    def __init__(self, module: str, then: Callable[[], None]):
        self.module, self.then = module, then

    def find_spec(self, fullname, path=None, target=None):
        if fullname != self.module or self not in sys.meta_path:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(fullname)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                self.then()

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec
