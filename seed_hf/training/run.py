"""`run_stage`: one training stage from one YAML file. It is what `seed-hf train` calls."""

import dataclasses
import json
import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any

import yaml


logger = logging.getLogger(__name__)
STAGES = ("contrastive", "quantization", "lm")


# ---- the sections of the YAML files ----


@dataclass
class TokenizerModel:
    """`model:` of stages I and II.

    Args:
        tokenizer: Folder of a saved `SeedTokenizer` to go on from. Either this or `config`.
        config: Fields of `SeedTokenizerConfig`; the weights begin random.
        image_processor: Folder of a `SeedImageProcessor`; by default one of the model's picture size.
        text_tokenizer: Folder of the text tokenizer: of the Q-Former in stage I, of `text_encoder` in stage II.
        text_encoder: Folder of the diffusion model's text encoder, whose features stage II matches.
    """

    tokenizer: str | None = None
    config: dict | None = None
    image_processor: str | None = None
    text_tokenizer: str | None = None
    text_encoder: str | None = None


@dataclass
class ImageTextData:
    """`data:` of stages I and II.

    Args:
        train: A Parquet file, or a folder: its `train*.parquet`, or else all its Parquet files.
        validation: The same, for evaluation (a folder's `validation*.parquet`).
        features: Instead of `train`, in stage II: the folder that `seed-hf cache-features` wrote, or a safetensors
            file with `causal_embeddings` (rows, 32, hidden) and maybe `target_embeddings`, one row per picture; no
            frozen network runs then. `validation` may be of the same kind.
        image_column, caption_column: A caption column may hold one text or a list, from which one is drawn.
        max_text_tokens: Where captions are cut; by default 32 in stage I, what the text encoder gives in stage II.
        augment: Random crops and flips, as published. Cached features have them already (`--views`).
    """

    train: str | None = None
    validation: str | None = None
    features: str | None = None
    image_column: str = "image"
    caption_column: str = "caption"
    max_text_tokens: int | None = None
    augment: bool = False


@dataclass
class LanguageModel:
    """`model:` of the language-model stage.

    Args:
        language_model: Folder of a `SeedForCausalLM`, or of a plain OPT. Either this or `config`.
        config: Fields of `OPTConfig`: a plain OPT with random weights, for pre-training on text.
        text_tokenizer: Folder of the text tokenizer; by default that of `language_model`.
        visual_tokenizer: Folder of the `SeedTokenizer` whose codes a plain OPT shall learn.
        visual_embedding: "learned" or "projected"; used when a plain OPT gets its visual vocabulary.
    """

    language_model: str | None = None
    config: dict | None = None
    text_tokenizer: str | None = None
    visual_tokenizer: str | None = None
    visual_embedding: str = "learned"


@dataclass
class SequenceData:
    """`data:` of the language-model stage.

    Args:
        train, validation: Parquet as in stages I and II, with the columns `codes` and `caption` or `captions`, and
            maybe `questions` (pairs of question and answer); or with the column `text`.
        caption_column: Read as `caption` if it holds one text, as `captions` if it holds a list.
        directions, caption_prompt, image_prompt, question_prompt, max_length: See `LanguageModelCollator`.
    """

    train: str
    validation: str | None = None
    caption_column: str = "caption"
    directions: dict | None = None
    caption_prompt: str | None = None
    image_prompt: str | None = None
    question_prompt: str | None = None
    max_length: int | None = None


def run_stage(stage: str, config_path: str | os.PathLike) -> Path:
    """Train one stage as a YAML file says, going on from the last whole checkpoint, and save what was trained.

    The file has three sections: `model:` and `data:` (see the classes above) and `trainer:`, the fields of
    `ContrastiveConfig`, `QuantizationConfig` or `LanguageModelConfig`, of which `output_dir` must be given. Paths are
    relative to the working directory. The trained model is saved into `output_dir`, its checkpoints are beside it.

    Args:
        stage: "contrastive" (stage I), "quantization" (stage II) or "lm".

    Returns:
        `output_dir`.

    Raises:
        ValueError: unknown stage or keys, values of the wrong type, combinations that make no sense.
        FileNotFoundError: a file or folder that the YAML names does not exist.
    """
    if stage not in STAGES:
        raise ValueError(f"stage must be one of {', '.join(STAGES)}, got {stage!r}.")
    path = Path(config_path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file. Give the YAML file of the {stage} stage.")
    try:
        recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(recipe, Mapping):
        raise ValueError(f"{path} must hold the sections model, data and trainer, got {type(recipe).__name__}.")
    if unknown := sorted(set(recipe) - {"model", "data", "trainer"}):
        raise ValueError(f"{path} has unknown sections {unknown}; allowed are model, data, trainer.")
    run = _run_language_model if stage == "lm" else _run_tokenizer
    return run(stage, *(recipe.get(name) or {} for name in ("model", "data", "trainer")))


# ---- the stages ----


def _run_tokenizer(stage: str, model: Mapping, data: Mapping, trainer: Mapping) -> Path:
    from transformers import AutoModel, AutoTokenizer, set_seed

    from seed_hf.data.cached_features import are_features, open_features
    from seed_hf.modeling.configuration_seed import SeedTokenizerConfig
    from seed_hf.modeling.image_processing_seed import SeedImageProcessor
    from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer

    from .collators import ImageTextCollator, random_crop_flip
    from .contrastive import ContrastiveConfig, ContrastiveTrainer
    from .quantization import QuantizationConfig, QuantizationTrainer

    model, data = section(TokenizerModel, "model", model), section(ImageTextData, "data", data)
    args = section(ContrastiveConfig if stage == "contrastive" else QuantizationConfig, "trainer", trainer)
    _one_of(model, "model", "tokenizer", "config")
    _one_of(data, "data", "train", "features")
    if data.features and data.augment:
        raise ValueError("data.augment changes pictures, not data.features: cache several views (--views) instead.")
    if stage == "contrastive" and (data.features or not model.text_tokenizer):
        raise ValueError("The contrastive stage needs data.train and model.text_tokenizer: it learns from captions.")
    if model.text_encoder and not model.text_tokenizer:
        raise ValueError("model.text_encoder needs model.text_tokenizer, which prepares the captions for it.")

    set_seed(args.seed)
    if model.tokenizer:
        tokenizer = SeedTokenizer.from_pretrained(_folder(model.tokenizer, "model.tokenizer"))
    else:
        tokenizer = SeedTokenizer(SeedTokenizerConfig(**model.config))
    config = tokenizer.config
    size = config.vision_config.image_size
    if model.image_processor:
        processor = SeedImageProcessor.from_pretrained(_folder(model.image_processor, "model.image_processor"))
    else:
        processor = SeedImageProcessor(size={"height": size, "width": size})
    encoder = None
    if model.text_encoder:
        encoder = AutoModel.from_pretrained(_folder(model.text_encoder, "model.text_encoder"))
    if stage == "quantization" and encoder is None and not data.features:
        logger.warning("Without model.text_encoder or cached features the generation embeddings have no target.")
    with_text = stage == "contrastive" or encoder is not None
    collator = ImageTextCollator(
        processor,
        AutoTokenizer.from_pretrained(_folder(model.text_tokenizer, "model.text_tokenizer")) if with_text else None,
        max_text_tokens=data.max_text_tokens or (32 if stage == "contrastive" else config.num_generation_tokens),
        padding="longest" if stage == "contrastive" else "max_length",
        augment=random_crop_flip if data.augment else None,
        seed=args.seed,
    )
    columns = {data.image_column: "image", **({data.caption_column: "caption"} if with_text else {})}
    if data.features:
        train = open_features(data.features, "data.features", tokenizer, processor)
    else:
        train = open_rows(data.train, "train", columns)
    validation = None
    if data.validation and stage == "quantization" and are_features(data.validation):
        validation = open_features(data.validation, "data.validation", tokenizer, processor)
    elif data.validation:
        validation = open_rows(data.validation, "validation", columns)
    common = {"data_collator": collator, "train_dataset": train, "eval_dataset": validation}
    if stage == "contrastive":
        return _train(ContrastiveTrainer(tokenizer, args, **common), lambda trainer: trainer.model, processor)
    trainer = QuantizationTrainer(tokenizer, args, target_encoder=encoder, **common)
    return _train(trainer, lambda trainer: trainer.model, processor)


def _run_language_model(stage: str, model: Mapping, data: Mapping, trainer: Mapping) -> Path:
    from transformers import AutoTokenizer, OPTConfig, OPTForCausalLM, set_seed

    from .language_model import LanguageModelConfig, LanguageModelTrainer
    from .language_model_collator import LanguageModelCollator

    model, data = section(LanguageModel, "model", model), section(SequenceData, "data", data)
    args = section(LanguageModelConfig, "trainer", trainer)
    _one_of(model, "model", "language_model", "config")
    text_folder = model.text_tokenizer or model.language_model
    if not text_folder:
        raise ValueError("model.config makes a language model without a tokenizer: give model.text_tokenizer.")
    text_tokenizer = AutoTokenizer.from_pretrained(_folder(text_folder, "model.text_tokenizer"))

    set_seed(args.seed)
    if model.config:
        if args.lora_r:
            raise ValueError("A language model with random weights has nothing for LoRA to adapt: set lora_r: 0.")
        language_model = OPTForCausalLM(OPTConfig(**{"vocab_size": len(text_tokenizer), **model.config}))
    else:
        language_model = _open_language_model(model)
    options = ("directions", "caption_prompt", "image_prompt", "question_prompt", "max_length")
    given = {name: getattr(data, name) for name in options if getattr(data, name) is not None}
    collator = LanguageModelCollator(text_tokenizer, language_model.config, seed=args.seed, **given)
    train = open_rows(data.train, "train")
    validation = open_rows(data.validation, "validation") if data.validation else None
    if "text" not in train.column_names:
        train, validation = (_with_caption(rows, data.caption_column) for rows in (train, validation))
        if language_model.config.model_type != "seed_text":
            raise ValueError("A plain OPT has no visual tokens: give model.visual_tokenizer, or data with `text`.")
    trainer = LanguageModelTrainer(
        language_model, args, data_collator=collator, train_dataset=train, eval_dataset=validation
    )
    return _train(trainer, lambda trainer: trainer.merge(), text_tokenizer)


def _open_language_model(model: LanguageModel):
    from transformers import OPTForCausalLM

    from seed_hf.modeling.modeling_seed import SeedForCausalLM
    from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer

    folder = _folder(model.language_model, "model.language_model")
    if json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type") == "seed_text":
        return SeedForCausalLM.from_pretrained(folder)
    if model.visual_tokenizer is None:
        return OPTForCausalLM.from_pretrained(folder)
    visual = SeedTokenizer.from_pretrained(_folder(model.visual_tokenizer, "model.visual_tokenizer"))
    return SeedForCausalLM.from_language_model(
        folder,
        codebook_size=visual.config.codebook_size,
        num_query_tokens=visual.config.num_query_tokens,
        code_dim=visual.config.code_dim,
        visual_embedding=model.visual_embedding,
        codebook=visual.quantizer.embedding.weight.detach() if model.visual_embedding == "projected" else None,
    )


def _train(trainer, finished, processor) -> Path:
    """Train, then save the finished model and its processor: written aside first, so that no file is half there."""
    output = Path(trainer.args.output_dir)
    trainer.train(resume_from_checkpoint=True)
    trainer.save_state()
    model = finished(trainer)
    if trainer.args.should_save:
        aside = output / "saving"
        shutil.rmtree(aside, ignore_errors=True)
        model.save_pretrained(aside)
        processor.save_pretrained(aside)
        for file in aside.iterdir():
            os.replace(file, output / file.name)
        aside.rmdir()
    return output


# ---- rows ----


def open_rows(path: str, split: str, columns: Mapping[str, str] | None = None):
    """A `datasets.Dataset` over Parquet files, held in memory; nothing is copied to the user's cache folder.

    Args:
        path: A Parquet file, or a folder: its files named after `split`, or else all its Parquet files.
        columns: The columns to read and what to call them. A `caption` column of lists is called `captions`.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq
    from datasets import Dataset, DatasetInfo, Features, Image

    source = Path(path)
    files = sorted(source.glob(f"{split}*.parquet")) or sorted(source.glob("*.parquet"))
    files = [source] if source.is_file() else files
    if not files:
        raise FileNotFoundError(f"data.{split}: {source} is not a Parquet file, nor a folder with Parquet files.")
    present = pq.read_schema(files[0]).names
    if missing := sorted(set(columns or ()) - set(present)):
        raise ValueError(f"data.{split}: {files[0]} has no column {', '.join(missing)}; it has {', '.join(present)}.")
    table = pa.concat_tables([pq.read_table(file, columns=list(columns) if columns else None) for file in files])
    rows = Dataset(table, info=DatasetInfo(features=Features.from_arrow_schema(table.schema)))
    rows = rows.rename_columns({old: new for old, new in (columns or {}).items() if old != new})
    if "image" in rows.column_names and not isinstance(rows.features["image"], Image):
        rows = rows.cast_column("image", Image())
    return _with_caption(rows, "caption") if "caption" in rows.column_names else rows


def _with_caption(rows, column: str):
    """Call `column` what the collators call it: `caption` for one text, `captions` for a list."""
    if rows is None:
        return None
    if column not in rows.column_names:
        if column == "caption" and "captions" in rows.column_names:
            return rows
        raise ValueError(f"The data has no column {column!r}; it has {', '.join(rows.column_names)}.")
    name = "caption" if getattr(rows.features[column], "dtype", None) in ("string", "large_string") else "captions"
    if name == column:
        return rows
    return (rows.remove_columns(name) if name in rows.column_names else rows).rename_column(column, name)


# ---- reading sections ----


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
    if value is None or annotation not in (bool, int, float, str):
        return value
    if annotation is float and isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            raise ValueError(f"{key} must be a number, got {value!r}.") from None
    allowed = {bool: bool, int: int, float: (int, float), str: str}[annotation]
    if not isinstance(value, allowed) or (isinstance(value, bool) and annotation is not bool):
        raise ValueError(f"{key} must be {annotation.__name__}, got {value!r}.")
    return value


def _one_of(values, name: str, first: str, second: str) -> None:
    if (getattr(values, first) is None) == (getattr(values, second) is None):
        raise ValueError(f"{name} needs either {first} or {second}, and not both.")


def _folder(path: str, key: str) -> Path:
    if not Path(path).is_dir():
        raise FileNotFoundError(f"{key}: the folder {path} does not exist.")
    return Path(path)
