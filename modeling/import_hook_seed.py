"""Something that is done to a module once it is imported, without importing it for that."""

import sys
import threading
from collections.abc import Callable
from importlib.abc import MetaPathFinder
from types import ModuleType
from typing import Any


def when_imported(module: str, then: Callable[[ModuleType], None]) -> None:
    """Calls a function with a module: now, if it is imported already, else as soon as it is.

    Args:
        module: Its full name.
        then: Called once.
    """
    if module in sys.modules:
        then(sys.modules[module])
    else:
        sys.meta_path.insert(0, _Waiting(module, then))


class _Waiting(MetaPathFinder):
    """Lets the other finders find one module. Looking for it, as `importlib.util.find_spec` does, changes nothing."""

    def __init__(self, module: str, then: Callable[[ModuleType], None]):
        self.module, self.then = module, then
        self.asking = threading.local()  # others that wait for the same module ask this one, in turn

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        if fullname != self.module or getattr(self.asking, "others", False):
            return None
        self.asking.others = True
        try:
            finders = [each for each in sys.meta_path if hasattr(each, "find_spec")]
            spec = next(filter(None, (each.find_spec(fullname, path, target) for each in finders)), None)
        finally:
            self.asking.others = False
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                if module.__name__ == self.module and self in sys.meta_path:  # a zip has one loader for all
                    sys.meta_path.remove(self)
                    self.then(module)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


__all__ = ["when_imported"]
