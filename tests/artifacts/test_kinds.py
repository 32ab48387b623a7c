"""The table of kinds: each entry agrees with its class, and has a card, a usage program and a way to be recognised."""

import inspect
from importlib.resources import files

import pytest
import transformers
from transformers import PreTrainedModel

from seed_hf.artifacts.kinds import KINDS, kind_of, kind_of_object, load_class
from seed_hf.artifacts.loading import load_language_model
from seed_hf.artifacts.whole import problems
from seed_hf.hub.evaluations import SECTIONS
from seed_hf.modeling.processing_seed import extend_text_tokenizer
from tiny import tiny_text_tokenizer, tiny_tokenizer
from tiny_diffusion import tiny_model_and_processor, tiny_pipeline
from tiny_families import FAMILIES, plain_model
from tiny_language import TEXT_VOCAB_SIZE, tiny_language_model


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_each_kind_has_a_card_and_a_usage_program(kind):
    cards = files("seed_hf.model_cards")
    assert (cards / f"{kind.name}.md").is_file() and (cards / "snippets" / f"{kind.name}.jinja").is_file()
    assert set(kind.sections) <= SECTIONS and kind.repo_type in ("model", "dataset")
    assert (kind.library is None) == (kind.task is None) == (kind.repo_type == "dataset")


@pytest.mark.parametrize("kind", [kind for kind in KINDS.values() if kind.cls], ids=lambda kind: kind.name)
def test_each_class_is_what_the_table_says(kind):
    cls = load_class(kind.cls)
    assert cls.__name__ == kind.class_name
    if issubclass(cls, PreTrainedModel):
        assert cls.config_class.model_type == kind.model_type
        assert hasattr(transformers, kind.auto_class)
        assert inspect.isclass(load_class(kind.processor))


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_a_language_model_of_any_family_is_one(tmp_path, family):
    plain_model(family).save_pretrained(tmp_path / "plain")
    cls = FAMILIES[family][1]
    model = cls.from_language_model(tmp_path / "plain", text_vocab_size=TEXT_VOCAB_SIZE, codebook_size=64)
    model.save_pretrained(tmp_path / "visual")
    extend_text_tokenizer(tiny_text_tokenizer(), 64).save_pretrained(tmp_path / "visual")
    assert kind_of(tmp_path / "visual") == kind_of_object(model) == "language_model"
    assert problems(tmp_path / "visual", "language_model") == []
    assert type(load_language_model(tmp_path / "visual")[0]) is cls
    with pytest.raises(ValueError, match=f"{cls.__name__}.from_language_model adds visual tokens"):
        kind_of(tmp_path / "plain")


def test_the_kind_of_an_object_is_that_of_its_folder():
    model, processor = tiny_model_and_processor()
    assert kind_of_object(tiny_tokenizer()) == "tokenizer" and kind_of_object(model) == "model"
    assert kind_of_object(tiny_language_model()) == "language_model"
    assert kind_of_object(tiny_pipeline(model, processor=processor)) == "pipeline"
    assert kind_of_object(processor) is None and kind_of_object(model.config) is None
