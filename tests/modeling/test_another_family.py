"""A family whose embeddings have other names, added as docs/language_models.md says."""

import pytest
import torch
from huggingface_hub.dataclasses import strict
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from seed_hf.modeling.configuration_seed import TEXT_CONFIGS, VisualVocabularyConfig
from seed_hf.modeling.modeling_seed_text import LANGUAGE_MODELS, Family, VisualVocabularyMixin, language_model
from seed_hf.training.lora import add_lora
from tiny import tiny_text_tokenizer
from tiny_families import ROWS, SIZES


@pytest.fixture
def family():
    @strict
    class SeedNeoXConfig(VisualVocabularyConfig, GPTNeoXConfig):
        model_type = "seed_gpt_neox"

    @language_model
    class SeedNeoXForCausalLM(VisualVocabularyMixin, GPTNeoXForCausalLM):
        config_class = SeedNeoXConfig
        family = Family(GPTNeoXForCausalLM, ("query_key_value", "dense"), ("input_layernorm",))

    yield SeedNeoXForCausalLM
    LANGUAGE_MODELS.pop("seed_gpt_neox")
    TEXT_CONFIGS.pop("seed_gpt_neox")


def test_lora_trains_the_new_rows_whatever_their_matrix_is_called(family, tmp_path):
    torch.manual_seed(0)
    sizes = {name: value for name, value in SIZES.items() if name != "num_key_value_heads"}
    GPTNeoXForCausalLM(GPTNeoXConfig(vocab_size=ROWS, **sizes)).save_pretrained(tmp_path)
    tiny_text_tokenizer().save_pretrained(tmp_path)
    model = family.from_language_model(tmp_path, codebook_size=64).eval()
    adapted = add_lora(model, r=2, alpha=4, dropout=0.0)
    rows = {name for name, weight in adapted.named_parameters() if "trainable_tokens" in name and weight.requires_grad}
    assert {name.split("token_adapter")[0].rstrip(".").rpartition(".")[-1] for name in rows} == {"embed_in", "lm_head"}
    for weight in adapted.parameters():
        if weight.requires_grad:
            torch.nn.init.normal_(weight, std=0.1)
    ids = torch.arange(3, 90)[None]
    with torch.no_grad():
        expected = adapted(ids).logits
        assert torch.allclose(adapted.merge_and_unload()(ids).logits, expected, atol=1e-4)
