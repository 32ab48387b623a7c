"""What `transformers.Trainer` offers and our trainers could only ignore. They refuse it, with the reason."""

import dataclasses
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn
from transformers import TrainingArguments, get_scheduler


_NO_OUTPUTS = "an evaluation keeps no outputs: it adds up the metrics of the stage batch by batch"
PUSH = (
    "Trainer would send whatever lies in output_dir, unfinished checkpoints too; `seed-hf push OUTPUT_DIR owner/name` "
    "sends what belongs to the result"
)
_LENGTHS = "rows get their length in the collator; `pack_length` of the LanguageModelCollator is what saves padding"
# Arguments of the run. What they are by default is not refused.
ARGUMENTS = {
    "label_smoothing_factor": "a stage has its own loss; stage I smooths by `label_smoothing` of SeedTokenizerConfig",
    "include_for_metrics": _NO_OUTPUTS,
    "batch_eval_metrics": _NO_OUTPUTS,
    "label_names": _NO_OUTPUTS,
    "use_liger_kernel": "Liger has no kernels for these models",
    "liger_kernel_config": "Liger has no kernels for these models",
    "auto_find_batch_size": "it begins again with weights that were trained already, and with another loss",
    "average_tokens_across_devices": "every loss is a mean over all processes, whatever this says",
    "remove_unused_columns": "it removes the columns that the collators read",
    "length_column_name": _LENGTHS,
    "group_by_length": _LENGTHS,  # its name in older versions, as `warmup_ratio`
    "warmup_ratio": "`warmup_steps` below 1 is a share of the run (warmup_steps: 0.1)",
    "push_to_hub": PUSH,
    "parallelism_config": "the losses need whole sequences in every process",
}
# Arguments of stages I and II; the language model takes them.
ARGUMENTS_OF_TOKENIZERS = {
    "neftune_noise_alpha": "a visual tokenizer has no word embeddings that it trains on",
    "include_num_input_tokens_seen": "images have no tokens; `samples_per_second` is logged",
    "debug": "transformers' detector of overflows cannot read masks; a loss that is not finite ends the run anyway",
}
# Arguments of a trainer.
PARTS = {
    "model_init": "the trainer freezes or wraps the model that it gets: pass a model",
    "compute_loss_func": "a stage has its own loss: override `compute_loss`",
    "compute_metrics": f"{_NO_OUTPUTS}. Use a callback with `on_evaluate`, or override `compute_loss`",
    "preprocess_logits_for_metrics": _NO_OUTPUTS,
}
STRATEGIES = ("random", "sequential")
_ALWAYS_LOGGED = ("loss", "runtime", "samples_per_second", "steps_per_second")


def check_arguments(args: TrainingArguments, refused: Mapping[str, str]) -> None:
    """Refuse what the trainers would ignore.

    Args:
        args: Of the run.
        refused: `ARGUMENTS`, and `ARGUMENTS_OF_TOKENIZERS` for stages I and II.

    Raises:
        ValueError: An argument is not its default; the message says why it is refused. Or DeepSpeed is missing.
    """
    for field in dataclasses.fields(args):
        value = getattr(args, field.name)
        off = value in (None, False, "", "no", [], {}) and field.default is not True
        if field.name in refused and value != field.default and not off:
            raise ValueError(f"{field.name}={value!r} is not supported: {refused[field.name]}.")
    if args.deepspeed and find_spec("deepspeed") is None:
        raise ValueError("deepspeed needs the package of that name, which is not installed: pip install deepspeed.")
    strategy = getattr(args, "train_sampling_strategy", "random")
    if strategy not in STRATEGIES:
        raise ValueError(
            f"train_sampling_strategy must be one of {', '.join(STRATEGIES)}, got {strategy!r}: {_LENGTHS}."
        )


def check_schedule(args: TrainingArguments) -> None:
    """Try the schedule of the learning rate, which Trainer would build only after everything is loaded.

    Args:
        args: Of the run.

    Raises:
        ValueError: `lr_scheduler_kwargs` do not fit `lr_scheduler_type`.
    """
    name, options = args.lr_scheduler_type, args.lr_scheduler_kwargs or {}
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(()))], lr=1.0)
    try:
        get_scheduler(
            name, optimizer, num_warmup_steps=1, num_training_steps=2, scheduler_specific_kwargs=dict(options)
        )
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"lr_scheduler_kwargs {options} do not fit lr_scheduler_type {getattr(name, 'value', name)!r}: {error}"
        ) from error


def check_numbers(args: TrainingArguments) -> None:
    """Try the numbers of optimizer, seed and loader, which Trainer would only use after everything is loaded.

    Args:
        args: Of the run.

    Raises:
        ValueError: One of them means nothing.
    """
    limits = {
        "learning_rate": (0, None),
        "weight_decay": (0, None),
        "max_grad_norm": (0, None),
        "adam_beta1": (0, 1),
        "adam_beta2": (0, 1),
        "adam_epsilon": (0, None),
        "seed": (0, 2**32),
        "dataloader_num_workers": (0, None),
    }
    for name, (least, end) in limits.items():
        value = getattr(args, name)
        if value is not None and not (least <= value and (end is None or value < end)):
            below = "" if end is None else f" and less than {end}"
            raise ValueError(f"{name} must be at least {least}{below}, got {value}.")


def has_adapters(model: Any) -> bool:
    """Whether a model is a `PeftModel`, or has adapters that transformers has added.

    Args:
        model: Any model.
    """
    return bool(getattr(model, "peft_config", None) or getattr(model, "_hf_peft_config_loaded", False))


def check_tokenizer(model: Any, stage: str) -> None:
    """What stages I and II train: a `SeedTokenizer`, whole modules of it.

    Args:
        model: That is given.
        stage: Its name, for the message.

    Raises:
        TypeError: It is something else.
        ValueError: It has adapters of peft.
    """
    if has_adapters(model):
        raise ValueError(
            f"{stage} trains whole modules, and this model has adapters of peft: the weights below them would change, "
            "and only the adapters would be saved. Merge them first (merge_and_unload), or leave them out."
        )
    if not hasattr(model, "freeze_for"):
        hint = " Give its visual_tokenizer." if hasattr(model, "visual_tokenizer") else ""
        raise TypeError(f"{stage} trains a SeedTokenizer, got {type(model).__name__}.{hint}")


def watch_options(args: Any) -> list[str]:
    """What is wrong about the `watch_...` settings of a run; nothing if they are right.

    Args:
        args ([`StageArguments`]): Of the run.
    """
    wrong = []
    if isinstance(args.watch_images, bool) or args.watch_images < 0:
        wrong.append(f"watch_images must be a number of rows, 0 for none, got {args.watch_images!r}.")
    if not args.watch_images:
        for name in ("watch_pipeline", "watch_prompts"):
            if getattr(args, name, None):
                wrong.append(f"{name} is not used without watch_images: give the number of rows to show.")
    return wrong


def checked(trainer_class: Any, args: TrainingArguments | None, parts: Mapping[str, Any]) -> TrainingArguments:
    """The arguments of a run, after a check of everything a trainer is given. Nothing has been changed by then.

    Args:
        trainer_class: Names its configuration in `config_class`, its metrics in `metric_names` and `more_metrics`.
        args: Of the run; `None` for the defaults of the stage.
        parts: What else the trainer is given, by name.

    Raises:
        TypeError: The arguments are of another class.
        ValueError: A part would be ignored, or there is no metric of the name `metric_for_best_model`.
    """
    config_class = trainer_class.config_class
    args = config_class() if args is None else args
    if not isinstance(args, config_class):
        raise TypeError(f"{trainer_class.__name__} takes a {config_class.__name__}, got {type(args).__name__}.")
    for name, reason in PARTS.items():
        if parts.get(name) is not None:
            raise ValueError(f"{trainer_class.__name__} does not support {name}: {reason}.")
    if (metric := args.metric_for_best_model) is not None:
        known = (*_ALWAYS_LOGGED, *trainer_class.metric_names, *trainer_class.more_metrics)
        if isinstance(sets := parts.get("eval_dataset"), Mapping):
            known = tuple(f"{one}_{name}" for one in sets for name in known)
        if metric.removeprefix("eval_") not in known:
            raise ValueError(f"metric_for_best_model must be one of {', '.join(known)}; got {metric!r}.")
    return args


def check_optimizer(model: nn.Module, optimizer: torch.optim.Optimizer | None) -> None:
    """Refuse an optimizer that would train nothing.

    Args:
        model: As it is trained: after freezing, and with LoRA.
        optimizer: What the trainer was given.

    Raises:
        ValueError: It holds none of the weights that are trained.
    """
    if optimizer is None:
        return
    held = {id(weight) for group in optimizer.param_groups for weight in group["params"]}
    if not any(id(weight) in held for weight in model.parameters() if weight.requires_grad):
        raise ValueError(
            "The optimizer of `optimizers` holds none of the weights that are trained: the trainer freezes some and "
            "adds those of LoRA. Give optimizer_cls_and_kwargs instead, or `optim` of the configuration."
        )
