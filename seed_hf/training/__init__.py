"""Training: one configuration and one trainer per stage. Their collators are in `seed_hf.data.batches`.

Names are imported on first use, so that importing this package does not import torch.
"""

from seed_hf.lazy import lazy_names


_MODULES = {
    "ContrastiveConfig": "seed_hf.training.contrastive",
    "ContrastiveTrainer": "seed_hf.training.contrastive",
    "ImageTextCollator": "seed_hf.data.batches.image_text",
    "InstructionCollator": "seed_hf.data.batches.instruction",
    "InstructionConfig": "seed_hf.training.instruction",
    "InstructionTrainer": "seed_hf.training.instruction",
    "LanguageModelCollator": "seed_hf.data.batches.language_model",
    "LanguageModelConfig": "seed_hf.training.language_model",
    "LanguageModelTrainer": "seed_hf.training.language_model",
    "QuantizationConfig": "seed_hf.training.quantization",
    "QuantizationTrainer": "seed_hf.training.quantization",
}

__all__ = sorted(_MODULES)
__getattr__, __dir__ = lazy_names(__name__, _MODULES)
