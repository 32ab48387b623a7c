"""Publishing: model cards from templates, and one commit for each repository on the Hub."""

from typing import TYPE_CHECKING

from seed_hf.lazy import lazy_names


# Public name -> the module that defines it.
_PUBLIC = {
    "kind_of": "seed_hf.artifacts.kinds",
    "write_card": "seed_hf.hub.card",
    "push": "seed_hf.hub.upload",
    "PushReport": "seed_hf.hub.upload",
    "ModelCardCallback": "seed_hf.hub.callback",
}

__all__ = [*_PUBLIC]
__getattr__, __dir__ = lazy_names(__name__, _PUBLIC)


if TYPE_CHECKING:  # `as` says that they are public
    from seed_hf.artifacts.kinds import kind_of as kind_of

    from .callback import ModelCardCallback as ModelCardCallback
    from .card import write_card as write_card
    from .upload import PushReport as PushReport
    from .upload import push as push
