"""The pictogram set: building it, reading it, and the questions that its rows answer.

Names are looked up on first use, so that importing this package imports neither pyarrow nor `datasets`.
"""

from importlib import import_module


_MODULES = {
    "SPLITS": "seed_hf.pictograms.reading",
    "build_pictograms": "seed_hf.pictograms.building",
    "caption_variants": "seed_hf.pictograms.wordings",
    "compare_pictograms": "seed_hf.pictograms.building",
    "full_description": "seed_hf.pictograms.wordings",
    "load_pictograms": "seed_hf.pictograms.reading",
}

__all__ = sorted(_MODULES)


def __getattr__(name):
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return [*globals(), *__all__]
