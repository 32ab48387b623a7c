"""The language models that a recipe trains, of any family of `modeling_seed_text`."""

from collections.abc import Mapping
from typing import Any

from transformers import OPTConfig, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from seed_hf.artifacts.loading import naming_the_source, pretrained_arguments
from seed_hf.artifacts.origins import FIELD
from seed_hf.modeling.extension_seed import check_entries, use_tokens_of
from seed_hf.modeling.model_types_seed import read_config
from seed_hf.modeling.modeling_seed_text import LANGUAGE_MODELS, plain_language_models
from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer

from .places import load, naming_the_key
from .schema import LanguageModel


KEY = "model.language_model"


def plain_class(config: Mapping[str, Any]) -> type[PreTrainedModel]:
    """The class of a plain language model.

    Args:
        config: Fields of its configuration; without a `model_type`, those of `OPTConfig`.

    Raises:
        ValueError: There is no such family.
    """
    model_type, known = config.get("model_type", OPTConfig.model_type), plain_language_models()
    if model_type not in known:
        raise ValueError(f"model.config: model_type must be one of {', '.join(known)}; got {model_type!r}.")
    return known[model_type].family.plain


def has_visual_tokens(model: PreTrainedModel) -> bool:
    """Whether a language model reads and writes visual tokens.

    Args:
        model: What [`open_language_model`] gives.
    """
    return model.config.model_type in LANGUAGE_MODELS


def set_format(section: LanguageModel, model: PreTrainedModel) -> PreTrainedModel:
    """The language model with the prompt format that a recipe says.

    Args:
        section: `model:` of the recipe.
        model: With or without weights.

    Raises:
        ValueError: It has no visual tokens, so it has no format either.
    """
    if section.prompt_format is not None:
        if not has_visual_tokens(model):
            raise ValueError("model.prompt_format is not used: a plain language model has no prompts with images.")
        model.config.prompt_format = section.prompt_format
    return model


def open_language_model(section: LanguageModel, text_tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """The language model of a recipe: a new one, a saved one, or a plain one that gets visual tokens.

    Args:
        section: `model:` of the recipe.
        text_tokenizer: Writes its sequences.

    Raises:
        FileNotFoundError: There is no such folder and no such repository.
        ValueError: A folder holds something else.
    """
    if section.config:
        plain = plain_class(section.config)
        config = plain.config_class(**{"vocab_size": len(text_tokenizer), **section.config})
        check_entries(len(text_tokenizer), config.vocab_size)
        return plain(config)
    source, model_type = named_model(section)
    if model_type in LANGUAGE_MODELS:
        return load(LANGUAGE_MODELS[model_type], source, KEY)
    extender = plain_language_models()[model_type]
    if section.visual_tokenizer is None:
        language_model = load(extender.family.plain, source, KEY)
        check_entries(len(text_tokenizer), language_model.config.vocab_size)
        return language_model
    name, options = pretrained_arguments(source)
    visual = load(SeedTokenizer, section.visual_tokenizer, "model.visual_tokenizer")
    model = extender.from_language_model(
        name,
        codebook_size=visual.config.codebook_size,
        num_query_tokens=visual.config.num_query_tokens,
        code_dim=visual.config.code_dim,
        visual_embedding=section.visual_embedding,
        codebook=visual.quantizer.embedding.weight.detach() if section.visual_embedding == "projected" else None,
        text_vocab_size=len(text_tokenizer),
        **options,
    )
    use_tokens_of(model, text_tokenizer)
    if section.visual_embedding == "projected" and (origin := getattr(visual.config, FIELD, None)):
        setattr(model.config, FIELD, origin)  # it holds the codebook
    return model


def named_model(section: LanguageModel) -> tuple[str, str]:
    """Folder or Hub id of the language model that a recipe names, and its `model_type`.

    Args:
        section: `model:` of the recipe, with a `language_model`.

    Raises:
        FileNotFoundError: There is no such folder and no such repository.
        ValueError: The stage does not train what is there, or would not use some of the settings.
    """
    source = section.language_model
    assert source is not None  # a recipe has either this or `config`
    with naming_the_key(KEY):
        name, options = pretrained_arguments(source)
        with naming_the_source(source):
            values = read_config(PreTrainedConfig, name, **options)
    model_type = values.get("model_type")
    visual, plain = LANGUAGE_MODELS, plain_language_models()
    if model_type not in (*visual, *plain):
        found = f"is a model of type {model_type!r}" if model_type else "has no config.json with a model_type"
        raise ValueError(
            f"model.language_model: {source} {found}. The stages lm and instruct train {', '.join(visual)} "
            f"(with visual tokens) and {', '.join(plain)} (without)."
        )
    if model_type in visual and section.visual_tokenizer is not None:
        raise ValueError(f"model.visual_tokenizer is not used: {source} has visual tokens already. Leave it out.")
    if section.visual_embedding == "projected":
        if model_type in visual and (there := values.get("visual_embedding", "learned")) != "projected":
            raise ValueError(f"model.visual_embedding is not used: {source} has visual tokens already, {there} ones.")
        if model_type in plain and section.visual_tokenizer is None:
            raise ValueError("model.visual_embedding needs model.visual_tokenizer, whose codes are embedded.")
    return source, model_type
