"""Plain tiny language models of each family, with random weights that differ from row to row."""

import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    PreTrainedModel,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from seed_hf.modeling.extension_seed import extended
from seed_hf.modeling.modeling_seed import SeedForConditionalGeneration
from seed_hf.modeling.modeling_seed_text import SeedForCausalLM, SeedLlamaForCausalLM, SeedQwen3ForCausalLM
from tiny import tiny_tokenizer
from tiny_language import CODEBOOK_SIZE, OPT_SIZES, TEXT_VOCAB_SIZE


SIZES = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 160,
    "initializer_range": 0.3,
    "bos_token_id": 0,
    "pad_token_id": 1,
    "eos_token_id": 2,
}
SPARE_ROWS = 7  # of the plain model, beyond the tokens of its tokenizer
ROWS = TEXT_VOCAB_SIZE + SPARE_ROWS

# Name -> (plain model, the class that extends it). SmolLM2 is a Llama whose matrices are tied.
FAMILIES = {
    "opt": (lambda: OPTForCausalLM(OPTConfig(vocab_size=ROWS, **OPT_SIZES)), SeedForCausalLM),
    "llama": (
        lambda: LlamaForCausalLM(LlamaConfig(vocab_size=ROWS, tie_word_embeddings=False, **SIZES)),
        SeedLlamaForCausalLM,
    ),
    "smollm2": (
        lambda: LlamaForCausalLM(LlamaConfig(vocab_size=ROWS, tie_word_embeddings=True, **SIZES)),
        SeedLlamaForCausalLM,
    ),
    "qwen3": (
        lambda: Qwen3ForCausalLM(Qwen3Config(vocab_size=ROWS, head_dim=8, tie_word_embeddings=True, **SIZES)),
        SeedQwen3ForCausalLM,
    ),
}


def extended_in_memory(name: str) -> PreTrainedModel:
    """A model of a family with a visual vocabulary, without a folder; processes that start together share none."""
    plain = plain_model(name)
    visual = {"codebook_size": CODEBOOK_SIZE, "num_query_tokens": 32, "code_dim": 8, "visual_embedding": "learned"}
    return extended(FAMILIES[name][1], plain, text_vocab_size=TEXT_VOCAB_SIZE, codebook=None, **visual)


def plain_model(name: str) -> PreTrainedModel:
    torch.manual_seed(0)
    return FAMILIES[name][0]().eval()


def visual_model(name: str, visual_embedding: str = "learned"):
    """The plain model with the codes of `tiny_tokenizer`."""
    torch.manual_seed(1)
    sizes = {"text_vocab_size": TEXT_VOCAB_SIZE, "codebook_size": CODEBOOK_SIZE, "num_query_tokens": 32, "code_dim": 8}
    codebook = tiny_tokenizer().quantizer.embedding.weight.detach()
    return extended(
        FAMILIES[name][1], plain_model(name), visual_embedding=visual_embedding, codebook=codebook, **sizes
    ).eval()


def whole_model(name: str, visual_embedding: str = "learned") -> SeedForConditionalGeneration:
    """`tiny_tokenizer` and the language model of `visual_model`."""
    return SeedForConditionalGeneration.from_parts(tiny_tokenizer(), visual_model(name, visual_embedding)).eval()
