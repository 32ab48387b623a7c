"""From a YAML file to a checked [`Recipe`]. Whatever can be wrong in the file is found before anything is loaded."""

import dataclasses
import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from seed_hf.yaml_text import parse_yaml, read_yaml

from .run_options import check_run
from .schema import (
    STAGES,
    ImageTextData,
    LanguageModel,
    LanguageModelRecipe,
    Recipe,
    SequenceData,
    TokenizerModel,
    TokenizerRecipe,
)
from .sections import read_section


SECTIONS = ("model", "data", "trainer")


@dataclass(frozen=True)
class _Stage:
    """The class of each section, and the check of what they say together."""

    model: type
    data: type
    trainer: type
    trainer_class: type
    check: Callable[[Recipe], None]


def read_recipe(stage: str, path: str | os.PathLike, changes: Sequence[str] = ()) -> Recipe:
    """Read and check a YAML file. The folders that it names are not opened.

    Args:
        stage: "contrastive" (stage I), "quantization" (stage II), "lm" or "instruct".
        path: The YAML file.
        changes: Values that replace those of the file, in YAML: "trainer.max_steps=10",
            "model.settings.codebook_size=64".

    Raises:
        ValueError: The stage, a section or a key is unknown, a value has a wrong type, or values exclude each other.
        FileNotFoundError: There is no such file.
    """
    if stage not in STAGES:
        raise ValueError(f"stage must be one of {', '.join(STAGES)}, got {stage!r}.")
    sections = _read_sections(Path(path), stage)
    wanted = _stage(stage)
    for change in changes:
        _apply(sections, change, vars(wanted))
    recipe = Recipe(stage, *(read_section(getattr(wanted, name), name, sections[name]) for name in SECTIONS))
    wanted.check(recipe)
    check_run(recipe, wanted.trainer_class)
    return recipe


def _stage(stage: str) -> _Stage:
    from seed_hf.training.contrastive import ContrastiveConfig, ContrastiveTrainer
    from seed_hf.training.instruction import InstructionConfig, InstructionTrainer
    from seed_hf.training.language_model import LanguageModelConfig, LanguageModelTrainer
    from seed_hf.training.quantization import QuantizationConfig, QuantizationTrainer

    if stage == "lm":
        return _Stage(LanguageModel, SequenceData, LanguageModelConfig, LanguageModelTrainer, _check_language_model)
    if stage == "instruct":
        return _Stage(LanguageModel, SequenceData, InstructionConfig, InstructionTrainer, _check_language_model)
    if stage == "contrastive":
        return _Stage(TokenizerModel, ImageTextData, ContrastiveConfig, ContrastiveTrainer, _check_tokenizer)
    return _Stage(TokenizerModel, ImageTextData, QuantizationConfig, QuantizationTrainer, _check_tokenizer)


def _read_sections(path: Path, stage: str) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file. Give the YAML file of the {stage} stage.")
    found = read_yaml(path)
    if not isinstance(found, Mapping):
        raise ValueError(f"{path} must hold the sections {', '.join(SECTIONS)}; got {type(found).__name__}.")
    if unknown := sorted(set(found) - set(SECTIONS)):
        raise ValueError(f"{path} has unknown sections {unknown}; allowed are {', '.join(SECTIONS)}.")
    return {name: found.get(name) or {} for name in SECTIONS}


def _apply(sections: dict[str, Any], change: str, classes: Mapping[str, type]) -> None:
    """Replace one value. Every name on the way to it must be a field that holds names, or be in such a field."""
    path, sign, text = change.partition("=")
    section, *names = path.split(".")
    if not sign or section not in sections or not names or not all(names):
        raise ValueError(
            "A change must read section.key=value, for example trainer.max_steps=10 or "
            f"model.settings.codebook_size=64; got {change!r}."
        )
    try:
        value = parse_yaml(text)
    except ValueError as error:
        raise ValueError(f"{path}: {text[:60]!r} cannot be read: {error}") from error
    if not isinstance(sections[section], Mapping):
        return  # `read_section` refuses it
    sections[section] = here = dict(sections[section])
    if len(names) > 1:
        fields = {field.name: field for field in dataclasses.fields(classes[section])}
        field = fields.get(names[0])
        if field is not None and dict not in (field.type, *get_args(field.type)):
            raise ValueError(f"{section}.{names[0]} holds one value, so there is no {path}.")
    for depth, name in enumerate(names[:-1], 1):
        inner = here.get(name)
        if inner is not None and not isinstance(inner, Mapping):
            raise ValueError(f"{'.'.join((section, *names[:depth]))} is {inner!r}, so there is no {path}.")
        here[name] = here = dict(inner or {})  # a copy: the file may use one mapping twice
    here[names[-1]] = value


# ---- what the values of a recipe may be together ----


def _check_tokenizer(recipe: TokenizerRecipe) -> None:
    from seed_hf.modeling.configuration_seed import SeedTokenizerConfig

    stage, model, data = recipe.stage, recipe.model, recipe.data
    _exactly_one(model, "model", "tokenizer", "config", "blip2", "stage_one")
    _exactly_one(data, "data", "train", "features")
    if model.blip2 and stage != "contrastive":
        raise ValueError("model.blip2 is where stage I begins. Stage II begins at model.stage_one.")
    if model.stage_one and stage != "quantization":
        raise ValueError("model.stage_one is where stage II begins. To go on with stage I, give model.tokenizer.")
    if model.settings and not (model.blip2 or model.stage_one):
        raise ValueError("model.settings goes with model.blip2 or model.stage_one.")
    _check_fields(SeedTokenizerConfig, "model.config", model.config)
    _check_fields(SeedTokenizerConfig, "model.settings", model.settings)
    if stage == "contrastive" and (data.features or not model.text_tokenizer):
        raise ValueError("The contrastive stage learns from captions: it needs data.train and model.text_tokenizer.")
    if model.text_encoder and not model.text_tokenizer:
        raise ValueError("model.text_encoder needs model.text_tokenizer, which prepares the captions for it.")
    if model.image_encoder and (stage == "contrastive" or model.text_encoder):
        raise ValueError(
            "model.image_encoder is for stage II with the image target. For the text target, give model.text_encoder."
        )
    _check_images(recipe)
    _check_unused(recipe)


def _check_unused(recipe: TokenizerRecipe) -> None:
    """Refuse settings that nothing would read."""
    from seed_hf.data.features.cached import are_features

    model, data = recipe.model, recipe.data
    held_out = data.validation
    if data.features and (held_out is None or isinstance(held_out, str) and are_features(held_out)):
        unused = {
            f"data.{name}": getattr(data, name) for name in ("image_column", "caption_column", "max_text_tokens")
        }
        unused |= {f"model.{name}": getattr(model, name) for name in ("text_encoder", "image_encoder")}
        reason = "data.features hold their own targets, and neither images nor captions"
    elif recipe.stage == "quantization" and not (
        model.text_encoder or (recipe.trainer.train_qformer and model.text_tokenizer)
    ):
        unused = {f"data.{name}": getattr(data, name) for name in ("caption_column", "max_text_tokens")}
        unused["model.text_tokenizer"] = model.text_tokenizer
        reason = (
            "stage II reads captions only for model.text_encoder, or trainer.train_qformer with model.text_tokenizer"
        )
    else:
        unused, reason = {}, ""
    if given := [name for name, value in unused.items() if value is not None]:
        raise ValueError(f"{given[0]} is not used: {reason}.")
    if data.streaming and recipe.trainer.train_sampling_strategy != "random":
        raise ValueError(
            "trainer.train_sampling_strategy does not order a stream. data.shuffle_buffer: 0 keeps its order."
        )


def _check_images(recipe: TokenizerRecipe) -> None:
    from seed_hf.data.sources.filters import RowFilters

    data = recipe.data
    _check_choice("data.on_error", data.on_error, ("raise", "skip"))
    _check_positive("data.max_text_tokens", data.max_text_tokens)
    if data.features and data.augment:
        raise ValueError("data.augment changes images, not data.features: cache several views (--views) instead.")
    RowFilters(min_side=data.min_side or 0, max_aspect=data.max_aspect)
    if data.streaming:
        if data.features:
            raise ValueError("data.streaming goes with data.train; data.features are read row by row anyway.")
        if recipe.trainer.max_steps <= 0:
            raise ValueError(
                "data.streaming needs trainer.max_steps: a stream has no length, so num_train_epochs does not end it."
            )
        if data.shuffle_buffer is not None and data.shuffle_buffer < 0:
            raise ValueError(f"data.shuffle_buffer must be 0 (no shuffling) or more rows, got {data.shuffle_buffer}.")
    elif data.shuffle_buffer is not None:
        raise ValueError("data.shuffle_buffer goes with data.streaming: true.")
    elif isinstance(data.train, list) or isinstance(data.validation, list):
        raise ValueError("A list of sources goes with data.streaming: true.")


def _check_language_model(recipe: LanguageModelRecipe) -> None:
    from seed_hf.data.batches.language_model import CUTS, LOSSES
    from seed_hf.modeling.prompts_seed import FORMATS

    from .language_models import plain_class
    from .mixture import entries_of

    model, data = recipe.model, recipe.data
    for split in ("train", "validation"):
        if getattr(data, split) is not None:
            entries_of(getattr(data, split), f"data.{split}")
    _check_choice("data.on_error", data.on_error, ("raise", "skip"))
    _check_choice("data.loss_on", data.loss_on, LOSSES)
    _check_choice("data.cut", data.cut, CUTS)
    unused = ("requests",) if recipe.stage == "lm" else ("caption_prompt", "image_prompt", "question_prompt")
    if given := [name for name in unused if getattr(data, name) is not None]:
        raise ValueError(f"data.{given[0]} is not used: {_UNUSED[recipe.stage]}.")
    _exactly_one(model, "model", "language_model", "config")
    if model.config:
        _check_fields(plain_class(model.config).config_class, "model.config", model.config)
    _check_choice("model.prompt_format", model.prompt_format, tuple(FORMATS))
    _check_choice("model.visual_embedding", model.visual_embedding, ("learned", "projected"))
    for name in ("max_length", "pack_length"):
        _check_positive(f"data.{name}", getattr(data, name))
    if model.config and not model.text_tokenizer:
        raise ValueError("model.config makes a language model without a tokenizer: give model.text_tokenizer.")
    if model.image_tokenizer and model.visual_tokenizer:
        raise ValueError("model.image_tokenizer is not used: model.visual_tokenizer encodes the images of the data.")
    if model.image_tokenizer and model.config:
        raise ValueError("model.image_tokenizer is not used: model.config makes a language model for text alone.")
    if model.visual_tokenizer and not model.language_model:
        raise ValueError("model.visual_tokenizer is not used: model.config makes a language model for text alone.")
    if model.visual_embedding == "projected" and model.config:
        raise ValueError("model.visual_embedding is not used: model.config makes a language model for text alone.")
    if model.config and recipe.trainer.lora_r:
        raise ValueError("LoRA has nothing to adapt in a language model with random weights: set lora_r: 0.")


_UNUSED = {
    "lm": "the stage lm has prompts (caption_prompt ...); requests are of the stage instruct",
    "instruct": "in a conversation the turn says what is asked; data.requests words images with captions",
}


def _exactly_one(section, name: str, *keys: str) -> None:
    given = [key for key in keys if getattr(section, key) is not None]
    if len(given) != 1:
        raise ValueError(f"{name} needs exactly one of {', '.join(keys)}; got {', '.join(given) or 'none'}.")


def _check_positive(key: str, value: int | None) -> None:
    if value is not None and value < 1:
        raise ValueError(f"{key} must be a positive whole number of tokens, got {value!r}.")


def _check_choice(key: str, value: str | None, allowed: Sequence[str]) -> None:
    if value is not None and value not in allowed:
        raise ValueError(f"{key} must be one of {', '.join(allowed)}; got {value!r}.")


def _check_fields(cls: type, key: str, values: Mapping | None) -> None:
    """A configuration of transformers takes any keyword; here a misspelt one is an error, at any depth."""
    fields = set(inspect.signature(cls).parameters) - {"self", "args", "kwargs"}
    _check_names(key, values or {}, cls().to_dict(), fields, cls.__name__)


def _check_names(key: str, values: Mapping, known: Mapping, fields: set[str], owner: str) -> None:
    if unknown := sorted(map(str, set(values) - fields - set(known))):
        names = ", ".join(sorted(fields or known))
        raise ValueError(f"{key} has unknown keys: {', '.join(unknown)}. {owner} has {names}.")
    for name, value in values.items():
        inner = known.get(name)
        if not isinstance(inner, Mapping) or "model_type" not in inner:  # no configuration in the configuration
            continue
        if not isinstance(value, Mapping):
            raise ValueError(f"{key}.{name} must be a mapping of settings, got {value!r}.")
        _check_names(f"{key}.{name}", value, inner, set(), name)
