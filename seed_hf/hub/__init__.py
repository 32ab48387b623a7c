"""Publishing: model cards from templates, and one commit for each repository on the Hub."""

from importlib import import_module
from typing import TYPE_CHECKING


# Public name -> the module that defines it.
_PUBLIC = {
    "kind_of": "seed_hf.artifacts.kinds",
    "write_card": "seed_hf.hub.card",
    "push": "seed_hf.hub.upload",
    "PushReport": "seed_hf.hub.upload",
    "ModelCardCallback": "seed_hf.hub.callback",
}

__all__ = [*_PUBLIC]


def __getattr__(name: str):
    if name not in _PUBLIC:
        raise AttributeError(f"module 'seed_hf.hub' has no attribute {name!r}. Public names: {', '.join(_PUBLIC)}.")
    value = getattr(import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


if TYPE_CHECKING:  # `as` says that they are public
    from seed_hf.artifacts.kinds import kind_of as kind_of

    from .callback import ModelCardCallback as ModelCardCallback
    from .card import write_card as write_card
    from .upload import PushReport as PushReport
    from .upload import push as push
