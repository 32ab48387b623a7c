"""What a training run's weights depend on: starting model, data and settings, by content and not by path."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import TrainingArguments

from seed_hf.artifacts.fingerprints import files_fingerprint
from seed_hf.artifacts.loading import snapshot_of
from seed_hf.data.features.cached import are_features
from seed_hf.data.sources.fingerprint import file_stamp
from seed_hf.data.sources.parquet import named_images
from seed_hf.data.sources.rows import holds_parquet, parquet_files
from seed_hf.data.sources.sequence_rows import holds_conversations, sequence_files
from seed_hf.data.sources.source import open_source

from .mixture import entries_of
from .places import naming_the_key
from .schema import LANGUAGE_STAGES, Recipe
from .tokenizer_stages import reads_captions


logger = logging.getLogger(__name__)
STAMP = "stamp"  # of untouched files; it is kept with an identity and is not part of it
# Fields of TrainingArguments that leave the weights as they are, but for rounding. All others count.
_FREE = frozenset({
    # where, and how often, something is written, reported or measured
    "output_dir", "disable_tqdm", "report_to", "run_name", "project", "log_level", "log_level_replica",
    "log_on_each_node", "logging_strategy", "logging_steps", "logging_first_step",
    "logging_nan_inf_filter", "include_num_input_tokens_seen", "skip_memory_metrics", "debug",
    "trackio_space_id", "trackio_bucket_id", "trackio_static_space_id",
    "save_strategy", "save_steps", "save_total_limit", "save_only_model", "save_on_each_node", "enable_jit_checkpoint",
    "eval_strategy", "eval_steps", "eval_delay", "eval_on_start", "per_device_eval_batch_size",
    "eval_accumulation_steps", "eval_do_concat_batches", "eval_use_gather_object", "prediction_loss_only",
    "push_to_hub", "hub_model_id", "hub_strategy", "hub_token", "hub_private_repo", "hub_always_push", "hub_revision",
    "do_train", "do_eval", "do_predict", "resume_from_checkpoint", "restore_callback_states_from_checkpoint",
    "ignore_data_skip",
    # the length of the run, which may grow: see `RunRecord`
    "max_steps", "num_train_epochs",
    # how the same numbers are computed
    "use_cpu", "torch_compile", "torch_compile_backend", "torch_compile_mode", "torch_empty_cache_steps",
    "activation_checkpointing", "activation_checkpointing_kwargs", "gradient_checkpointing",
    "gradient_checkpointing_kwargs", "use_cache", "full_determinism",
    "dataloader_num_workers", "dataloader_pin_memory", "dataloader_persistent_workers",
    "dataloader_prefetch_factor", "dataloader_multiprocessing_context",
    "local_rank", "ddp_backend", "ddp_timeout", "ddp_bucket_cap_mb", "ddp_broadcast_buffers", "ddp_static_graph",
    "ddp_find_unused_parameters", "fsdp", "fsdp_config",
})  # fmt: skip
_WATCHING = {"watch_images", "watch_pipeline", "watch_prompts"}  # our own: what is shown at evaluations
_WEIGHTS = ("config.json", "adapter_config.json", "*.safetensors", "*.bin")
_WORDS = ("tokenizer*", "vocab*", "merges.txt", "special_tokens_map.json", "added_tokens.json", "*.model")
_PIXELS = ("preprocessor_config.json", "processor_config.json")
_FILES = {"text_tokenizer": _WORDS, "image_processor": _PIXELS}  # all other folders hold weights
_FOLDERS = (
    "tokenizer",
    "blip2",
    "stage_one",
    "text_encoder",
    "image_encoder",
    "language_model",
    "visual_tokenizer",
    "image_tokenizer",
)


def run_identity(recipe: Recipe, earlier: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Everything that decides the weights of a run, as JSON holds it.

    Files are compared by content, Hub repositories by commit. The place of a local file does not count, and neither do
    settings that only change what is reported, how often it is saved, or how fast the same numbers are computed.

    Args:
        recipe: What `read_recipe` gives.
        earlier: The identity of an earlier run: files of a stream that were not touched since are not read again.

    Raises:
        FileNotFoundError: A file or folder that the recipe names does not exist.
        ValueError: A source cannot be opened.
    """
    args = recipe.trainer
    identity = {
        "stage": recipe.stage,
        "model": _model(recipe.model),
        "data": _data(recipe, counts_evaluation(args), (earlier or {}).get("data", {})),
        "trainer": _settings(args, streaming=getattr(recipe.data, "streaming", False)),
    }
    return json.loads(json.dumps(identity, default=str))


def counts_evaluation(args: TrainingArguments) -> bool:
    """Whether the weights of a run depend on its evaluations.

    Args:
        args: Of the run.
    """
    return args.load_best_model_at_end or args.lr_scheduler_type in ("reduce_lr_on_plateau", "greedy")


def _model(section: Any) -> dict[str, Any]:
    values = {**vars(section)}
    values.pop("attn_implementation", None)  # the same numbers, computed in another way
    if "language_model" in values and values["text_tokenizer"] is None:
        values["text_tokenizer"] = values["language_model"]
    if "image_processor" in values and values["image_processor"] is None:  # then it is the one saved there, if any
        if section.start and any((Path(section.start[1]) / name).is_file() for name in _PIXELS):
            values["image_processor"] = section.start[1]
    for name, source in values.items():
        if source is not None and (name in _FOLDERS or name in _FILES):
            with naming_the_key(f"model.{name}"):
                values[name] = _content(source, _FILES.get(name, _WEIGHTS))
    return values


def _content(source: str, patterns: tuple[str, ...]) -> dict[str, str]:
    folder, commit = snapshot_of(source)
    if commit is not None:
        return {"commit": commit}
    return {"sha256": files_fingerprint({file for pattern in patterns for file in folder.glob(pattern)})}


def _data(recipe: Recipe, evaluates: bool, earlier: Mapping[str, Any]) -> dict[str, Any]:
    values = {**vars(recipe.data)}
    if not evaluates:
        values.pop("validation")
    if values.get("requests") is not None:
        with naming_the_key("data.requests"):
            values["requests"] = {"sha256": files_fingerprint([Path(values["requests"])], names=False)}
    for split in ("train", "features", "validation"):
        if values.get(split) is not None:
            with naming_the_key(f"data.{split}"):
                values[split] = _rows(recipe, split, values[split], earlier.get(split))
    return values


def _rows(recipe: Recipe, split: str, source: Any, earlier: Any) -> dict[str, Any]:
    data = recipe.data
    if split == "features" or recipe.stage == "quantization" and isinstance(source, str) and are_features(source):
        path = Path(source)
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist.")
        manifest = path if path.is_file() else path / "manifest.json"  # it has the hash of every file
        if not manifest.is_file():
            return {}  # the trainer will refuse it
        return {"sha256": files_fingerprint([manifest], names=False)}
    if recipe.stage in LANGUAGE_STAGES:
        return _sequences(recipe.stage, source, split)
    if not data.streaming and (split == "train" or holds_parquet(source)):
        files = parquet_files(source, split)
        column = data.image_column or "image"
        images = dict.fromkeys(image for file in files for image in named_images(str(file), column))
        return {"sha256": files_fingerprint([*files, *map(Path, images)], names=False)}
    named = {"image_column": data.image_column, "caption_column": data.caption_column}
    opened = open_source(source, split=split, captions=reads_captions(recipe), **named)
    elsewhere = opened.named_images()
    stamps = [opened.stamp(part) for part in range(len(opened))]
    stamps += [file_stamp(map(str, elsewhere))] if elsewhere else []
    found = {**opened.identity(), STAMP: None if None in stamps else stamps}
    earlier = earlier if isinstance(earlier, Mapping) else {}
    if found[STAMP] is not None and found == {name: earlier.get(name) for name in found}:
        return {**found, "sha256": earlier.get("sha256")}  # the same files, untouched: not read again
    files = opened.local_files() + elsewhere
    logger.info("data.%s: reading %d files once, to know them again.", split, len(files))
    return {**found, "sha256": files_fingerprint(files, names=False)}


def _sequences(stage: str, source: str | list, split: str) -> dict[str, Any]:
    """One source by its files; a list by those of each, with its weight and settings."""
    if isinstance(source, list):
        entries = entries_of(source, f"data.{split}")
        rows = [_sequences(stage, entry.source, split) for entry in entries]
        return {"entries": [{**of, "weight": e.weight, **e.settings} for of, e in zip(rows, entries)]}
    stored = stage == "lm" and os.path.exists(source) and holds_parquet(source)
    if stored and not holds_conversations(source, split):  # codes or texts, without images
        return {"sha256": files_fingerprint(parquet_files(source, split), names=False)}
    files, addresses = sequence_files(source, split)
    return {
        "sha256": files_fingerprint(map(Path, files), names=False),
        **({"addresses": addresses} if addresses else {}),
    }


def _settings(args: TrainingArguments, *, streaming: bool) -> dict[str, Any]:
    free = {*_FREE, *_WATCHING, "per_device_train_batch_size"}
    # All stages train on several processes as on one; only the batch of all of them counts.
    more = {"per_device_train_batch_size times processes": args.train_batch_size * args.world_size}
    if streaming:  # processes and their loaders share out the files of a stream, which decides the order of its rows
        free -= {"dataloader_num_workers"}
        more["processes"] = args.world_size
    if counts_evaluation(args):
        free -= {"eval_strategy", "eval_steps", "eval_delay", "save_strategy", "save_steps"}
        # among so many rows stage I looks for the right one
        more["per_device_eval_batch_size times processes"] = args.eval_batch_size * args.world_size
    values = {name: value for name, value in args.to_dict().items() if name not in free}
    if isinstance(values.get("deepspeed"), str):
        values["deepspeed"] = json.loads(Path(values["deepspeed"]).read_text(encoding="utf-8"))
    known = {field.name for field in dataclasses.fields(args)}
    return {name: value for name, value in values.items() if name in known} | more
