"""A Trainer callback that records what was trained on what, and writes the card when training ends."""

import dataclasses
import logging
import platform
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainingArguments

from seed_hf.artifacts.kinds import kind_of, problems
from seed_hf.files import whole_file

from .card import write_card
from .facts import TRAIN_CONFIG
from .front_matter import is_hub_id
from .results import to_text


logger = logging.getLogger(__name__)
# Class of a model -> the kind of its folder, for a card that is written before the weights are.
_KINDS = {
    "SeedTokenizer": "tokenizer",
    "SeedForCausalLM": "language_model",
    "SeedForConditionalGeneration": "model",
}
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
)
# Of this machine, of no use to others, or secret.
_PRIVATE = (
    "output_dir", "logging_dir", "run_name", "report_to", "disable_tqdm", "logging_steps", "logging_strategy",
    "logging_nan_inf_filter", "save_steps", "save_strategy", "save_total_limit", "remove_unused_columns", "use_cpu",
    "push_to_hub", "hub_model_id", "hub_token", "hub_private_repo", "resume_from_checkpoint", "deepspeed",
    "accelerator_config", "local_rank", "trackio_space_id",
)  # fmt: skip
_LIBRARIES = ("seed_hf", "torch", "transformers", "datasets", "peft", "accelerate")
_PARENTS = ("tokenizer", "blip2", "stage_one", "language_model")  # fields of a recipe's `model` whose weights go on


class ModelCardCallback(TrainerCallback):
    """Writes `train_config.json` and the model card into `output_dir` when training ends, on the main process.

    A card that is written before the final weights are saved shows its usage snippet without having run it.
    `run_stage` writes it again after saving; with a Trainer of your own call `write` after `save_model`.

    Args:
        recipe: What `read_recipe` gives: its `model` and `data` are recorded along with the trainer's arguments.
        card_options: Of `write_card`: `title`, `base_model`, `datasets` ...
    """

    def __init__(self, recipe=None, **card_options):
        self.recipe = recipe
        self.card_options = card_options
        self.training: dict[str, Any] = {}
        self._begun, self._first_step, self._evaluation = time.monotonic(), 0, {}
        self._kind, self._config = None, None

    def on_train_begin(self, args, state, control, **kwargs):
        self._begun, self._first_step = time.monotonic(), state.global_step

    def on_train_end(self, args, state, control, model=None, **kwargs):
        if not state.is_world_process_zero:
            return
        self.training = self._record(args, state)
        self._kind = next((_KINDS[cls.__name__] for cls in type(model).__mro__ if cls.__name__ in _KINDS), None)
        self._config = model.config.to_dict() if self._kind else None
        self.write(args.output_dir, saved=False)

    def write(self, folder: str | Path, *, saved: bool = True) -> Path | None:
        """Write `train_config.json` and the card; `None` where there is none: a plain OPT, LoRA before it is saved.

        What keeps the card from being written is logged and ends nothing: the training is done.

        Args:
            saved: Whether the folder holds what was trained, so that the usage snippet can run.
        """
        if not self.training:  # not the main process
            return None
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with whole_file(folder / TRAIN_CONFIG) as temporary:
            temporary.write_text(to_text(self.training), encoding="utf-8")
        try:
            kind = kind_of(folder) if saved else self._kind
            saved = saved and kind is not None and not problems(folder, kind)
        except ValueError:
            kind, saved = self._kind, False
        if kind is None:
            return None
        # results.json is of the weights before this training, if there is one
        options: dict[str, Any] = {"training": self.training, "results": self._evaluation, "run_snippet": saved}
        options |= {} if saved else {"config": self._config}
        options |= self.card_options
        try:
            return write_card(folder, kind=kind, **options)
        except (ValueError, OSError) as error:
            logger.warning("The model card was not written: %s", error)
            return None

    def _record(self, args: TrainingArguments, state) -> dict[str, Any]:
        recipe, last = self.recipe, {}
        for line in state.log_history:
            last.update({k: v for k, v in line.items() if isinstance(v, (int, float)) and not _is_bookkeeping(k)})
        self._evaluation = {name: value for name, value in last.items() if name.startswith("eval_")}
        model, data = (_shareable(vars(getattr(recipe, part))) if recipe else {} for part in ("model", "data"))
        found = {
            "stage": recipe.stage if recipe else None,
            "base_model": _hub_ids(vars(recipe.model).get(name) for name in _PARENTS) if recipe else [],
            "datasets": [place for place in _flat(recipe.data.train) if _is_hub_dataset(place)] if recipe else [],
            "model": model,
            "data": data,
            "trainer": _arguments(args),
            "steps": state.global_step,
            "epochs": round(state.epoch, 3) if state.epoch is not None else None,
            "batch_size": args.train_batch_size * args.gradient_accumulation_steps * args.world_size,
            "last_logged": {name: value for name, value in last.items() if not name.startswith("eval_")},
            "seconds": round(time.monotonic() - self._begun, 1),
            "resumed_at_step": self._first_step or None,
            "hardware": _hardware(args),
            "versions": _versions(),
            "finished": datetime.now(UTC).date().isoformat(),
        }
        return {name: value for name, value in found.items() if value not in (None, [], {})}


_BOOKKEEPING = ("_runtime", "_per_second", "_preparation_time")


def _is_bookkeeping(name: str) -> bool:
    return name in ("epoch", "step", "total_flos", "learning_rate") or name.endswith(_BOOKKEEPING)


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
        if name in _MAIN or value != getattr(default, "value", default):
            found[name] = value
    return _shareable(found)


def _shareable(values: dict[str, Any]) -> dict[str, Any]:
    """What is set, with only the last part of absolute paths: the rest is of this machine."""

    def shared(value):
        if isinstance(value, dict):
            return _shareable(value)
        if isinstance(value, (list, tuple)):
            return [shared(item) for item in value]
        if isinstance(value, (str, Path)) and (Path(value).is_absolute() or str(value).startswith("file:")):
            return Path(value).name
        return value if isinstance(value, (str, int, float, bool)) else str(value)

    return {name: shared(value) for name, value in values.items() if value not in (None, [], {})}


def _flat(value) -> list:
    return value if isinstance(value, list) else [value]


def _hub_ids(places) -> list[str]:
    """Of the places that a recipe names those that are repositories on the Hub, and those that a local folder names as
    its own parents."""
    found: list[str] = []
    for place in places:
        if not isinstance(place, str):
            continue
        if (Path(place) / TRAIN_CONFIG).is_file():
            from seed_hf.artifacts.kinds import read_json

            found += read_json(Path(place) / TRAIN_CONFIG).get("base_model") or ()
        elif not Path(place).exists() and is_hub_id("/".join(place.split("/")[:2])):
            found.append("/".join(place.split("/")[:2]))
    return list(dict.fromkeys(found))


def _is_hub_dataset(place) -> bool:
    """Whether a source is the id of a data set and nothing longer, such as a pattern of files in a folder."""
    return isinstance(place, str) and is_hub_id(place) and not Path(place).exists()


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
