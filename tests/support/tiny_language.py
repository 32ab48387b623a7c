"""Tiny language models with a visual vocabulary, and the processor that goes with them."""

import torch
from PIL import Image

from seed_hf.modeling.configuration_seed import SeedTextConfig
from seed_hf.modeling.image_processing_seed import SeedImageProcessor
from seed_hf.modeling.modeling_seed import SeedForConditionalGeneration
from seed_hf.modeling.modeling_seed_text import SeedForCausalLM
from seed_hf.modeling.processing_seed import SeedProcessor, extend_text_tokenizer
from tiny import tiny_text_tokenizer, tiny_tokenizer


CODEBOOK_SIZE = 64
TEXT_VOCAB_SIZE = len(tiny_text_tokenizer())
OPT_SIZES = {
    "hidden_size": 16,
    "ffn_dim": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "max_position_embeddings": 160,
    "dropout": 0.0,
    "init_std": 0.3,
    "bos_token_id": 0,
    "pad_token_id": 1,
    "eos_token_id": 2,
}


def tiny_text_config(**overrides) -> SeedTextConfig:
    sizes = {"text_vocab_size": TEXT_VOCAB_SIZE, "codebook_size": CODEBOOK_SIZE, "code_dim": 8}
    return SeedTextConfig(**{**OPT_SIZES, **sizes, **overrides})


def tiny_language_model(seed: int = 0, **overrides) -> SeedForCausalLM:
    torch.manual_seed(seed)
    return SeedForCausalLM(tiny_text_config(**overrides)).eval()


def tiny_seed_model(**overrides) -> SeedForConditionalGeneration:
    return SeedForConditionalGeneration.from_parts(tiny_tokenizer(), tiny_language_model(**overrides)).eval()


def tiny_processor(**prompts: str) -> SeedProcessor:
    tokenizer = extend_text_tokenizer(tiny_text_tokenizer(), CODEBOOK_SIZE)
    return SeedProcessor(SeedImageProcessor(size={"height": 28, "width": 28}), tokenizer, **prompts)


def picture(colour="red", size=(40, 30)) -> Image.Image:
    return Image.new("RGB", size, colour)


def span(config: SeedTextConfig, codes) -> list[int]:
    """The ids of an image span of these codes, however many."""
    return [config.boi_token_id, *(config.visual_token_offset + c for c in codes), config.eoi_token_id]
