"""A small run of stage I: data, configuration and trainer."""

import torch

from seed_hf.training.contrastive import ContrastiveConfig, ContrastiveTrainer
from stages import settings, stack
from tiny import tiny_text_tokenizer


CAPTIONS = ["a red apple", "the blue fire engine", "a question", "an image of a photo"]


def rows(number=16):
    """Images whose colour says which of four captions they have."""
    generator = torch.Generator().manual_seed(0)
    colours = torch.tensor([[2.0, 0, 0], [0, 0, 2.0], [0, 2.0, 0], [1.0, 1.0, 1.0]])
    noise = torch.randn(number, 3, 28, 28, generator=generator)
    encoded = tiny_text_tokenizer()(CAPTIONS, padding=True, return_tensors="pt")
    return [
        {
            "pixel_values": noise[i] * 0.2 + colours[i % 4][:, None, None],
            "input_ids": encoded["input_ids"][i % 4],
            "attention_mask": encoded["attention_mask"][i % 4],
        }
        for i in range(number)
    ]


def config(folder, **overrides):
    return ContrastiveConfig(**settings(folder, **{"learning_rate": 3e-3, "warmup_steps": 2, **overrides}))


def trainer_for(model, args, **kwargs):
    return ContrastiveTrainer(model, args, train_dataset=rows(), data_collator=stack, **kwargs)
