"""From a recipe to a trained, saved model: what `seed-hf train` runs."""

import logging
import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from accelerate.utils import broadcast_object_list
from transformers import TrainingArguments

from seed_hf.devices import weights_to_fp32_where_half_is_slow
from seed_hf.files import disk_errors
from seed_hf.locks import FolderLock
from seed_hf.training.whole_state import whole_state

from .identity import run_identity
from .plan import steps_of
from .reading import read_recipe
from .run_record import RunRecord
from .schema import LANGUAGE_STAGES, Recipe


logger = logging.getLogger(__name__)


def run_stage(stage: str, config_path: str | os.PathLike, changes: Sequence[str] = ()) -> Path:
    """Train one stage as a YAML file describes it, from its last complete checkpoint on, and save the model.

    The file has three sections: `model` and `data` (see `seed_hf.recipes.schema`), and `trainer`, the fields of
    `ContrastiveConfig`, `QuantizationConfig`, `LanguageModelConfig` or `InstructionConfig`, among which `output_dir`
    is required. Paths are relative to the working directory. The trained model is saved in `output_dir`, beside its
    checkpoints.

    What the run was begun with is stored there, too. The same recipe goes on, also with a larger `max_steps` or
    `num_train_epochs` (the learning rate then follows the schedule of the new length); a finished one is left alone.
    Other data, another starting model or other settings that change the weights are refused by name. Only one run at a
    time may have the folder.

    Args:
        stage: "contrastive" (stage I), "quantization" (stage II), "lm" or "instruct".
        config_path: The YAML file.
        changes: Values that replace those of the file, in YAML: "trainer.max_steps=10",
            "model.settings.codebook_size=64".

    Returns:
        `output_dir`.

    Raises:
        ValueError: The stage or a key is unknown, a value has a wrong type, or values exclude each other. Or
            `output_dir` was begun with something else, or the run ended before its last step.
        BlockingIOError: Another process is training in `output_dir`.
        FileNotFoundError: A file or folder that the recipe names does not exist.
    """
    recipe = read_recipe(stage, config_path, changes)
    args = recipe.trainer
    record = RunRecord(args.output_dir)
    with FolderLock(args.output_dir, "training") if args.process_index == 0 else nullcontext():
        identity, state = _agreed(args, lambda: _compared(recipe, record))
        if state == "finished":
            logger.warning("%s: this run is finished already. Nothing was changed.", args.output_dir)
            return Path(args.output_dir)
        trainer, beside = _trainer(recipe)
        rows = trainer.train_dataset
        steps_of(args, len(rows) if hasattr(rows, "__len__") else None)
        if args.process_index == 0:
            record.begin(identity, args)
        return _train_and_save(recipe, trainer, beside, record)


def _trainer(recipe: Recipe):
    """The trainer, and the processors that are saved with what it trains."""
    if recipe.stage in LANGUAGE_STAGES:
        from .language_model_stage import language_model_trainer

        return language_model_trainer(recipe)
    from .tokenizer_stages import tokenizer_trainer

    return tokenizer_trainer(recipe)


def _compared(recipe: Recipe, record: RunRecord) -> tuple[dict, str]:
    identity = run_identity(recipe, record.begun_with())
    return identity, record.check(identity, recipe.trainer)


def _agreed(args: TrainingArguments, decide: Callable[[], Any]) -> Any:
    """What the first process decides, in all processes; or its error."""
    answer: list[Any] = [None, None]
    if args.process_index == 0:
        try:
            answer[0] = decide()
        except (ValueError, OSError) as error:
            answer[1] = error
    broadcast_object_list(answer)
    if answer[1] is not None:
        raise answer[1]
    return answer[0]


def _train_and_save(recipe: Recipe, trainer, beside: list, record: RunRecord) -> Path:
    """Train; save the model, its processors and its card. Files are written aside first, so none is half there."""
    from seed_hf.hub.callback import ModelCardCallback

    output = Path(trainer.args.output_dir)
    card = ModelCardCallback(recipe)
    trainer.add_callback(card)
    for part in (trainer.model, getattr(trainer, "target_encoder", None)):
        if part is not None:
            weights_to_fp32_where_half_is_slow(part)
    trainer.train(resume_from_checkpoint=True)
    if trainer.state.global_step < trainer.state.max_steps:
        raise ValueError(
            f"{output}: the run ended at step {trainer.state.global_step} of {trainer.state.max_steps}, so no model "
            "was saved. Something stopped it, or data.train gave no row at all."
        )
    model = trainer.finished_model()
    state = whole_state(model, trainer)  # of all processes
    with disk_errors(output, "Whole checkpoints stay."):
        trainer.save_state()
        if trainer.args.should_save:
            names = _saved(output, model, state, beside)
            card.write(output)
            if trainer.is_world_process_zero():
                record.finish(trainer.state.global_step, names)
    return output


def _saved(output: Path, model, state, beside: list) -> list[str]:
    """Save a model and what goes with it; the names of the files."""
    aside = output / "saving"
    shutil.rmtree(aside, ignore_errors=True)
    model.save_pretrained(aside, state_dict=state)
    for processor in beside:
        processor.save_pretrained(aside)
    names = [file.relative_to(aside).as_posix() for file in aside.rglob("*") if file.is_file()]
    for name in names:
        (output / name).parent.mkdir(exist_ok=True)
        os.replace(aside / name, output / name)
    shutil.rmtree(aside)
    return names
