"""The models of a recipe with shapes and number types and without weights: on torch's meta device, in no memory."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    Blip2Config,
    Blip2ForImageTextRetrieval,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    PreTrainedConfig,
    PreTrainedModel,
)

from seed_hf.artifacts.loading import naming_the_source, pretrained_arguments, snapshot_of
from seed_hf.modeling.configuration_seed import SeedTokenizerConfig
from seed_hf.modeling.extension_seed import check_entries, check_special_tokens, extended_config
from seed_hf.modeling.model_types_seed import check_model_type, read_config
from seed_hf.modeling.modeling_seed_text import LANGUAGE_MODELS, plain_language_models
from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer

from .language_models import KEY, named_model, plain_class
from .places import naming_the_key
from .schema import LanguageModel, TokenizerModel


def bare_tokenizer(model: TokenizerModel) -> SeedTokenizer:
    """The visual tokenizer that a recipe trains.

    Args:
        model: `model:` of stage I or II.

    Raises:
        FileNotFoundError: There is no such folder and no such repository.
        ValueError: It holds another model or no weights, or the settings do not fit.
    """
    settings = model.settings or {}
    with torch.device("meta"):
        if model.config:
            return SeedTokenizer(SeedTokenizerConfig(**model.config))
        if model.tokenizer:
            return _bare(SeedTokenizer, SeedTokenizerConfig, model.tokenizer, "model.tokenizer")
        if model.blip2:
            blip2 = _bare(Blip2ForImageTextRetrieval, Blip2Config, model.blip2, "model.blip2")
            return SeedTokenizer.from_blip2(blip2, **settings)
        stage_one = _bare(SeedTokenizer, SeedTokenizerConfig, model.stage_one, "model.stage_one")
        return SeedTokenizer.from_stage_one(stage_one, **settings)


def bare_encoder(model: TokenizerModel) -> nn.Module | None:
    """The frozen encoder of the targets of stage II, if the recipe names one.

    Args:
        model: `model:` of stage I or II.

    Raises:
        FileNotFoundError, ValueError: As [`bare_tokenizer`].
    """
    if model.image_encoder:
        return _bare(CLIPVisionModelWithProjection, CLIPVisionConfig, model.image_encoder, "model.image_encoder")
    if model.text_encoder is None:
        return None
    with naming_the_key("model.text_encoder"):
        name, where = pretrained_arguments(model.text_encoder)
        with naming_the_source(model.text_encoder), torch.device("meta"):
            config = AutoConfig.from_pretrained(name, trust_remote_code=False, **where)
            encoder = AutoModel.from_config(config, dtype=_number_type(config), trust_remote_code=False)
        _check_weights(model.text_encoder)
    return encoder


def bare_language_model(section: LanguageModel, text_vocab_size: int) -> PreTrainedModel:
    """The language model that a recipe trains, before LoRA.

    Args:
        section: `model:` of the recipe.
        text_vocab_size: Entries of the text tokenizer.

    Raises:
        FileNotFoundError, ValueError: As [`bare_tokenizer`].
    """
    with torch.device("meta"):
        if section.config:
            plain = plain_class(section.config)
            model = plain(plain.config_class(**{"vocab_size": text_vocab_size, **section.config}))
            check_entries(text_vocab_size, model.config.vocab_size)
            return model
        source, model_type = named_model(section)
        if model_type in LANGUAGE_MODELS:
            visual = LANGUAGE_MODELS[model_type]
            return _bare(visual, visual.config_class, source, KEY)
        extender = plain_language_models()[model_type]
        plain = _bare(extender.family.plain, extender.family.plain.config_class, source, KEY)
        check_entries(text_vocab_size, plain.config.vocab_size)
        if section.visual_tokenizer is None:
            return plain
        check_special_tokens(plain.config, text_vocab_size)
        tokenizer = bare_visual_tokenizer(section.visual_tokenizer, "model.visual_tokenizer")
        config = extended_config(
            extender,
            plain.config,
            text_vocab_size=text_vocab_size,
            codebook_size=tokenizer.config.codebook_size,
            num_query_tokens=tokenizer.config.num_query_tokens,
            code_dim=tokenizer.config.code_dim,
            visual_embedding=section.visual_embedding,
        )
        return extender._from_config(config, dtype=plain.dtype)


def bare_visual_tokenizer(source: str, key: str) -> SeedTokenizer:
    """A visual tokenizer that a recipe of a language model names.

    Args:
        source: Folder or Hub id.
        key: Of the recipe.

    Raises:
        FileNotFoundError, ValueError: As [`bare_tokenizer`].
    """
    return _bare(SeedTokenizer, SeedTokenizerConfig, source, key)


def _bare(cls: Any, config_class: Any, source: str | None, key: str) -> Any:
    with naming_the_key(key):
        if source is None:
            raise ValueError("is missing: give a folder, or the id of a Hub repository (owner/name).")
        name, where = pretrained_arguments(source)
        with naming_the_source(source):
            check_model_type(read_config(PreTrainedConfig, name, **where), config_class, source)
            config = config_class.from_pretrained(name, **where)
            with torch.device("meta"):
                model = cls._from_config(config, dtype=_number_type(config))
        _check_weights(source)
    return model


def _number_type(config: PreTrainedConfig) -> torch.dtype:
    found = getattr(config, "dtype", None) or torch.float32
    return getattr(torch, found) if isinstance(found, str) else found


def _check_weights(source: str) -> None:
    folder, commit = snapshot_of(source)
    if commit is None and not any((*folder.glob("*.safetensors"), *folder.glob("*.bin"))):
        raise ValueError(f"{source}: there are no weights in this folder (*.safetensors).")
