"""The pictogram set: building it, reading it, and the questions that its rows answer.

Names are looked up on first use, so that importing this package imports neither pyarrow nor `datasets`.
"""

from seed_hf.lazy import lazy_names


_MODULES = {
    "SPLITS": "seed_hf.pictograms.reading",
    "build_pictograms": "seed_hf.pictograms.building",
    "compare_pictograms": "seed_hf.pictograms.building",
    "load_pictograms": "seed_hf.pictograms.reading",
}

__all__ = sorted(_MODULES)
__getattr__, __dir__ = lazy_names(__name__, _MODULES)
