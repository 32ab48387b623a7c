"""Reading the YAML file of a training stage: its sections, and every error that can be found before anything loads."""

import dataclasses
import inspect
import os
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass
from enum import Enum
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

import yaml


STAGES = ("contrastive", "quantization", "lm")


@dataclass
class TokenizerModel:
    """`model:` of stages I and II. Exactly one of the first four says where the weights begin.

    Whatever names a folder may also be the id of a Hub repository, and of a folder in it: `owner/name/text_encoder`.

    Args:
        tokenizer: Folder of a saved `SeedTokenizer` to go on from.
        config: Fields of `SeedTokenizerConfig`; the weights begin random.
        blip2: A `Blip2ForImageTextRetrieval`, where the paper's stage I begins.
        stage_one: What stage I trained, where stage II begins: the codebook and all after it are new.
        settings: With `blip2` and `stage_one`: other fields of `SeedTokenizerConfig`.
        image_processor: Folder of a `SeedImageProcessor`; by default one of the model's picture size.
        text_tokenizer: Folder of the text tokenizer: of the Q-Former in stage I, of `text_encoder` in stage II.
        text_encoder: Folder of the diffusion model's text encoder, whose features stage II matches.
        image_encoder: For `generation_target: image`, folder of unCLIP's image encoder (a
            `CLIPVisionModelWithProjection`), whose embedding stage II matches.
    """

    tokenizer: str | None = None
    config: dict | None = None
    blip2: str | None = None
    stage_one: str | None = None
    settings: dict | None = None
    image_processor: str | None = None
    text_tokenizer: str | None = None
    text_encoder: str | None = None
    image_encoder: str | None = None


@dataclass
class ImageTextData:
    """`data:` of stages I and II.

    Args:
        train: A Parquet file, or a folder: its `train*.parquet`, or else all its Parquet files. With `streaming`
            anything that `image_text_dataset` opens: also WebDataset tars, folders of pictures, Hub datasets.
        validation: The same, for evaluation (a folder's `validation*.parquet`).
        features: Instead of `train`, in stage II: the folder that `seed-hf cache-features` wrote, or a safetensors
            file with `causal_embeddings` (rows, 32, hidden) and maybe `target_embeddings`, one row per picture; no
            frozen network runs then. `validation` may be of the same kind.
        image_column, caption_column: A caption column may hold one text or a list, from which one is drawn.
        max_text_tokens: Where captions are cut; by default 32 in stage I, what the text encoder gives in stage II.
        augment: Random crops and flips, as published. Cached features have them already (`--views`).
        streaming: Read a few rows at a time instead of holding the encoded pictures in memory. The length of the run
            is then `trainer.max_steps`.
        shuffle_buffer: With `streaming`: rows held to draw from; 0 keeps the order of the source.
        on_error: With `streaming`: "raise" or "skip" (and count) missing and damaged pictures.
        min_side, max_aspect: With `streaming`: leave out small and long pictures; see `RowFilters`.
    """

    train: str | list | None = None
    validation: str | list | None = None
    features: str | None = None
    image_column: str | None = None
    caption_column: str | None = None
    max_text_tokens: int | None = None
    augment: bool = False
    streaming: bool = False
    shuffle_buffer: int | None = None
    on_error: str | None = None
    min_side: int | None = None
    max_aspect: float | None = None


@dataclass
class LanguageModel:
    """`model:` of the language-model stage. Folders may be Hub ids, as in stages I and II.

    Args:
        language_model: Folder of a `SeedForCausalLM`, or of a plain OPT. Either this or `config`.
        config: Fields of `OPTConfig`: a plain OPT with random weights, for pre-training on text.
        text_tokenizer: Folder of the text tokenizer; by default that of `language_model`.
        visual_tokenizer: Folder of the `SeedTokenizer` whose codes a plain OPT shall learn.
        visual_embedding: "learned" or "projected"; used when a plain OPT gets its visual vocabulary.
        attn_implementation: As in `from_pretrained`. By default the library's choice; but with `data.pack_length` a
            flash kernel, if one is installed and the training runs in half precision on a GPU.
    """

    language_model: str | None = None
    config: dict | None = None
    text_tokenizer: str | None = None
    visual_tokenizer: str | None = None
    visual_embedding: str = "learned"
    attn_implementation: str | None = None


@dataclass
class SequenceData:
    """`data:` of the language-model stage.

    Args:
        train, validation: Parquet as in stages I and II, with the columns `codes` and `caption` or `captions`, and
            maybe `questions` (pairs of question and answer); or with the column `text`.
        caption_column: Read as `caption` if it holds one text, as `captions` if it holds a list.
        directions, caption_prompt, image_prompt, question_prompt, max_length: See `LanguageModelCollator`.
        pack_length: Put several samples into each sequence of this many tokens: the same loss in less time. At least
            `max_length` (by default the positions of the language model). Left out, samples are padded.
    """

    train: str
    validation: str | None = None
    caption_column: str = "caption"
    directions: dict | None = None
    caption_prompt: str | None = None
    image_prompt: str | None = None
    question_prompt: str | None = None
    max_length: int | None = None
    pack_length: int | None = None


@dataclass
class Recipe:
    """One stage as its file has it: `model`, `data`, and the trainer's arguments."""

    stage: str
    model: TokenizerModel | LanguageModel
    data: ImageTextData | SequenceData
    trainer: Any


def read_recipe(stage: str, path: str | os.PathLike, changes: Sequence[str] = ()) -> Recipe:
    """Read and check a YAML file. No folder that it names is opened.

    Args:
        stage: "contrastive" (stage I), "quantization" (stage II) or "lm".
        changes: Values that replace those of the file: "trainer.max_steps=10", read as YAML.

    Raises:
        ValueError: unknown stage, sections or keys, values of the wrong type, combinations that make no sense.
        FileNotFoundError: there is no such file.
    """
    from seed_hf.training.contrastive import ContrastiveConfig
    from seed_hf.training.language_model import LanguageModelConfig
    from seed_hf.training.quantization import QuantizationConfig

    if stage not in STAGES:
        raise ValueError(f"stage must be one of {', '.join(STAGES)}, got {stage!r}.")
    parts = _read_sections(Path(path), stage)
    for change in changes:
        _apply(parts, change)
    classes = {
        "contrastive": (TokenizerModel, ImageTextData, ContrastiveConfig),
        "quantization": (TokenizerModel, ImageTextData, QuantizationConfig),
        "lm": (LanguageModel, SequenceData, LanguageModelConfig),
    }[stage]
    recipe = Recipe(stage, *(section(cls, name, parts[name]) for cls, name in zip(classes, parts)))
    (_check_language_model if stage == "lm" else _check_tokenizer)(recipe)
    return recipe


def _read_sections(path: Path, stage: str) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file. Give the YAML file of the {stage} stage.")
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(found, Mapping):
        raise ValueError(f"{path} must hold the sections model, data and trainer, got {type(found).__name__}.")
    if unknown := sorted(set(found) - {"model", "data", "trainer"}):
        raise ValueError(f"{path} has unknown sections {unknown}; allowed are model, data, trainer.")
    return {name: found.get(name) or {} for name in ("model", "data", "trainer")}


def _apply(parts: dict[str, Any], change: str) -> None:
    key, sign, value = change.partition("=")
    name, dot, field = key.partition(".")
    if not sign or not dot or name not in parts or not field:
        raise ValueError(f"A change must read section.key=value, for example trainer.max_steps=10; got {change!r}.")
    if isinstance(parts[name], Mapping):
        parts[name] = {**parts[name], field: yaml.safe_load(value)}


# ---- combinations ----


def _check_tokenizer(recipe: Recipe) -> None:
    from seed_hf.data.sources.filters import RowFilters
    from seed_hf.modeling.configuration_seed import SeedTokenizerConfig

    stage, model, data = recipe.stage, recipe.model, recipe.data
    _one_of(model, "model", "tokenizer", "config", "blip2", "stage_one")
    _one_of(data, "data", "train", "features")
    if model.blip2 and stage != "contrastive":
        raise ValueError("model.blip2 is where stage I begins. Stage II begins at model.stage_one.")
    if model.stage_one and stage != "quantization":
        raise ValueError("model.stage_one is where stage II begins. To go on with stage I give model.tokenizer.")
    if model.settings and not (model.blip2 or model.stage_one):
        raise ValueError("model.settings goes with model.blip2 or model.stage_one.")
    _known_fields(SeedTokenizerConfig, "model.config", model.config)
    _known_fields(SeedTokenizerConfig, "model.settings", model.settings)
    if data.features and data.augment:
        raise ValueError("data.augment changes pictures, not data.features: cache several views (--views) instead.")
    if stage == "contrastive" and (data.features or not model.text_tokenizer):
        raise ValueError("The contrastive stage needs data.train and model.text_tokenizer: it learns from captions.")
    if model.text_encoder and not model.text_tokenizer:
        raise ValueError("model.text_encoder needs model.text_tokenizer, which prepares the captions for it.")
    if model.image_encoder and (stage == "contrastive" or model.text_encoder):
        raise ValueError("model.image_encoder is stage II's, for the image target; the text target has text_encoder.")
    _choice("data.on_error", data.on_error, ("raise", "skip"))
    _positive("data.max_text_tokens", data.max_text_tokens)
    only_streaming = ("shuffle_buffer", "on_error", "min_side", "max_aspect")
    if data.streaming:
        if data.features:
            raise ValueError("data.streaming goes with data.train; data.features are read row by row anyway.")
        if recipe.trainer.max_steps <= 0:
            raise ValueError("data.streaming needs trainer.max_steps: a stream does not say how long it is.")
        if data.shuffle_buffer is not None and data.shuffle_buffer < 0:
            raise ValueError(f"data.shuffle_buffer must be 0 (no shuffling) or more rows, got {data.shuffle_buffer}.")
        RowFilters(min_side=data.min_side or 0, max_aspect=data.max_aspect)
    elif given := [name for name in only_streaming if getattr(data, name) is not None]:
        raise ValueError(f"data.{given[0]} goes with data.streaming: true.")
    elif isinstance(data.train, list) or isinstance(data.validation, list):
        raise ValueError("A list of sources goes with data.streaming: true.")


def _check_language_model(recipe: Recipe) -> None:
    from transformers import OPTConfig

    model, data = recipe.model, recipe.data
    _one_of(model, "model", "language_model", "config")
    _known_fields(OPTConfig, "model.config", model.config)
    _choice("model.visual_embedding", model.visual_embedding, ("learned", "projected"))
    for name in ("max_length", "pack_length"):
        _positive(f"data.{name}", getattr(data, name))
    if model.config and not model.text_tokenizer:
        raise ValueError("model.config makes a language model without a tokenizer: give model.text_tokenizer.")
    if model.config and recipe.trainer.lora_r:
        raise ValueError("A language model with random weights has nothing for LoRA to adapt: set lora_r: 0.")


def _one_of(values, name: str, *keys: str) -> None:
    if sum(getattr(values, key) is not None for key in keys) != 1:
        raise ValueError(f"{name} needs either {' or '.join(keys)}, and not several of them.")


def _positive(key: str, value: Any) -> None:
    if value is not None and value < 1:
        raise ValueError(f"{key} must be a positive whole number of tokens, got {value!r}.")


def _choice(key: str, value: Any, allowed: Sequence[str]) -> None:
    if value is not None and value not in allowed:
        raise ValueError(f"{key} must be one of {', '.join(allowed)}; got {value!r}.")


def _known_fields(cls, key: str, values: Mapping | None) -> None:
    """A config of transformers takes any keyword; here a misspelt one is an error."""
    fields = set(inspect.signature(cls.__init__).parameters) - {"self", "args", "kwargs"}
    if unknown := sorted(set(values or ()) - fields - set(cls().to_dict())):
        names = ", ".join(sorted(fields))
        raise ValueError(f"{key} has unknown keys: {', '.join(unknown)}. {cls.__name__} has {names}.")


# ---- sections ----


def section(cls, name: str, values: Mapping[str, Any]):
    """`cls(**values)`; unknown keys, missing keys and values of the wrong type are refused by name."""
    if not isinstance(values, Mapping):
        raise ValueError(f"The section {name} must be a mapping, got {type(values).__name__}.")
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}
    if unknown := sorted(set(values) - set(fields)):
        raise ValueError(f"{name} has unknown keys: {', '.join(unknown)}. Allowed keys: {', '.join(sorted(fields))}.")
    required = [f.name for f in fields.values() if f.default is MISSING and f.default_factory is MISSING]
    if "output_dir" in fields:
        required.append("output_dir")
    if missing := [key for key in required if values.get(key) is None]:
        raise ValueError(f"{name} lacks {', '.join(missing)}.")
    return cls(**{key: _typed(f"{name}.{key}", value, fields[key].type) for key, value in values.items()})


def _typed(key: str, value: Any, annotation) -> Any:
    """`value`, if it is what the field takes. YAML reads 3e-5 as text (it wants 3.0e-5); we read it as the number."""
    union = get_origin(annotation) in (Union, UnionType)
    kinds = [get_origin(kind) or kind for kind in (get_args(annotation) if union else (annotation,))]
    choices = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Enum)]
    if value is None:
        return value
    if choices:
        return _enumerated(key, value, choices[0], kinds)
    if not set(kinds) <= {bool, int, float, str, dict, list, type(None)}:
        return value  # the class itself has to say
    for kind in kinds:
        wanted = (int, float) if kind is float else kind
        if isinstance(value, wanted) and (kind is bool or not isinstance(value, bool)):
            return value
    if float in kinds and isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            raise ValueError(f"{key} must be a number, got {value!r}.") from None
    names = " or ".join(kind.__name__ for kind in kinds if kind is not type(None))
    raise ValueError(f"{key} must be {names}, got {value!r}.")


def _enumerated(key: str, value: Any, choice: type[Enum], kinds: list) -> Any:
    allowed = [member.value for member in choice]
    if value in allowed or isinstance(value, bool) and bool in kinds:
        return value
    raise ValueError(f"{key} must be one of {', '.join(map(str, allowed))}; got {value!r}.")
