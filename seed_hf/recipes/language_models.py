"""The language models that a recipe trains: from a `model_type` to its classes. A new family is one more line here."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from transformers import OPTConfig, OPTForCausalLM, PreTrainedConfig, PreTrainedModel

from seed_hf.artifacts.loading import naming_the_source, pretrained_arguments
from seed_hf.modeling.modeling_seed_text import SeedForCausalLM
from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer

from .places import load, naming_the_key
from .schema import LanguageModel


@dataclass(frozen=True)
class Family:
    """A family of language models.

    Args:
        config: The configuration of a plain model.
        plain: The class of a plain model, without visual tokens.
        visual: The class with visual tokens, which `from_language_model` makes of a plain model.
    """

    config: type[PreTrainedConfig]
    plain: type[PreTrainedModel]
    visual: type[PreTrainedModel]


FAMILIES = (Family(OPTConfig, OPTForCausalLM, SeedForCausalLM),)
_PLAIN = {family.config.model_type: family for family in FAMILIES}
_VISUAL = {family.visual.config_class.model_type: family for family in FAMILIES}


def plain_family(config: Mapping[str, Any]) -> Family:
    """The family of a plain language model.

    Args:
        config: Fields of its configuration; without a `model_type`, those of `OPTConfig`.

    Raises:
        ValueError: There is no such family.
    """
    model_type = config.get("model_type", OPTConfig.model_type)
    if model_type not in _PLAIN:
        raise ValueError(f"model.config: model_type must be one of {', '.join(_PLAIN)}; got {model_type!r}.")
    return _PLAIN[model_type]


def has_visual_tokens(model: PreTrainedModel) -> bool:
    """Whether a language model reads and writes visual tokens.

    Args:
        model: What [`open_language_model`] gives.
    """
    return model.config.model_type in _VISUAL


def open_language_model(section: LanguageModel, text_vocab_size: int) -> PreTrainedModel:
    """The language model of a recipe: a new one, a saved one, or a plain one that gets visual tokens.

    Args:
        section: `model:` of the recipe.
        text_vocab_size: Entries of the text tokenizer.

    Raises:
        FileNotFoundError: There is no such folder and no such repository.
        ValueError: A folder holds something else.
    """
    if section.config:
        family = plain_family(section.config)
        return family.plain(family.config(**{"vocab_size": text_vocab_size, **section.config}))
    key, source = "model.language_model", section.language_model
    assert source is not None  # a recipe has either this or `config`
    with naming_the_key(key):
        name, options = pretrained_arguments(source)
        with naming_the_source(source):
            model_type = PreTrainedConfig.get_config_dict(name, **options)[0].get("model_type")
    if model_type in _VISUAL:
        return load(_VISUAL[model_type].visual, source, key)
    if model_type not in _PLAIN:
        found = f"is a model of type {model_type!r}" if model_type else "has no config.json with a model_type"
        raise ValueError(
            f"{key}: {source} {found}. The lm stage trains {', '.join(_VISUAL)} (with visual tokens) and "
            f"{', '.join(_PLAIN)} (without)."
        )
    family = _PLAIN[model_type]
    if section.visual_tokenizer is None:
        return load(family.plain, source, key)
    visual = load(SeedTokenizer, section.visual_tokenizer, "model.visual_tokenizer")
    return family.visual.from_language_model(
        name,
        codebook_size=visual.config.codebook_size,
        num_query_tokens=visual.config.num_query_tokens,
        code_dim=visual.config.code_dim,
        visual_embedding=section.visual_embedding,
        codebook=visual.quantizer.embedding.weight.detach() if section.visual_embedding == "projected" else None,
        text_vocab_size=text_vocab_size,
        **options,
    )
