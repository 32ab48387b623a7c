"""A YAML file to a training run: `read_recipe` checks the file, `run_stage` trains."""

from importlib import import_module


_MODULES = {"read_recipe": "reading", "run_stage": "running"}

__all__ = sorted(_MODULES)


def __getattr__(name):
    if name in _MODULES:
        return getattr(import_module(f".{_MODULES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
