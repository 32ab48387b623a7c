"""A Trainer callback that records what was trained on what, and writes the card when training ends."""

import logging
import time
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from seed_hf.artifacts.kinds import kind_of, kind_of_object
from seed_hf.artifacts.whole import problems
from seed_hf.files import write_text

from .card import write_card
from .facts import TRAIN_CONFIG
from .results import to_text
from .training_record import evaluation_of_result, training_record


logger = logging.getLogger(__name__)


class ModelCardCallback(TrainerCallback):
    """Writes `train_config.json` and the model card into `output_dir` when training ends, on the main process.

    The weights are not saved then, so that card shows its usage snippet without having run it. `run_stage` writes the
    card again after saving; with your own Trainer, call `write` after `save_model`.

    Args:
        recipe: What `read_recipe` gives. Its `model` and `data` are recorded beside the trainer's arguments.
        card_options: Of `write_card`: `title`, `base_model`, `datasets` ...
    """

    def __init__(self, recipe=None, **card_options):
        self.recipe = recipe
        self.card_options = card_options
        self.training: dict[str, Any] = {}
        self._begun, self._first_step, self._evaluation = time.monotonic(), 0, {}
        self._kind: str | None = None
        self._config: dict[str, Any] | None = None

    def on_train_begin(self, args, state, control, **kwargs):
        self._begun, self._first_step = time.monotonic(), state.global_step

    def on_train_end(self, args, state, control, model=None, **kwargs):
        if not state.is_world_process_zero:
            return
        seconds = time.monotonic() - self._begun
        self.training = training_record(args, state, self.recipe, seconds=seconds, first_step=self._first_step)
        self._evaluation = evaluation_of_result(args, state)
        self._kind = kind_of_object(model)
        self._config = model.config.to_dict() if self._kind else None
        self.write(args.output_dir, saved=False)

    def write(self, folder: str | Path, *, saved: bool = True) -> Path | None:
        """Write `train_config.json` and the card.

        A card that cannot be written is logged and is no error, because the training is done.

        Args:
            folder: For both files.
            saved: Whether the folder holds the trained model, so that the usage snippet can run.

        Returns:
            The card's path; `None` without one: the model is no artifact (a plain OPT, LoRA before it is saved), this
            is not the main process, or the card cannot be written.
        """
        if not self.training:  # not the main process
            return None
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / TRAIN_CONFIG, to_text(self.training))
        try:
            kind = kind_of(folder) if saved else self._kind
            saved = saved and kind is not None and not problems(folder, kind)
        except ValueError:
            kind, saved = self._kind, False
        if kind is None:
            return None
        # given as they are, even if empty: an older results.json is of the weights before this training
        options: dict[str, Any] = {"training": self.training, "results": self._evaluation, "run_snippet": saved}
        options |= {} if saved else {"config": self._config}
        options |= self.card_options
        try:
            return write_card(folder, kind=kind, **options)
        except (ValueError, OSError) as error:
            logger.warning("The model card was not written: %s", error)
            return None
