"""A small run of stage II: data, configuration and trainer."""

import torch

from seed_hf.training.quantization import QuantizationConfig, QuantizationTrainer
from stages import settings, stack


def config(folder, **overrides):
    return QuantizationConfig(**settings(folder, **{"learning_rate": 3e-3, "warmup_steps": 2, **overrides}))


def images(number=16):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(number, 3, 28, 28, generator=generator)
    targets = torch.randn(number, 6, 20, generator=generator)
    return [{"pixel_values": p, "target_embeddings": t} for p, t in zip(pixels, targets)]


def trainer_for(model, args, rows=None, **kwargs):
    return QuantizationTrainer(model, args, train_dataset=rows or images(), data_collator=stack, **kwargs)
