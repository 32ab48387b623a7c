"""Families added as docs/language_models.md says, whose matrices have other names, a factor or a bias."""

import pytest
import torch
from huggingface_hub.dataclasses import strict
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    PhiConfig,
    PhiForCausalLM,
)

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


@pytest.fixture
def gemma():
    @strict
    class SeedGemmaConfig(VisualVocabularyConfig, Gemma3TextConfig):
        model_type = "seed_gemma3_text"

    @language_model
    class SeedGemmaForCausalLM(VisualVocabularyMixin, Gemma3ForCausalLM):
        config_class = SeedGemmaConfig
        family = Family(Gemma3ForCausalLM, ("q_proj",), ("input_layernorm",))

    yield SeedGemmaForCausalLM
    LANGUAGE_MODELS.pop("seed_gemma3_text")
    TEXT_CONFIGS.pop("seed_gemma3_text")


def test_projected_codes_enter_as_large_as_words_and_leave_the_plain_model_equal(gemma, tmp_path):
    torch.manual_seed(0)
    Gemma3ForCausalLM(Gemma3TextConfig(vocab_size=ROWS, head_dim=8, **SIZES)).save_pretrained(tmp_path)
    tiny_text_tokenizer().save_pretrained(tmp_path)
    options = {"codebook_size": 64, "code_dim": 8, "visual_embedding": "projected", "codebook": torch.randn(64, 8)}
    model = gemma.from_language_model(tmp_path, **options).eval()
    first = model.config.visual_token_offset
    with torch.no_grad():
        words, codes = model.embed_ids(torch.arange(300)), model.embed_ids(torch.arange(first, first + 64))
        assert 0.5 < codes.std() / words.std() < 2  # a row of this family is multiplied by 4 on its way in
        ids = torch.arange(3, model.config.image_token_id)[None, ::5]
        assert torch.allclose(model.to_plain()(ids).logits, model(ids).logits, atol=1e-4)


@pytest.fixture
def phi():
    @strict
    class SeedPhiConfig(VisualVocabularyConfig, PhiConfig):
        model_type = "seed_phi"

    @language_model
    class SeedPhiForCausalLM(VisualVocabularyMixin, PhiForCausalLM):
        config_class = SeedPhiConfig
        family = Family(PhiForCausalLM, ("q_proj", "k_proj", "v_proj", "dense", "fc1", "fc2"), ("input_layernorm",))

    yield SeedPhiForCausalLM
    LANGUAGE_MODELS.pop("seed_phi")
    TEXT_CONFIGS.pop("seed_phi")


def test_an_output_layer_with_a_bias_is_extended_too(phi, tmp_path):
    torch.manual_seed(0)
    plain = PhiForCausalLM(PhiConfig(vocab_size=ROWS, **SIZES)).eval()
    torch.nn.init.normal_(plain.lm_head.bias, mean=2.0)
    plain.save_pretrained(tmp_path)
    tiny_text_tokenizer().save_pretrained(tmp_path)
    model = phi.from_language_model(tmp_path, codebook_size=64).eval()
    words, new = model.lm_head.bias.split([model.config.boi_token_id, 66 + model.config.vocab_size - 397])
    assert torch.equal(words, plain.lm_head.bias[: len(words)]) and 1.5 < new.mean() < 2.5 and 0.7 < new.std() < 1.3
    ids = torch.arange(3, 200)[None, ::4]
    with torch.no_grad():
        logits = model(ids).logits
        assert torch.equal(logits[..., : len(words)], plain(ids).logits[..., : len(words)])
        assert torch.equal(model.to_plain()(ids).logits, logits)
    row = model.generate(torch.tensor([[0, 7]]), generation_mode="image")[0]
    assert row[2] == model.config.boi_token_id and row[35] == model.config.eoi_token_id
