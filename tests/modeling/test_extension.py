"""What a plain model must be to get visual tokens, and a SEED one to lose them; what its tokenizer decides."""

import copy
import json

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from seed_hf.modeling.extension_seed import use_tokens_of
from seed_hf.modeling.modeling_seed_text import SeedLlamaForCausalLM
from seed_hf.training.lora import add_lora
from tiny import tiny_text_tokenizer
from tiny_families import ROWS, SIZES, plain_model, visual_model
from tiny_language import TEXT_VOCAB_SIZE


SMALL = {"codebook_size": 64, "code_dim": 8}


def saved(folder, model, tokenizer=None):
    model.save_pretrained(folder)
    (tokenizer or tiny_text_tokenizer()).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("where", ["config", "generation_config"])
@pytest.mark.parametrize("name", ["bos_token_id", "eos_token_id", "pad_token_id"])
def test_a_special_token_that_would_become_a_visual_token_is_refused(tmp_path, name, where):
    """`pad_token_id` is often the row after the last token; its new row, that of <img>, would never be learned."""
    model = LlamaForCausalLM(LlamaConfig(vocab_size=ROWS, **SIZES))
    for wrong in [TEXT_VOCAB_SIZE] if name != "eos_token_id" else [TEXT_VOCAB_SIZE, [2, TEXT_VOCAB_SIZE]]:
        setattr(getattr(model, where), name, wrong)
        saved(tmp_path, model)
        if where == "config":
            GenerationConfig(bos_token_id=0, eos_token_id=2, pad_token_id=1).save_pretrained(tmp_path)
        for count in ({"text_vocab_size": TEXT_VOCAB_SIZE}, {}):
            if name == "bos_token_id" and where == "config" and not count:
                continue  # it is the tokenizer's then
            with pytest.raises(ValueError, match=f"{name}={TEXT_VOCAB_SIZE}, but its text tokens are 0 .. 330"):
                SeedLlamaForCausalLM.from_language_model(tmp_path, **SMALL, **count)


@pytest.mark.parametrize(("ends", "expected"), [(2, [2, 9]), ([2, 5], [2, 5, 9]), ([9, 2], [9, 2]), (9, 9), (None, 9)])
def test_generation_stops_where_the_tokenizer_ends(tmp_path, ends, expected):
    """The collators end every sequence with the tokenizer's eos."""
    tokenizer = tiny_text_tokenizer()
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(9)
    sizes = {**SIZES, "eos_token_id": ends}
    saved(tmp_path, LlamaForCausalLM(LlamaConfig(vocab_size=ROWS, **sizes)), tokenizer)
    model = SeedLlamaForCausalLM.from_language_model(tmp_path, **SMALL)
    assert model.config.eos_token_id == model.generation_config.eos_token_id == expected
    tokenizer.eos_token = None
    use_tokens_of(model, tokenizer)
    assert model.config.eos_token_id == expected


def test_a_padding_token_of_minus_one_is_none(tmp_path):
    """So the first Llamas say that they have none. Rows that have ended could not be padded with it."""
    saved(tmp_path, LlamaForCausalLM(LlamaConfig(vocab_size=ROWS, **SIZES)))
    (tmp_path / "generation_config.json").unlink()
    values = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**values, "pad_token_id": -1}))  # 5.18 saves no such
    model = SeedLlamaForCausalLM.from_language_model(tmp_path, **SMALL).eval()
    ids, bias = torch.tensor([[0, 7], [0, 8]]), {"sequence_bias": [[[7, 2], 100.0], [[8, 9], 100.0], [[9, 9], 100.0]]}
    found = model.generate(ids, generation_mode="text", do_sample=False, max_new_tokens=4, **bias)
    assert found.tolist() == [[0, 7, 2, 2, 2, 2], [0, 8, 9, 9, 9, 9]]


def test_gaps_in_the_ids_of_a_tokenizer_are_refused(tmp_path):
    """The last word would have the id of <img>."""
    saved(tmp_path, plain_model("llama"))
    values = json.loads((tmp_path / "tokenizer.json").read_text())
    vocab = values["model"]["vocab"]
    vocab["q"] = TEXT_VOCAB_SIZE + 1
    (tmp_path / "tokenizer.json").write_text(json.dumps(values))
    with pytest.raises(ValueError, match=r"must have the ids 0 .. \d+, but the highest is"):
        SeedLlamaForCausalLM.from_language_model(tmp_path, **SMALL)


@pytest.mark.parametrize("name", ["<img>", "</img>", "<image>"])
def test_a_tokenizer_with_a_visual_token_is_refused(tmp_path, name):
    tokenizer = tiny_text_tokenizer()
    tokenizer.add_tokens([name])
    saved(tmp_path, plain_model("llama"), tokenizer)
    with pytest.raises(ValueError, match="already has visual tokens"):
        SeedLlamaForCausalLM.from_language_model(tmp_path, **SMALL)


def lora(**settings) -> LoraConfig:
    return LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False, **settings)


WRAPPED = {
    "LoRA": lambda model: get_peft_model(model, lora()),
    "trained rows": lambda model: add_lora(model, r=2, alpha=4, dropout=0.0),
    "whole modules": lambda model: get_peft_model(model, lora(modules_to_save=["norm"])),
    "of transformers": lambda model: model.add_adapter(lora()) or model,
}


@pytest.mark.parametrize("name", WRAPPED)
def test_adapters_are_merged_before_a_model_is_plain(name):
    adapted = WRAPPED[name](copy.deepcopy(visual_model("llama")))
    with pytest.raises(ValueError, match=r"adapters beside its own weights .* merge_and_unload\(\)"):
        adapted.to_plain()
    if name == "of transformers":
        return
    ids = torch.arange(3, 300)[None, ::5]
    with torch.no_grad():
        expected = adapted.eval()(ids).logits
        merged = adapted.merge_and_unload()
        torch.testing.assert_close(merged.to_plain()(ids).logits, expected, rtol=0, atol=1e-4)


def test_adapters_are_merged_before_a_model_gets_visual_tokens(tmp_path):
    plain = saved(tmp_path / "plain", plain_model("llama"))
    adapted = get_peft_model(LlamaForCausalLM.from_pretrained(plain), lora())
    saved(tmp_path / "alone", adapted)
    with pytest.raises(ValueError, match="An adapter of peft is no model"):
        SeedLlamaForCausalLM.from_language_model(tmp_path / "alone", **SMALL)
    adapted.save_pretrained(plain)  # beside the weights: transformers loads both
    with pytest.raises(ValueError, match="adapters beside its own weights"):
        SeedLlamaForCausalLM.from_language_model(plain, **SMALL)


def test_a_model_in_memory_is_not_taken_for_a_folder():
    with pytest.raises(TypeError, match="takes a folder or a Hub id, got LlamaForCausalLM. Save a model first"):
        SeedLlamaForCausalLM.from_language_model(plain_model("llama"), **SMALL)
