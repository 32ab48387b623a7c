"""Training: one config and one trainer per stage, their collators, and `run_stage` for YAML files.

Names are looked up on first use, so that importing this package does not import torch.
"""

from importlib import import_module


_MODULES = {
    "ContrastiveConfig": "contrastive",
    "ContrastiveTrainer": "contrastive",
    "ImageTextCollator": "collators",
    "LanguageModelCollator": "language_model_collator",
    "LanguageModelConfig": "language_model",
    "LanguageModelTrainer": "language_model",
    "QuantizationConfig": "quantization",
    "QuantizationTrainer": "quantization",
    "run_stage": "run",
}

__all__ = sorted(_MODULES)


def __getattr__(name):
    if name in _MODULES:
        return getattr(import_module(f".{_MODULES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return [*globals(), *__all__]
