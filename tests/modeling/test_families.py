"""What holds for the language models of every family."""

import json
import random

import pytest
import torch
from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, AutoModelForCausalLM, MistralConfig, MistralForCausalLM

import seed_hf.auto  # noqa: F401 - the Auto classes know the families
from family_sweeps import extended_family, images_of_samples, text_processors
from hostile_prompts import TextToIds, hostile_text
from seed_hf.modeling.configuration_seed import SeedConfig, SeedLlamaConfig, VisualVocabularyConfig
from seed_hf.modeling.generation_seed import GENERATION_MODES, CodeSegment, Defect, parse_segments
from seed_hf.modeling.modeling_seed import SeedForConditionalGeneration
from seed_hf.modeling.modeling_seed_text import (
    LANGUAGE_MODELS,
    Family,
    SeedForCausalLM,
    SeedLlamaForCausalLM,
    VisualVocabularyMixin,
    language_model,
)
from seed_hf.modeling.visual_vocabulary_seed import VisualVocabulary
from seed_hf.training.lora import add_lora
from tiny import tiny_text_tokenizer, tiny_tokenizer, tiny_tokenizer_config
from tiny_families import FAMILIES, ROWS, SIZES, plain_model
from tiny_language import CODEBOOK_SIZE, TEXT_VOCAB_SIZE


VISUAL = {"codebook_size": CODEBOOK_SIZE, "code_dim": 8}
families = pytest.mark.parametrize("name", FAMILIES)


@pytest.fixture
def plain_folder(name, tmp_path):
    plain_model(name).save_pretrained(tmp_path / "plain")
    tiny_text_tokenizer().save_pretrained(tmp_path / "plain")
    return tmp_path / "plain"


def text_ids(count=40):
    return torch.randint(TEXT_VOCAB_SIZE, (2, count), generator=torch.Generator().manual_seed(0))


@families
def test_extension_keeps_the_logits_of_text(name, plain_folder):
    model, plain = extended_family(name, plain_folder), plain_model(name)
    assert model.config.text_vocab_size == TEXT_VOCAB_SIZE  # counted by the tokenizer, not by rows
    assert model.config.tie_word_embeddings == plain.config.tie_word_embeddings
    ids = text_ids()
    with torch.no_grad():
        expected, found = plain(ids).logits, model(ids).logits
    assert expected.shape[-1] == ROWS and torch.equal(found[..., :TEXT_VOCAB_SIZE], expected[..., :TEXT_VOCAB_SIZE])
    new = model.get_output_embeddings().weight[VisualVocabulary.of(model.config).rows()]
    assert len(new.unique(dim=0)) == len(new)


@families
def test_bos_is_that_of_the_tokenizer(name, plain_folder):
    """Qwen3's configuration has one, its tokenizer none: no prompt begins with it, so guidance must not either."""
    assert extended_family(name, plain_folder).config.bos_token_id == 0
    tokenizer = tiny_text_tokenizer()
    tokenizer.bos_token = None
    tokenizer.save_pretrained(plain_folder)
    assert extended_family(name, plain_folder).config.bos_token_id is None


@families
@pytest.mark.parametrize("visual_embedding", ["learned", "projected"])
def test_saved_loaded_and_plain_again(name, plain_folder, tmp_path, visual_embedding):
    codebook = torch.randn(CODEBOOK_SIZE, 8)
    model = extended_family(name, plain_folder, visual_embedding=visual_embedding, codebook=codebook)
    model.save_pretrained(tmp_path / "seed")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "seed")
    assert type(loaded) is FAMILIES[name][1] and loaded.config.to_diff_dict() == model.config.to_diff_dict()
    ids = torch.arange(3, model.config.image_token_id)[None].split(100, dim=1)
    model.to_plain().save_pretrained(tmp_path / "again")
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "again")
    assert type(plain) is type(plain_model(name))
    values = json.loads((tmp_path / "again" / "config.json").read_text())
    assert "auto_map" not in values and "codebook_size" not in values
    with torch.no_grad():
        for part in ids:
            expected = model(part).logits
            assert torch.equal(loaded(part).logits, expected) and torch.equal(plain(part).logits, expected)


@families
@pytest.mark.parametrize("mode", GENERATION_MODES)
def test_samples_are_valid(name, plain_folder, mode):
    """`tests/soak/test_samples_of_families.py` draws a thousand."""
    images_of_samples(extended_family(name, plain_folder), mode, 48)


@families
def test_beams_and_static_caches_are_valid(name, plain_folder):
    model = extended_family(name, plain_folder)
    for mode in GENERATION_MODES:
        images_of_samples(model, mode, 8, num_beams=3, do_sample=False)
    images_of_samples(model, "interleaved", 8, cache_implementation="static")


@pytest.mark.parametrize("kind", ["byte level", "without bos", "sentencepiece"])
def test_no_text_becomes_a_code(kind):
    """`tests/soak/test_samples_of_families.py` tries ten thousand."""
    ways, draw = [TextToIds(processor) for processor in text_processors()[kind]], random.Random(0)
    for number in range(100):
        ways[number % len(ways)].check(hostile_text(draw))


@families
def test_whole_model_holds_any_family(name, plain_folder, tmp_path):
    model = SeedForConditionalGeneration.from_parts(tiny_tokenizer(), extended_family(name, plain_folder)).eval()
    model.save_pretrained(tmp_path / "whole")
    loaded = SeedForConditionalGeneration.from_pretrained(tmp_path / "whole").eval()
    assert type(loaded.language_model) is FAMILIES[name][1]
    assert isinstance(loaded.config.text_config, type(model.config.text_config))
    layout = VisualVocabulary.of(loaded.config.text_config)
    ids = torch.tensor([[0, 5, *layout.span(), 7]])
    pixels = torch.randn(1, 3, 28, 28)
    with torch.no_grad():
        assert torch.equal(loaded(ids, pixel_values=pixels).logits, model(ids, pixel_values=pixels).logits)
    drawn = loaded.generate(torch.tensor([[0, 5, 6]]), generation_mode="image")
    assert any(isinstance(part, CodeSegment) for part in parse_segments(drawn[0].tolist(), layout).parts)
    tied = loaded.language_model.config.tie_word_embeddings
    rows, head = loaded.get_input_embeddings().weight, loaded.get_output_embeddings().weight
    assert (rows.data_ptr() == head.data_ptr()) == tied


@families
def test_padding_changes_nothing(name, plain_folder):
    model = extended_family(name, plain_folder)
    layout = VisualVocabulary.of(model.config)
    row = [0, 9, *layout.span(range(32)), 11, 12]
    ids = torch.tensor([[1] * 6 + row, [0, 3, 4, 5, 6, 7, *row]])
    mask = torch.tensor([[0] * 6 + [1] * len(row), [1] * (6 + len(row))])
    with torch.no_grad():
        alone = model(torch.tensor([row])).logits[0, -1]
    settings = {"generation_mode": "text", "max_new_tokens": 1, "do_sample": False, "pad_token_id": 1}
    output = model.generate(ids, attention_mask=mask, output_logits=True, return_dict_in_generate=True, **settings)
    assert torch.allclose(output.logits[0][0], alone, atol=1e-5)


@families
def test_lora_finds_the_layers_and_merges(name, plain_folder):
    model = extended_family(name, plain_folder)
    before = model.get_input_embeddings().weight.detach().clone()
    adapted = add_lora(model, r=2, alpha=4, dropout=0.0)
    blocks = model.config.num_hidden_layers
    layers = {n for n, _ in adapted.named_parameters() if "lora_A" in n}
    assert len(layers) == blocks * len(FAMILIES[name][1].family.linear_layers)
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.1)
    ids = torch.arange(3, TEXT_VOCAB_SIZE + 40)[None, ::4]
    with torch.no_grad():
        expected = adapted(ids).logits
        merged = adapted.merge_and_unload()
        assert torch.allclose(merged(ids).logits, expected, atol=1e-4)
    assert torch.equal(merged.get_input_embeddings().weight[:TEXT_VOCAB_SIZE], before[:TEXT_VOCAB_SIZE])


@families
def test_another_family_is_refused_by_name(name, plain_folder):
    other = SeedForCausalLM if name != "opt" else SeedLlamaForCausalLM
    with pytest.raises(ValueError, match=f"Use {FAMILIES[name][1].__name__}.from_language_model"):
        other.from_language_model(plain_folder, **VISUAL)


def test_unknown_families_are_named():
    with pytest.raises(ValueError, match="seed_text, seed_llama, seed_qwen3.*'gpt2'"):
        SeedConfig(tiny_tokenizer_config(), {"model_type": "gpt2"})


# Layouts


def llama_config(**ids):
    return SeedLlamaConfig(text_vocab_size=40, codebook_size=16, num_query_tokens=4, **{**SIZES, **ids})


CODES_FIRST = {"visual_token_offset": 40, "boi_token_id": 56, "eoi_token_id": 57, "image_token_id": 58}


def test_a_layout_of_another_order_is_stored(tmp_path):
    config = llama_config(**CODES_FIRST)
    assert config.vocab_size == 58  # the placeholder has no row
    config.save_pretrained(tmp_path)
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert type(loaded) is SeedLlamaConfig and VisualVocabulary.of(loaded) == VisualVocabulary.of(config)
    model = SeedLlamaForCausalLM(config).eval()
    ids = model.generate(torch.tensor([[0, 3]]), generation_mode="image", eos_token_id=2)
    parts = parse_segments(ids[0].tolist(), config).parts
    assert [type(part) for part in parts][1] is CodeSegment and not any(isinstance(p, Defect) for p in parts)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ({**CODES_FIRST, "image_token_id": None}, "gives all of"),
        ({**CODES_FIRST, "boi_token_id": 50}, "boi_token_id=50 is also a visual token"),
        ({**CODES_FIRST, "eoi_token_id": 56}, "three different ids"),
        ({**CODES_FIRST, "vocab_size": 57}, "need 58"),
        ({"visual_token_offset": 42, "boi_token_id": 40, "eoi_token_id": 41, "image_token_id": 59}, "must be 58"),
    ],
)
def test_layouts_that_cannot_be(ids, message):
    with pytest.raises(ValueError, match=message):
        llama_config(**ids)


# A new family, as docs/language_models.md writes it


def test_a_family_is_added_in_ten_lines(tmp_path):
    @strict
    class SeedMistralConfig(VisualVocabularyConfig, MistralConfig):
        model_type = "seed_mistral"

    @language_model
    class SeedMistralForCausalLM(VisualVocabularyMixin, MistralForCausalLM):
        config_class = SeedMistralConfig
        family = Family(MistralForCausalLM, ("q_proj", "k_proj", "v_proj", "o_proj"), ("input_layernorm", "norm"))

    try:
        torch.manual_seed(0)
        plain = MistralForCausalLM(MistralConfig(vocab_size=ROWS, head_dim=8, sliding_window=None, **SIZES)).eval()
        plain.save_pretrained(tmp_path / "plain")
        tiny_text_tokenizer().save_pretrained(tmp_path / "plain")
        model = SeedMistralForCausalLM.from_language_model(tmp_path / "plain", **VISUAL).eval()
        with torch.no_grad():
            ids = text_ids()
            assert torch.equal(model(ids).logits[..., :TEXT_VOCAB_SIZE], plain(ids).logits[..., :TEXT_VOCAB_SIZE])
        whole = SeedForConditionalGeneration.from_parts(tiny_tokenizer(), model)
        whole.save_pretrained(tmp_path / "whole")
        loaded = SeedForConditionalGeneration.from_pretrained(tmp_path / "whole")
        assert type(loaded.language_model) is SeedMistralForCausalLM
        random.seed(0)
        drawn = loaded.generate(torch.tensor([[0, random.randrange(3, 99)]]), generation_mode="image")
        assert not any(isinstance(p, Defect) for p in parse_segments(drawn[0].tolist(), model.config).parts)
    finally:
        LANGUAGE_MODELS.pop("seed_mistral", None)
