"""A CLIP with random weights, as a folder."""

from pathlib import Path

import torch
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPVisionConfig, CLIPVisionModelWithProjection

from tiny import tiny_text_tokenizer


SIZES = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
VISION = {"image_size": 28, "patch_size": 14, "projection_dim": 8, **SIZES}


def save_clip(folder: Path) -> Path:
    """A whole CLIP."""
    tokenizer = tiny_text_tokenizer()
    text = {"vocab_size": len(tokenizer), "max_position_embeddings": 12, "projection_dim": 8, **SIZES}
    torch.manual_seed(0)
    CLIPModel(CLIPConfig(text_config=text, vision_config=VISION, projection_dim=8)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    _image_processor().save_pretrained(folder)
    return folder


def save_clip_vision(folder: Path) -> Path:
    """An image encoder alone."""
    torch.manual_seed(1)
    CLIPVisionModelWithProjection(CLIPVisionConfig(**VISION)).save_pretrained(folder)
    _image_processor().save_pretrained(folder)
    return folder


def _image_processor() -> CLIPImageProcessor:
    return CLIPImageProcessor(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
