"""Publishing: model cards from templates, and one commit for each repository on the Hub."""

from importlib import import_module
from typing import TYPE_CHECKING


# Public name -> the module that defines it.
_PUBLIC = {
    "kind_of": "artifact",
    "write_card": "card",
    "push": "upload",
    "PushReport": "upload",
    "ModelCardCallback": "callback",
}

__all__ = [*_PUBLIC]


def __getattr__(name: str):
    if name not in _PUBLIC:
        raise AttributeError(f"module 'seed_hf.hub' has no attribute {name!r}. Public names: {', '.join(_PUBLIC)}.")
    value = getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    globals()[name] = value
    return value


if TYPE_CHECKING:
    from seed_hf.artifacts.kinds import kind_of

    from .callback import ModelCardCallback
    from .card import write_card
    from .upload import PushReport, push
