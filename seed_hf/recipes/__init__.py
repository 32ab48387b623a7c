"""A YAML file to a training run: `read_recipe` checks the file, `run_stage` trains."""

from seed_hf.lazy import lazy_names


_MODULES = {"read_recipe": "seed_hf.recipes.reading", "run_stage": "seed_hf.recipes.running"}

__all__ = sorted(_MODULES)
__getattr__, __dir__ = lazy_names(__name__, _MODULES)
