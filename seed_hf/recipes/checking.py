"""`check_recipe`: what a run would find, without loading weights and without training."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import Trainer, TrainingArguments

from seed_hf.artifacts.bundled import bundled_names
from seed_hf.artifacts.loading import locate, snapshot_of
from seed_hf.data.batches.packing import check_attention
from seed_hf.data.features.cached import CachedFeatures, FeatureFile, are_features
from seed_hf.data.sources.sequence_rows import Encode
from seed_hf.data.sources.source import open_source
from seed_hf.devices import has_native_bf16
from seed_hf.modeling.configuration_seed import SeedTokenizerConfig
from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer
from seed_hf.training.precision import widen_trained
from seed_hf.training.quantization import check_cached, check_texts

from .bare_models import bare_encoder, bare_language_model, bare_tokenizer, bare_visual_tokenizer
from .identity import run_identity
from .image_codes import check_codebook, named_tokenizer
from .language_model_stage import attention_of, open_sequences, sequence_collator
from .language_models import set_format
from .places import load_words, naming_the_key
from .plan import Plan, steps_of
from .run_record import RunRecord
from .schema import LANGUAGE_STAGES, Recipe
from .tokenizer_stages import (
    check_captions,
    check_filters,
    check_target,
    check_text_tower,
    collator_of,
    is_streamed,
    open_images,
    open_processor,
    reads_captions,
)


def check_recipe(recipe: Recipe) -> Plan:
    """Open everything that a recipe names, except for weights, and count what would run.

    Data that a run holds in memory is read as the run reads it. Of streams the first file is looked at. Models are
    built without weights, and nothing is written.

    Args:
        recipe: What `read_recipe` gives.

    Raises:
        ValueError: One line for each thing that would end the run.
    """
    plan, problems = Plan(), []
    args = recipe.trainer
    plan.optimizer, plan.device = str(getattr(args.optim, "value", args.optim)), str(args.device)

    @contextmanager
    def noting() -> Iterator[None]:
        try:
            yield
        except (ValueError, TypeError, OSError, ImportError) as error:
            problems.append(" ".join(str(error).split()))

    check = _check_language_model if recipe.stage in LANGUAGE_STAGES else _check_tokenizer
    check(recipe, plan, noting)
    with noting():
        _check_folder(Path(args.output_dir))
    with noting():
        _check_watching(args.watch_pipeline)
    if not problems:
        with noting():
            plan.steps = steps_of(args, plan.rows.get("train"))
            plan.batch = args.train_batch_size * args.world_size * args.gradient_accumulation_steps
        with noting():
            plan.folder = _state(recipe)
    if problems:
        raise ValueError("\n".join(dict.fromkeys(problems)))
    if recipe.data.validation is not None and "validation" in plan.rows and args.eval_strategy == "no":
        plan.notes.append("data.validation is not read: trainer.eval_strategy is no")
    return plan


Noting = Callable[[], Any]


def _check_tokenizer(recipe: Recipe, plan: Plan, noting: Noting) -> None:
    model = encoder = None
    args = recipe.trainer
    with noting():
        model = bare_tokenizer(recipe.model)
        plan.model = type(model).__name__
        check_text_tower(recipe, model.config)
        model.freeze_for(recipe.stage, getattr(args, "train_qformer", False))
        check_target(recipe.model, model.config.generation_target)
        check_captions(recipe, model.config)
        check_filters(recipe)
    with noting():
        encoder = bare_encoder(recipe.model)
        if encoder is not None:
            encoder.requires_grad_(False)
    if model is not None:
        plan.count(*(part and _as_trained(part, args) for part in (model, encoder)))
        with noting():
            Trainer.get_optimizer_cls_and_kwargs(args, model)
        with noting():
            processor = open_processor(recipe.model, model.config)
            collator_of(recipe, model.config, processor, encoder)
            if getattr(args, "train_qformer", False):
                check_texts(model, encoder)
        if recipe.stage == "quantization" and encoder is None and not recipe.data.features:
            plan.notes.append(
                f"the generation embeddings have no target without model.{model.config.generation_target}_encoder"
            )
    elif reads_captions(recipe):
        with noting():
            load_words(recipe.model.text_tokenizer, "model.text_tokenizer")
    for split in ("train", "validation"):
        with noting():
            _count_images(recipe, split, plan, model)
    if model is not None:
        with noting():
            _check_start(recipe, plan, model)


def _check_shapes(row: dict[str, torch.Tensor], config: SeedTokenizerConfig) -> None:
    """Whether cached features are of a model's sizes. That they are of its weights is found when the run begins."""
    target: tuple[int, ...] = (config.generation_dim,)
    if config.generation_target == "text":
        target = (config.num_generation_tokens, config.generation_dim)
    wanted = {
        "causal_embeddings": (config.num_query_tokens, config.qformer_config.hidden_size),
        "target_embeddings": target,
    }
    for name, shape in wanted.items():
        if name in row and tuple(row[name].shape) != shape:
            raise ValueError(f"holds {name} of {tuple(row[name].shape)} a row, but the model makes {shape}.")


def _check_start(recipe: Recipe, plan: Plan, model: SeedTokenizer) -> None:
    """Whether there are enough outputs of the encoder for the centres of a codebook that k-means starts."""
    args, rows = recipe.trainer, plan.rows.get("train")
    if recipe.stage == "quantization" and args.codebook_init == "kmeans" and rows is not None:
        images = min(rows, args.kmeans_batches * args.per_device_train_batch_size * args.world_size)
        outputs, centres = images * model.config.num_query_tokens, model.config.codebook_size
        if outputs < centres:
            raise ValueError(
                f"trainer.codebook_init: kmeans finds {outputs} outputs of the encoder (trainer.kmeans_batches), but "
                f"the codebook has {centres} codes."
            )


def _count_images(recipe: Recipe, split: str, plan: Plan, model: SeedTokenizer | None) -> None:
    data = recipe.data
    key = "features" if split == "train" and data.features else split
    source = getattr(data, key)
    if source is None:
        return
    if key == "features" or recipe.stage == "quantization" and isinstance(source, str) and are_features(source):
        with naming_the_key(f"data.{key}"):
            if not Path(source).exists():
                raise FileNotFoundError(f"{source} does not exist.")
            features = FeatureFile(source) if Path(source).is_file() else CachedFeatures(source)
            plan.rows[split] = len(features)
            if model is not None and len(features):
                _check_shapes(features[0], model.config)
            if getattr(recipe.trainer, "train_qformer", False):
                check_cached(features)
    elif is_streamed(recipe, split):
        named = {"image_column": data.image_column, "caption_column": data.caption_column}
        with naming_the_key(f"data.{split}"):
            opened = open_source(source, split=split, captions=reads_captions(recipe), **named)
            parts = range(len(opened))
            if opened.format == "imagefolder":
                images = [row.image for part in parts for row in opened.rows(part)]
                gone = [image for image in images if isinstance(image, str) and not os.path.isfile(image)]
                if gone and data.on_error != "skip":
                    raise FileNotFoundError(
                        f"{gone[0]}: no such file, of {len(gone)} that the metadata name. data.on_error: skip leaves "
                        "such rows out."
                    )
                plan.rows[split] = len(images) - len(gone)
            else:
                lengths = [opened.length(part) for part in parts]
                plan.rows[split] = None if None in lengths else sum(length or 0 for length in lengths)
    else:
        rows = open_images(recipe, split)
        plan.rows[split] = len(rows)
        plan.data += rows.data.nbytes


def _check_language_model(recipe: Recipe, plan: Plan, noting: Noting) -> None:
    section, args = recipe.model, recipe.trainer
    model = words = collator = encode = None
    with noting():
        key = "text_tokenizer" if section.text_tokenizer else "language_model"
        words = load_words(getattr(section, key), f"model.{key}")
    with noting():
        model = set_format(section, bare_language_model(section, len(words or ()) or 1))
        plan.model = type(model).__name__
    if model is not None and words:
        with noting():
            if attention := attention_of(recipe):
                model.set_attn_implementation(attention)
            if recipe.data.pack_length:
                check_attention(model.config._attn_implementation)
        with noting():
            collator = sequence_collator(recipe, words, model.config)
        with noting():
            trained = model
            if args.lora_r:
                from seed_hf.training.lora import add_lora

                with torch.device("meta"):
                    trained = add_lora(model, **args.lora_options)
            plan.count(_as_trained(trained, args))
            Trainer.get_optimizer_cls_and_kwargs(args, trained)
    if named := named_tokenizer(recipe):
        with noting():
            encode = _stand_in_codes(*named, model)
    for split in ("train", "validation"):
        if getattr(recipe.data, split) is not None and (encode or not named):
            with noting():
                rows = open_sequences(recipe, split, model, collator, encode)
                plan.rows[split] = len(rows)
                plan.data += rows.data.nbytes


def _stand_in_codes(key: str, source: str, model: nn.Module | None) -> Encode:
    """Codes of the right number for every image, which is read as the run reads it."""
    tokenizer = bare_visual_tokenizer(source, key)
    if model is not None:
        with naming_the_key(key):
            check_codebook(tokenizer.config, model.config)
    return lambda images: [[0] * tokenizer.config.num_query_tokens for _ in images]


def _as_trained(model: nn.Module, args: TrainingArguments) -> nn.Module:
    """A run widens weights that it trains, and on a CPU those for which that has no hardware."""
    slow = {torch.float16} if has_native_bf16() else {torch.float16, torch.bfloat16}
    if args.device.type == "cpu" and slow & {weight.dtype for weight in model.parameters()}:
        model.float()
    widen_trained(model, args.mixed_precision)
    return model


def _check_folder(folder: Path) -> None:
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    if not place.is_dir():
        raise ValueError(f"trainer.output_dir: {place} is a file, so {folder} cannot be a folder.")
    if not os.access(place, os.W_OK | os.X_OK):
        raise ValueError(f"trainer.output_dir: {place} cannot be written.")


def _check_watching(pipeline: str | None) -> None:
    if pipeline is None:
        return
    with naming_the_key("trainer.watch_pipeline"):
        if Path(pipeline).is_dir() or pipeline in bundled_names():
            locate(pipeline, "pipeline")
        else:
            snapshot_of(pipeline)  # of the Hub, JSON alone


def _state(recipe: Recipe) -> str:
    record = RunRecord(recipe.trainer.output_dir)
    if not record.path.is_file():
        return record.check({}, recipe.trainer)  # needs no identity, for which weights and data are hashed
    return record.check(run_identity(recipe, record.begun_with()), recipe.trainer)
