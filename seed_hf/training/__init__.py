"""Training: one configuration and one trainer per stage. Their collators are in `seed_hf.data.batches`.

Names are imported on first use, so that importing this package does not import torch.
"""

from importlib import import_module


_MODULES = {
    "ContrastiveConfig": "seed_hf.training.contrastive",
    "ContrastiveTrainer": "seed_hf.training.contrastive",
    "ImageTextCollator": "seed_hf.data.batches.image_text",
    "LanguageModelCollator": "seed_hf.data.batches.language_model",
    "LanguageModelConfig": "seed_hf.training.language_model",
    "LanguageModelTrainer": "seed_hf.training.language_model",
    "QuantizationConfig": "seed_hf.training.quantization",
    "QuantizationTrainer": "seed_hf.training.quantization",
}

__all__ = sorted(_MODULES)


def __getattr__(name):
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return [*globals(), *__all__]
