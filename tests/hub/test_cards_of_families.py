"""The card of a language model says of which family it is, and its program loads it."""

import re

import pytest
from transformers import GPT2Config

from seed_hf.hub import write_card
from seed_hf.hub.card import _with_common_names
from seed_hf.hub.snippet import SWITCH
from seed_hf.hub.templates import render
from seed_hf.modeling.processing_seed import extend_text_tokenizer
from tiny import tiny_text_tokenizer
from tiny_families import FAMILIES, plain_model


WORDS = {"opt": "an OPT", "llama": "a Llama", "qwen3": "a Qwen3"}


def test_names_of_sizes_that_a_family_has_of_its_own_are_known():
    config = _with_common_names(GPT2Config(n_layer=3).to_dict())
    assert config["num_hidden_layers"] == config["n_layer"] == 3
    with pytest.raises(ValueError, match="language_model.md: .* is undefined"):
        render("language_model.md", config={"model_type": "seed_odd"})


@pytest.mark.parametrize("name", WORDS)
def test_the_card_knows_the_family(name, tmp_path, monkeypatch):
    if name == "llama":
        monkeypatch.delenv(SWITCH, raising=False)  # the program runs
    plain_model(name).save_pretrained(tmp_path / "plain")
    tiny_text_tokenizer().save_pretrained(tmp_path / "plain")
    model = FAMILIES[name][1].from_language_model(tmp_path / "plain", codebook_size=64, num_query_tokens=4)
    model.save_pretrained(tmp_path / "thing")
    extend_text_tokenizer(tiny_text_tokenizer(), 64).save_pretrained(tmp_path / "thing")
    text = write_card(tmp_path / "thing").read_text()
    assert f"{WORDS[name]} whose vocabulary" in text
    assert name != "llama" or re.search(rf"\(1, \d+, {model.config.vocab_size}\)", text)
