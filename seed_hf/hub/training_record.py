"""`train_config.json`: what was trained on what, without paths and secrets of the machine."""

import dataclasses
import os
import platform
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import torch
from transformers import TrainerState, TrainingArguments

from seed_hf.artifacts.hub_ids import names_repository, split_hub_id
from seed_hf.files import read_json

from .facts import TRAIN_CONFIG


# Always recorded; all other arguments where they differ from the defaults.
_MAIN = (
    "learning_rate",
    "lr_scheduler_type",
    "lr_scheduler_kwargs",
    "warmup_steps",
    "weight_decay",
    "optim",
    "adam_beta1",
    "adam_beta2",
    "adam_epsilon",
    "max_grad_norm",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "bf16",
    "fp16",
    "seed",
    "lora_r",
)
_OF_LORA = ("lora_alpha", "lora_dropout")
# Left out: of this machine, of no use to others, or secret.
_PRIVATE = (
    "output_dir", "logging_dir", "run_name", "report_to", "disable_tqdm", "logging_steps", "logging_strategy",
    "logging_nan_inf_filter", "save_steps", "save_strategy", "save_total_limit", "remove_unused_columns", "use_cpu",
    "push_to_hub", "hub_model_id", "hub_token", "hub_private_repo", "resume_from_checkpoint", "deepspeed",
    "accelerator_config", "local_rank", "trackio_space_id",
)  # fmt: skip
_LIBRARIES = ("seed_hf", "torch", "transformers", "datasets", "peft", "accelerate")
# Fields of a recipe's `model` that name the weights the training starts from.
_PARENTS = ("tokenizer", "blip2", "stage_one", "language_model")
# Logged values that say nothing about the model.
_BOOKKEEPING = ("epoch", "step", "total_flos", "learning_rate")
_BOOKKEEPING_SUFFIXES = ("_runtime", "_per_second", "_preparation_time")


def training_record(
    args: TrainingArguments, state: TrainerState, recipe: Any = None, *, seconds: float, first_step: int = 0
) -> dict[str, Any]:
    """What was trained on what, as `train_config.json` holds it.

    Args:
        args: Of the training.
        state: When it ended.
        recipe: What `read_recipe` gives, if the training has one.
        seconds: That it took.
        first_step: Steps of the checkpoint that it resumed from; 0 for none.
    """
    model, data = (_shareable(vars(getattr(recipe, part))) if recipe else {} for part in ("model", "data"))
    found = {
        "stage": recipe.stage if recipe else None,
        "base_model": _base_models(vars(recipe.model).get(name) for name in _PARENTS) if recipe else [],
        "datasets": _datasets(recipe.data.train) if recipe else [],
        "model": model,
        "data": data,
        "trainer": _arguments(args),
        "steps": state.global_step,
        "best_step": state.best_global_step if args.load_best_model_at_end else None,
        "epochs": round(state.epoch, 3) if state.epoch is not None else None,
        "batch_size": args.train_batch_size * args.gradient_accumulation_steps * args.world_size,
        "last_logged": {
            name: value for name, value in _last_logged(state.log_history).items() if not name.startswith("eval_")
        },
        "seconds": round(seconds, 1),
        "resumed_at_step": first_step or None,
        "hardware": _hardware(args),
        "versions": _versions(),
        "finished": datetime.now(UTC).date().isoformat(),
    }
    return {name: value for name, value in found.items() if value not in (None, [], {})}


def evaluation_of_result(args: TrainingArguments, state: TrainerState) -> dict[str, float]:
    """The figures of the trained weights, `eval_loss` and others: of the last evaluation, or of the best step.

    Args:
        args: Of the training.
        state: When it ended. With `load_best_model_at_end` the weights are those of its best step.
    """
    best = state.best_global_step if args.load_best_model_at_end else None
    lines = [line for line in state.log_history if best is None or line.get("step") == best]
    return {name: value for name, value in _last_logged(lines).items() if name.startswith("eval_")}


def _last_logged(lines: list[dict[str, Any]]) -> dict[str, float]:
    """The last value of each number that the training logged."""
    last: dict[str, float] = {}
    for line in lines:
        last.update({name: value for name, value in line.items() if isinstance(value, (int, float))})
    return {
        name: value
        for name, value in last.items()
        if name not in _BOOKKEEPING and not name.endswith(_BOOKKEEPING_SUFFIXES)
    }


def _arguments(args: TrainingArguments) -> dict[str, Any]:
    plain = {field.name: field for field in dataclasses.fields(args)}
    given = args.to_dict()
    found = {}
    for name, value in given.items():
        if name in _PRIVATE or name.endswith("_token") or name not in plain:
            continue
        field = plain[name]
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        if name in _MAIN or name in _OF_LORA and given["lora_r"] or value != getattr(default, "value", default):
            found[name] = value
    return _shareable(found)


def _shareable(values: dict[str, Any]) -> dict[str, Any]:
    """The values that are set, for anyone to read.

    Of an absolute path, or one that leaves the working directory, only the last part: the rest is of this machine. Of
    an address without what may be secret: user, password, query (a signature, for instance) and fragment.
    """

    def shared(value):
        if isinstance(value, dict):
            return _shareable(value)
        if isinstance(value, (list, tuple)):
            return [shared(item) for item in value]
        if isinstance(value, (str, Path)):
            path = Path(value)
            if "://" in str(value) and not str(value).startswith("file:"):
                return _without_secrets(str(value))
            leaves = os.path.normpath(path).split(os.sep)[0] == os.pardir
            if path.is_absolute() or str(value).startswith("file:") or leaves:
                return path.name
        return value if isinstance(value, (str, int, float, bool)) else str(value)

    return {name: shared(value) for name, value in values.items() if value not in (None, [], {})}


def _without_secrets(address: str) -> str:
    try:
        parts = urlsplit(address)
    except ValueError:  # brackets in the name of the host
        return address.rpartition("/")[2].partition("?")[0]
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _datasets(train: Any) -> list[str]:
    """Hub data sets among the sources that a recipe names, also in a mixture."""
    entries = train if isinstance(train, list) else [train]
    places = [entry.get("source") if isinstance(entry, Mapping) else entry for entry in entries]
    return [place for place in places if isinstance(place, str) and names_repository(place)]


def _base_models(places: Iterable[Any]) -> list[str]:
    """Hub ids among the places that a recipe names; for a local folder, the base models that its own record names."""
    found: list[str] = []
    for place in places:
        if not isinstance(place, str):
            continue
        if (Path(place) / TRAIN_CONFIG).is_file():
            found += read_json(Path(place) / TRAIN_CONFIG).get("base_model") or ()
        elif not Path(place).exists() and (hub := split_hub_id(place)) is not None:
            found.append(hub[0])
    return list(dict.fromkeys(found))


def _hardware(args: TrainingArguments) -> str:
    count = args.world_size
    if args.device.type == "cuda":
        return f"{count} x {torch.cuda.get_device_name(args.device)}"
    return f"{count} process{'es' if count > 1 else ''} on {args.device.type} ({platform.machine()})"


def _versions() -> dict[str, str]:
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except ModuleNotFoundError:
            continue
    return found
