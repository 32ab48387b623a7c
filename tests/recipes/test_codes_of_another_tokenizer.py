"""Codes of `seed-hf tokenize` belong to one visual tokenizer: training a language model with another is refused."""

import json

import pytest
import torch
from transformers import OPTConfig, OPTForCausalLM

from seed_hf.data.jobs.tokenizing import tokenize_images
from seed_hf.data.sources import open_source
from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer
from seed_hf.recipes.running import run_stage
from stage_recipes import OPT, TRAINER, folder, write  # noqa: F401  folder is a fixture


@pytest.fixture
def tokenized(folder):  # noqa: F811
    """A plain language model, and codes by `tokenizer`, in bf16; beside it a tokenizer with another codebook."""
    model = SeedTokenizer.from_pretrained("tokenizer")
    tokenize_images(open_source("images.parquet"), model.to(torch.bfloat16), "codes", batch_size=4)
    other = SeedTokenizer.from_pretrained("tokenizer")
    torch.nn.init.normal_(other.quantizer.embedding.weight)
    other.save_pretrained("other")
    OPTForCausalLM(OPTConfig(**OPT, vocab_size=331)).save_pretrained("opt")
    return folder


def recipe(visual, data="codes"):
    return write(
        {
            "model": {"language_model": "opt", "text_tokenizer": "text_tokenizer", "visual_tokenizer": visual},
            "data": {"train": data},
            "trainer": {**TRAINER, "output_dir": "out", "lora_r": 0},
        }
    )


def test_its_own_codes_train(tokenized):
    run_stage("lm", recipe("tokenizer"))


@pytest.mark.parametrize("one_file", [False, True])
def test_codes_of_another_tokenizer_are_refused(tokenized, one_file):
    data = str(next((tokenized / "codes").glob("*.parquet"))) if one_file else "codes"
    with pytest.raises(ValueError, match=r"data.train: .* codes of another visual tokenizer.*\(other\)"):
        run_stage("lm", recipe("other", data))
    assert not list((tokenized / "out").rglob("*.safetensors"))


def test_codes_without_their_manifest_are_believed(tokenized):
    (tokenized / "codes" / "manifest.json").rename("manifest.json")
    run_stage("lm", recipe("other"))


def test_a_manifest_of_something_else_says_nothing(tokenized):
    (tokenized / "codes" / "manifest.json").write_text(json.dumps({"tokenizer": "mine"}))
    run_stage("lm", recipe("other"))
