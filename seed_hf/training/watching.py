"""Shows, at each evaluation, what a model makes of a fixed handful of validation rows: as a PNG and to the trackers.

What each stage shows is in `watched_images` (stages I and II) and `watched_texts` (language models).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch.utils.data import IterableDataset
from transformers import TrainerCallback
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled

from seed_hf.files import whole_file
from seed_hf.images.cards import sheet_of

from .trackers import send_image


logger = logging.getLogger(__name__)
FOLDER = "watch"
_LOOKED_AT = 64  # rows among which the handful is chosen
_METRICS = 5  # in the subtitle


class Watch(TrainerCallback):
    """Writes `watch/step-N.png` into `output_dir` at each evaluation, and sends the same image to the trackers.

    `trainer.watch_images` adds it. The rows are chosen once, in even steps over the validation set (of a stream, over
    its first rows), so a resumed run shows the same ones. Nothing is drawn from the random generators of the training.

    Args:
        trainer (`SeedTrainer`): Of the stage; its class says in `watched` what is shown.

    Raises:
        ValueError: There is no validation set, it has nothing to show, the model is sharded, or `watch_pipeline` does
            not fit the model.
    """

    def __init__(self, trainer: Any):
        self.trainer = trainer
        rows = trainer.eval_dataset
        if isinstance(rows, Mapping):
            rows = next(iter(rows.values()), None)
        if rows is None:
            raise ValueError("watch_images needs validation rows: give data.validation (eval_dataset).")
        if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled and is_deepspeed_zero3_enabled():
            raise ValueError(
                "watch_images needs whole weights, and under FSDP and ZeRO-3 no process has them. Leave it out."
            )
        self.stage: Any = None
        if trainer.is_world_process_zero():
            self.stage = trainer.watched(trainer, _some(rows), trainer.args.watch_images)

    @torch.no_grad()
    def on_evaluate(self, args, state, control, metrics=None, **kwargs):
        if self.stage is None:
            return
        model = self.trainer.accelerator.unwrap_model(self.trainer.model)
        training, devices = model.training, [args.device] if args.device.type == "cuda" else []
        model.eval()
        try:
            with torch.random.fork_rng(devices), self.trainer.accelerator.autocast():
                cards, used = self.stage.show(model)
        finally:
            model.train(training)
        shown = {name.removeprefix("eval_"): value for name, value in (metrics or {}).items() if _is_of_model(name)}
        told = ", ".join(f"{name} {value:.4g}" for name, value in list(shown.items())[:_METRICS])
        sheet = sheet_of(f"{self.trainer.stage_name}, step {state.global_step}", told, cards, used, self.stage.used_by)
        self._write(sheet, Path(args.output_dir) / FOLDER / f"step-{state.global_step:07d}.png")
        send_image(self.trainer.callback_handler.callbacks, FOLDER, sheet, state.global_step)

    def _write(self, sheet: Image.Image, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(path) as temporary:
                sheet.save(temporary, format="PNG")
        except OSError as error:  # a full disk is no reason to end a training
            logger.warning("%s was not written: %s", path, error)


def spread(rows: list[Any], number: int) -> list[Any]:
    """So many of the rows, in even steps; all if there are no more.

    Args:
        rows: To choose from.
        number: How many.
    """
    return [rows[i * len(rows) // number] for i in range(number)] if number < len(rows) else rows


def _some(rows: Any) -> list[Any]:
    if isinstance(rows, IterableDataset) or not hasattr(rows, "__len__"):
        return list(islice(iter(rows), _LOOKED_AT))
    return [rows[i] for i in spread(list(range(len(rows))), _LOOKED_AT)]


def _is_of_model(name: str) -> bool:
    return name.startswith("eval_") and not name.endswith(("runtime", "per_second"))
