"""The trainer that all stages share: metrics, weight decay, resuming and seeded draws over `transformers.Trainer`."""

import json
import logging
import os
import time
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import IterableDataset
from transformers import Trainer, TrainerCallback, TrainerControl
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled
from transformers.trainer import SCHEDULER_NAME
from transformers.trainer_utils import has_length

from seed_hf.data.batches.named_rows import NamedRows
from seed_hf.data.batches.seeded import SeededCollator
from seed_hf.data.batches.stream import Stream
from seed_hf.files import disk_errors
from seed_hf.locks import FolderLock

from .arguments import StageArguments
from .finite_losses import FiniteLosses
from .metric_window import MetricWindow
from .options import PUSH, check_optimizer
from .place import Place, batches_to_skip, no_batch, noted_place
from .precision import widen_rest, widen_trained
from .watching import Watch


logger = logging.getLogger(__name__)


class SeedTrainer(Trainer):
    """`transformers.Trainer` with the weight decay of the authors' code, and metrics besides the loss.

    Subclasses name their metrics in `metric_names` and add to `self.window(model)` in `compute_loss`, where they also
    give the loss to `self.count_loss`. Metrics of the training are in every log line with "loss", those of the
    evaluation have the prefix "eval_". What subclasses give to `self.count` is logged as `rate_name`: the rate per
    second of all processes together, between two log lines.

    Trained weights are fp32 in a training and after it, whatever type the model is given in. Frozen ones keep theirs
    in a training under autocast of that type.

    A loss that is NaN or infinite ends the run within 16 steps, with a `FloatingPointError` that names the rows of
    that batch. No checkpoint is written after it.

    A checkpoint knows its place in the data, also in a stream, which has no length: a resumed run goes on in the same
    pass with the next batch. At the end of a stream's pass, batches that do not fill an accumulated step are left out.
    """

    config_class: type[StageArguments] = StageArguments
    metric_names: tuple[str, ...] = ()
    more_metrics: tuple[str, ...] = ()  # of an evaluation, beside these and what every Trainer logs
    rate_name = "samples_per_second"
    stage_name: str
    watched: Any  # the class of what `watch_images` shows
    trains_under_zero3 = False
    control: TrainerControl  # of Trainer
    data_collator: Any  # of Trainer

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        check_optimizer(self.model, self.optimizer)
        self._check_sharding()
        # Our losses are means over the batch. Because `forward` takes **kwargs, Trainer would assume that the loss is
        # divided by the gradient accumulation steps already.
        self.model_accepts_loss_kwargs = False
        names = (*self.metric_names, self.rate_name)
        self._train_window = MetricWindow(names, self.args.device)
        self._eval_window = MetricWindow((*names, "loss"), self.args.device)
        self._window_start: float | None = None
        self._losses, self._row_ids = FiniteLosses(), None
        self._place, self._pass_is_over = Place(), False
        self._widened: list[torch.Tensor] = []  # weights that were given in half precision
        self._batches_in_pass: int | None = None  # of a stream nobody knows it
        self.add_callback(_PassCallback(self))
        if self.args.watch_images:
            self.add_callback(Watch(self))
        # Batches hold names of rows, which accelerate cannot send to other processes. Each reads the stream itself.
        if self.accelerator.dataloader_config.dispatch_batches is None:
            self.accelerator.dataloader_config.dispatch_batches = False

    def _check_sharding(self) -> None:
        """Refuse settings under which sharded weights would train wrong without an error."""
        if self.is_deepspeed_enabled and is_deepspeed_zero3_enabled() and not self.trains_under_zero3:
            raise ValueError(
                f"{type(self).__name__} does not train right under DeepSpeed's ZeRO-3, which keeps no weight whole. "
                "Use ZeRO-2 or plain data parallelism (examples/accelerate/several_gpus.yaml)."
            )
        if self.is_fsdp_enabled and getattr(self.accelerator.state.fsdp_plugin, "fsdp_version", 2) == 1:
            raise ValueError(
                "FSDP of version 1 would save a part of each weight. Take version 2 (fsdp_version: 2, as in "
                "examples/accelerate/fsdp2.yaml)."
            )

    def train(self, resume_from_checkpoint: str | bool | None = None, **kwargs):
        """As [`Trainer.train`], while no other process trains in `output_dir`.

        Args:
            resume_from_checkpoint: A checkpoint. `True`: the last complete one in `output_dir`, if there is one. Its
                weights, optimizer and place in the data go on under the arguments and data given *now*, whatever they
                were: only `run_stage` keeps a record of what a run was begun with, and compares.
            kwargs: As in [`Trainer.train`].

        Raises:
            BlockingIOError: Another process is training in `output_dir`.
        """
        with FolderLock(self.args.output_dir, "training") if self.args.process_index == 0 else nullcontext():
            return self._train_alone(resume_from_checkpoint, **kwargs)

    def _train_alone(self, resume_from_checkpoint: str | bool | None, **kwargs):
        if resume_from_checkpoint is True:
            resume_from_checkpoint = last_complete_checkpoint(self.args.output_dir)
        self.clear_windows()
        if not self.is_deepspeed_enabled:  # which holds fp32 copies of what it trains
            self._widened += widen_trained(self.model, self.accelerator.mixed_precision)
        output = super().train(resume_from_checkpoint, **kwargs)
        self._losses.check()
        if not (self.is_deepspeed_enabled or self.is_fsdp_enabled):
            widen_rest(self.model)
        return output

    def finished_model(self) -> nn.Module:
        """The trained model, as it is saved. It ends the training."""
        return self.model

    def training_step(self, model, inputs, num_items_in_batch=None):
        loss = super().training_step(model, inputs, num_items_in_batch)
        self._place.batches += 1
        self._losses.add(self.state.global_step + 1, loss, self._row_ids)
        return loss

    def _prepare_inputs(self, inputs):
        self._row_ids = inputs.pop("row_ids", None)  # for error messages only
        return super()._prepare_inputs(inputs)

    def _save_checkpoint(self, model, trial):
        self._losses.check()
        self._place.note(self.state.stateful_callbacks)
        with disk_errors(Path(self.args.output_dir), "Whole checkpoints stay."):
            super()._save_checkpoint(model, trial)

    # ---- the place in the data ----

    def _get_dataloader(self, dataset, *args, is_training: bool = False, **kwargs):
        if _is_stream(dataset):
            rows = self._train_batch_size if is_training else self.args.eval_batch_size
            group = rows * self.accelerator.num_processes if self.args.dataloader_drop_last else 1
            dataset = Stream(dataset, multiple_of=group, evaluates=not is_training)
        elif isinstance(self.data_collator, SeededCollator) and not (
            self.args.remove_unused_columns or isinstance(dataset, IterableDataset)
        ):
            dataset = NamedRows(dataset, "the training data" if is_training else "the evaluation data")
        collator: Any = self.data_collator
        if isinstance(collator, SeededCollator) and not is_training:
            self.data_collator = collator.for_evaluation()
        try:
            loader = super()._get_dataloader(dataset, *args, is_training=is_training, **kwargs)
        finally:
            self.data_collator = collator
        # A loader draws a seed when it begins a pass, but with persistent workers only in the first. Of the generator
        # of dropout, a resumed run would draw another number of times than an unbroken one.
        for each in (loader, getattr(loader, "base_dataloader", loader)):  # accelerate's, and torch's in it
            each.generator = torch.Generator().manual_seed(self.args.seed)
        return loader

    def _layout(self) -> dict[str, int | bool]:
        args = self.args
        return {
            "per_device_train_batch_size": self._train_batch_size,
            "processes": self.accelerator.num_processes,
            "gradient_accumulation_steps": args.gradient_accumulation_steps,
            "dataloader_num_workers": args.dataloader_num_workers,
            "dataloader_drop_last": args.dataloader_drop_last,
        }

    def _init_training_state(self, max_steps, num_update_steps_per_epoch, num_train_epochs, checkpoint, trial):
        passes, batches = super()._init_training_state(
            max_steps, num_update_steps_per_epoch, num_train_epochs, checkpoint, trial
        )
        if checkpoint is not None and self.state.global_step < max_steps:  # else the run is finished
            if not self.is_deepspeed_enabled and not (Path(checkpoint) / SCHEDULER_NAME).is_file():
                raise ValueError(
                    f"{checkpoint} has no optimizer state (save_only_model), so the run cannot go on from it. Train "
                    "into another output_dir, or remove the checkpoints to begin again."
                )
            stream, place = _is_stream(self.train_dataset), noted_place(self.state.stateful_callbacks)
            if place is not None:
                passes, batches = place.passes, batches_to_skip(place, self._layout(), stream, checkpoint)
            elif stream:
                raise ValueError(
                    f"{checkpoint} does not say where in the stream the run was: an earlier version wrote it. Finish "
                    "the run with that version, or start a new one from the weights of that folder."
                )
        self._enter_pass(passes)
        return passes, 0 if self.args.ignore_data_skip else batches

    def _enter_pass(self, number: int, batches: int = 0) -> None:
        """Begin pass `number` over the data, of which some batches lie behind."""
        self._place, self._pass_is_over = Place(number, batches, self._layout()), False
        for part in (self.data_collator, self.train_dataset):
            if isinstance(part, SeededCollator) or _is_stream(part) and hasattr(part, "set_epoch"):
                part.set_epoch(number)  # on which draws and the order of rows depend

    def _run_epoch(self, **kwargs):
        # Trainer checks `max_steps` only after a step: a finished run that is resumed would do one more, and a stream
        # has passes without end.
        if self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True
            return
        checkpoint, epoch = kwargs["resume_from_checkpoint"], kwargs["epoch"]
        resumed = checkpoint is not None and epoch == kwargs["epochs_trained"]
        self._enter_pass(epoch, kwargs["steps_trained_in_current_epoch"] if resumed else 0)
        self._batches_in_pass = None if _is_stream(self.train_dataset) else kwargs["steps_in_epoch"]
        if resumed and self._place.batches == self._batches_in_pass:  # what follows the last step may be still due
            self._load_rng_state(checkpoint)
            self._end_pass(**kwargs)
        else:
            super()._run_epoch(**kwargs)

    def leave_pass(self) -> None:
        """Note that the next batch is the first of a new pass, unless the run ends within this one."""
        if self._pass_is_over or self._place.batches == self._batches_in_pass:
            self._place = Place(self._place.passes + 1, 0, self._layout())

    def _end_pass(self, epoch, model, trial, ignore_keys_for_eval, start_time, **kwargs):
        """What Trainer does after the last step of a pass: evaluate and save, if a strategy is "epoch"."""
        self.control = self.callback_handler.on_epoch_end(self.args, self.state, self.control)
        self._maybe_log_save_evaluate(self._tr_loss, None, model, trial, epoch, ignore_keys_for_eval, start_time)

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        batches = list(islice(epoch_iterator, num_batches))
        if len(batches) < num_batches:  # the end of a stream
            if not self._place.batches:
                raise ValueError(self._no_step(len(batches)))
            if batches:
                logger.info(
                    "Pass %d: left out the last %d batches, too few for a step.", self._place.passes + 1, len(batches)
                )
            self._pass_is_over = self.control.should_epoch_stop = True
            return [], None
        return batches, self._get_num_items_in_batch(batches, device)

    def _no_step(self, batches: int) -> str:
        """Why a pass has no step. It would go on for ever, or end a run that has trained nothing."""
        args = self.args
        if not batches:
            return no_batch(
                "training", args, self._train_batch_size * args.world_size if args.dataloader_drop_last else 0
            )
        steps = args.gradient_accumulation_steps
        return f"The training data has {batches} batches, fewer than gradient_accumulation_steps, which is {steps}."

    def window(self, model: nn.Module) -> MetricWindow:
        """The window of the training or of the evaluation, by the mode of `model`."""
        return self._train_window if model.training else self._eval_window

    def clear_windows(self) -> None:
        """Forget what an earlier training of this trainer counted since its last log line."""
        self._train_window.clear()
        self._window_start = None  # the first window begins with the first batch

    def count(self, model: nn.Module, done: torch.Tensor | int) -> None:
        """Count what `rate_name` measures.

        Args:
            model: Tells training from evaluation.
            done: How much, a scalar.
        """
        window = self.window(model)
        if window is self._train_window and self._window_start is None:
            self._window_start = time.perf_counter()
        window.add(self.rate_name, torch.as_tensor(done), 0.0)  # `window_metrics` adds the seconds

    def count_loss(self, model: nn.Module, loss: torch.Tensor, weight: torch.Tensor | float) -> None:
        """Count the loss of a batch in the mean of an evaluation. Trainer would count every batch as a full one.

        Args:
            model: Tells training from evaluation.
            loss: A mean, a scalar.
            weight: Of how many rows or tokens, a scalar.
        """
        if not model.training:
            self._eval_window.add("loss", loss * weight, weight)

    def push_to_hub(self, *args, **kwargs):
        """Refused: `seed_hf.hub.push` publishes a saved model.

        Args:
            args, kwargs: As in [`Trainer.push_to_hub`].

        Raises:
            ValueError: Always.
        """
        raise ValueError(f"push_to_hub is not supported: {PUSH}.")

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """Matrices only: no vectors, scalars, biases or norms. As in the authors' code (`SEED_Tokenizer/`)."""
        named = model.named_parameters()
        return [n for n, p in named if p.ndim >= 2 and "bias" not in n and "norm" not in n.lower()]

    def create_scheduler(self, num_training_steps: int, optimizer=None):
        warmup = self.args.get_warmup_steps(num_training_steps)
        if warmup >= num_training_steps:
            logger.warning(
                "The warm-up (%d steps) is as long as the whole run (%d steps): the learning rate will not reach %g. "
                "Set warmup_steps lower; a number below 1, such as 0.05, is a fraction of the run.",
                warmup, num_training_steps, self.args.learning_rate,
            )  # fmt: skip
        return super().create_scheduler(num_training_steps, optimizer)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:  # of the training loop, not of an evaluation or the summary at the end
            logs.update(self.window_metrics(self._train_window, training=True))
        super().log(logs, start_time)

    def _maybe_log_save_evaluate(self, *args, **kwargs):
        begun = time.perf_counter()
        super()._maybe_log_save_evaluate(*args, **kwargs)
        if self._window_start is not None:  # the rate is of training alone: no evaluations, sheets, checkpoints
            self._window_start = min(self._window_start, begun) + time.perf_counter() - begun

    def window_metrics(self, window: MetricWindow, training: bool) -> dict[str, float]:
        """Read one window. Subclasses add metrics that are not means."""
        if training and self._window_start is not None:
            now = time.perf_counter()
            # `read` adds up the processes, so each adds its share of the seconds.
            seconds = (now - self._window_start) / self.accelerator.num_processes
            window.add(self.rate_name, torch.zeros(()), seconds)
            self._window_start = now
        return window.read(self.accelerator)

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        """The loss alone: metrics are summed batch by batch, and no output is kept."""
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            loss = self.compute_loss(model, inputs)
        return loss.detach(), None, None

    def evaluate(self, *args, **kwargs):
        # The loader of an evaluation draws a seed, which would change the dropout of the next training step.
        with torch.random.fork_rng([self.args.device] if self.args.device.type == "cuda" else []):
            return super().evaluate(*args, **kwargs)

    def evaluation_loop(self, dataloader, *args, metric_key_prefix: str = "eval", **kwargs):
        output = super().evaluation_loop(dataloader, *args, metric_key_prefix=metric_key_prefix, **kwargs)
        if f"{metric_key_prefix}_loss" not in output.metrics:
            dropped = self.args.dataloader_drop_last and has_length(dataloader)
            raise ValueError(no_batch("evaluation", self.args, self.args.eval_batch_size if dropped else 0))
        metrics = self.window_metrics(self._eval_window, training=False)  # "loss" among them
        output.metrics.update({f"{metric_key_prefix}_{name}": value for name, value in metrics.items()})
        return output


class _PassCallback(TrainerCallback):
    """Tells a checkpoint of the end of a pass (what "epoch" strategies write) from one of its last step."""

    def __init__(self, trainer: SeedTrainer):
        self.trainer = trainer

    def on_epoch_end(self, args, state, control, **kwargs):
        self.trainer.leave_pass()


def _is_stream(dataset) -> bool:
    return isinstance(dataset, IterableDataset) and not has_length(dataset)


def last_complete_checkpoint(folder: str | os.PathLike) -> str | None:
    """The newest complete `checkpoint-N` in a folder, or `None`.

    Trainer writes its state last. A checkpoint whose state is missing or cut off was interrupted.

    Args:
        folder: `output_dir` of the run.
    """
    found = [path for path in Path(folder).glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdigit()]
    for path in sorted(found, key=lambda path: int(path.name.removeprefix("checkpoint-")), reverse=True):
        try:
            json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            logger.warning("%s is not complete and is not used.", path)
        else:
            return str(path)
    return None
