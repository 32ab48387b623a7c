"""The card of a language model says of which family it is, and its program loads it."""

import re

import pytest

from seed_hf.hub import write_card
from seed_hf.hub.snippet import SWITCH
from seed_hf.modeling.processing_seed import extend_text_tokenizer
from tiny import tiny_text_tokenizer
from tiny_families import FAMILIES, plain_model


WORDS = {"opt": "an OPT", "llama": "a Llama", "qwen3": "a Qwen3"}


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
