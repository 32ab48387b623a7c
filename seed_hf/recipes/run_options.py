"""What `trainer:` of a recipe may say, beyond what the trainers themselves refuse."""

from importlib.util import find_spec

from torch import nn
from transformers import Trainer, TrainingArguments
from transformers.integrations import get_available_reporting_integrations

from seed_hf.training.options import checked

from .schema import Recipe


# Arguments that are for scripts of one's own, or do other than a recipe's run.
_REFUSED = {
    "do_predict": "a recipe trains; `seed-hf evaluate` measures what it trained",
    "do_eval": "set trainer.eval_strategy to evaluate while training",
    "resume_from_checkpoint": "a run goes on from the last checkpoint of trainer.output_dir by itself",
}


def check_run(recipe: Recipe, trainer_class: type) -> None:
    """Find what would end a run, or be ignored by it, after everything has been loaded.

    Args:
        recipe: Whose sections are checked one by one.
        trainer_class: Of its stage.

    Raises:
        ValueError: An option is not supported, a package is missing, or there is nothing to evaluate on.
    """
    args = recipe.trainer
    evaluates = str(args.eval_strategy.value) != "no" or args.eval_on_start
    for name, reason in _REFUSED.items():
        if getattr(args, name) and not (name == "do_eval" and evaluates):
            raise ValueError(f"trainer.{name} is not supported: {reason}.")
    if evaluates and recipe.data.validation is None:
        name = "eval_on_start" if args.eval_on_start else f"eval_strategy: {args.eval_strategy.value}"
        raise ValueError(f"trainer.{name} needs data.validation, on which the model is evaluated.")
    if args.watch_images and not evaluates:
        raise ValueError("trainer.watch_images looks at the model in each evaluation: set trainer.eval_strategy.")
    checked(trainer_class, args, {})
    there = get_available_reporting_integrations()
    for name in args.report_to:
        if name not in there:
            raise ValueError(
                f"trainer.report_to: {name} is not installed here, or not known to transformers. Install it, or give "
                f"{' or '.join([*sorted(there), 'none'])}."
            )
    if getattr(args, "lora_r", 0) and find_spec("peft") is None:
        raise ValueError("trainer.lora_r needs peft, which is not installed: pip install peft. Or set lora_r: 0.")
    check_optimizer_package(args)


def check_optimizer_package(args: TrainingArguments) -> None:
    """Whether what `trainer.optim` needs is installed, which Trainer would ask only before the first step.

    Args:
        args: Of the run.

    Raises:
        ValueError: A package is missing.
    """
    try:
        Trainer.get_optimizer_cls_and_kwargs(args, nn.Module())
    except ImportError as error:
        name = getattr(args.optim, "value", args.optim)
        raise ValueError(f"trainer.optim: {name} needs a package that is not installed. {error}") from error
    except ValueError:
        pass  # of settings that want the model itself: `--check` and Trainer look at it
