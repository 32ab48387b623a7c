"""A folder of another model, or a configuration that is none, is refused in one line that says what takes it."""

import json

import pytest
from transformers import BertConfig, CLIPTextModel, LlamaConfig, OPTConfig, OPTForCausalLM

from command_line import refused
from seed_hf import (
    SeedConfig,
    SeedForCausalLM,
    SeedForConditionalGeneration,
    SeedTextConfig,
    SeedTokenizer,
    SeedTokenizerConfig,
)
from seed_hf.artifacts.fingerprints import weights_fingerprint
from seed_hf.artifacts.loading import load_language_model, load_model, load_pretrained, load_tokenizer
from tiny_artifacts import save_artifact


OPENERS = {
    "tokenizer": (SeedTokenizer, SeedTokenizerConfig, load_tokenizer),
    "language_model": (SeedForCausalLM, SeedTextConfig, load_language_model),
    "model": (SeedForConditionalGeneration, SeedConfig, load_model),
}
OTHERS = {
    "llama": (LlamaConfig(), "SeedLlamaForCausalLM.from_language_model adds visual tokens"),
    "opt": (OPTConfig(), "SeedForCausalLM.from_language_model adds visual tokens"),
    "bert": (BertConfig(), "'bert'"),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("artifacts")
    for kind in OPENERS:
        save_artifact(kind, root / kind)
    return root


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("kind", OPENERS)
def test_another_model_is_refused_by_its_type(tmp_path, kind, other):
    config, words = OTHERS[other]
    config.save_pretrained(tmp_path)  # no weights are needed to see it
    cls, config_class, load = OPENERS[kind]
    for way in (cls.from_pretrained, config_class.from_pretrained, load):
        with pytest.raises(ValueError, match=words):
            way(tmp_path)


@pytest.mark.parametrize("found", OPENERS)
@pytest.mark.parametrize("kind", OPENERS)
def test_one_of_ours_is_not_another_of_ours(folders, kind, found):
    cls, _, load = OPENERS[kind]
    if kind == found:
        assert load(folders / found)
    elif (kind, found) == ("tokenizer", "model"):  # the one inside
        inside = weights_fingerprint(OPENERS[found][0].from_pretrained(folders / found).visual_tokenizer)
        for tokenizer in (cls.from_pretrained(folders / found), load(folders / found)[0]):
            assert weights_fingerprint(tokenizer) == inside
    else:
        # The configuration of a whole model has the one of its language model in it; the weights tell.
        with pytest.raises(ValueError, match=rf"{OPENERS[found][0].__name__}|Unknown .*language_model"):
            cls.from_pretrained(folders / found)
    if kind != found and (kind, found) != ("tokenizer", "model"):
        with pytest.raises(ValueError, match=f"which is not a {cls.__name__}"):
            load(folders / found)


def test_classes_of_transformers_too(folders, tmp_path):
    LlamaConfig().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="holds a 'llama' model, not a plain 'opt' model"):
        load_pretrained(OPTForCausalLM, tmp_path)
    with pytest.raises(
        ValueError, match="holds a 'seed_tokenizer' model, not a 'clip_text_model'. It is a SeedTokenizer"
    ):
        load_pretrained(CLIPTextModel, folders / "tokenizer")


NO_CONFIGURATIONS = {
    "an array": "[]",
    "null": "null",
    "a number": "3",
    "a text": '"seed"',
    "a deep array": "[" * 5000 + "]" * 5000,
    "a deep object": '{"model_type": ' * 5000 + "1" + "}" * 5000,
    "a number of 5,000 digits": '{"codebook_size": ' + "1" * 5000 + "}",
    "nothing": "",
    "cut": '{"model_type": "se',
    "no type": "{}",
    "a type that is a list": '{"model_type": ["seed"]}',
}


@pytest.mark.parametrize("text", NO_CONFIGURATIONS)
def test_what_is_no_configuration_is_refused_in_one_line(tmp_path, text):
    (tmp_path / "config.json").write_text(NO_CONFIGURATIONS[text])
    refused("see", "examples/pig.png", "--model", tmp_path, words=str(tmp_path))
    for cls, config_class, load in OPENERS.values():
        for way in (cls.from_pretrained, config_class.from_pretrained, load):
            with pytest.raises((ValueError, OSError)):
                way(tmp_path)


WRONG_FIELDS = [
    ("tokenizer_config", {"codebook_size": -1}),
    ("tokenizer_config", {"codebook_size": None}),
    ("tokenizer_config", {"codebook_size": "abc"}),
    ("tokenizer_config", {"codebook_size": 10**30}),
    ("tokenizer_config", {"vq_beta": "abc"}),
    ("tokenizer_config", {"text_tower": "no"}),
    ("tokenizer_config", {"label_smoothing": float("nan")}),
    ("tokenizer_config", {"vision_config": []}),
    ("tokenizer_config", []),
    ("text_config", {"hidden_size": "abc"}),
    ("text_config", {"hidden_size": -1}),
    ("text_config", {"num_attention_heads": 0}),
    ("text_config", {"num_attention_heads": 7}),
    ("text_config", {"model_type": ["opt"]}),
    ("text_config", 3),
    ("caption_prompt", 3),
    ("question_prompt", 3),
    ("image_prompt", []),
    ("dtype", "abc"),
]


@pytest.mark.parametrize("part, value", WRONG_FIELDS, ids=lambda value: json.dumps(value)[:40])
def test_wrong_fields_are_refused_in_one_line(folders, tmp_path, part, value):
    for path in (folders / "model").iterdir():
        (tmp_path / path.name).symlink_to(path)
    config = json.loads((folders / "model" / "config.json").read_text())
    config[part] = {**config[part], **value} if isinstance(value, dict) else value
    (tmp_path / "config.json").unlink()
    (tmp_path / "config.json").write_text(json.dumps(config))
    refused("see", "examples/pig.png", "--model", tmp_path, words=str(tmp_path))
    with pytest.raises(ValueError, match=str(tmp_path)):
        load_model(tmp_path)


@pytest.mark.parametrize("size", ["hidden_size", "patch_size", "num_hidden_layers", "num_attention_heads"])
def test_sizes_of_parts_are_named(size):
    with pytest.raises(ValueError, match=rf"vision_config\.{size} must be at least 1, got 0"):
        SeedTokenizerConfig(vision_config={size: 0})
