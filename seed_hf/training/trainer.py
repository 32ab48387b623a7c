"""What the three stages share on top of `transformers.Trainer`: metrics, weight decay, resuming, seeded draws."""

import json
import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn
from transformers import Trainer, TrainerCallback
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled

from seed_hf.data.batches.seeded import SeededCollator

from .finite_losses import FiniteLosses


logger = logging.getLogger(__name__)


class MetricWindow:
    """Weighted means of named metrics since the last reading.

    Sums stay on the training device until `read`, so a training step never waits for them.
    """

    def __init__(self, names: Sequence[str], device: torch.device):
        self.names = tuple(names)
        self._rows = {name: row for row, name in enumerate(self.names)}
        # fp64 keeps counts exact over long windows; only Apple's GPU does not have it
        self._sums = torch.zeros(len(names), 2, dtype=torch.float32 if device.type == "mps" else torch.float64)
        self._sums = self._sums.to(device)

    def add(self, name: str, total: torch.Tensor, weight: torch.Tensor | float = 1.0) -> None:
        """Add `total`, a sum over `weight` items; both are scalars."""
        row = self._sums[self._rows[name]]
        row[0] += total.detach()
        row[1] += weight

    def add_all(self, totals: torch.Tensor, weights: torch.Tensor) -> None:
        """`add` for the first metrics at once: two tensors with one entry for each of them."""
        self._sums[: len(totals)] += torch.stack([totals.detach(), weights], 1)

    def read(self, accelerator) -> dict[str, float]:
        """Means over the window and over all processes, and start a new window. Metrics without items are left out."""
        sums = accelerator.reduce(self._sums.clone(), "sum").tolist()
        self._sums.zero_()
        return {name: total / weight for name, (total, weight) in zip(self.names, sums) if weight > 0}


class EpochCallback(TrainerCallback):
    """Tells a [`SeededCollator`] which epoch begins; its draws depend on that and so are the same after a resume."""

    def __init__(self, collator: SeededCollator):
        self.collator = collator

    def on_epoch_begin(self, args, state, control, **kwargs):
        self.collator.set_epoch(int(state.epoch or 0))


class SeedTrainer(Trainer):
    """`transformers.Trainer` with the decay groups of the authors' recipe and metrics beside the loss.

    Subclasses name their metrics in `metric_names` and add to `self.window(model)` inside `compute_loss`. Training
    metrics appear in every log line beside "loss", evaluation metrics with the prefix "eval_" beside "eval_loss". What
    they give to `self.count` appears as `rate_name`: how much of it all processes together did in a second, by the
    clock, between two log lines.

    A loss that is NaN or infinite ends the run within 16 steps, by a `FloatingPointError` that names the rows of that
    batch; no checkpoint is written after it.
    """

    metric_names: tuple[str, ...] = ()
    rate_name = "samples_per_second"
    trains_under_zero3 = False

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._check_sharding()
        # Our losses are means over the batch. Without this line Trainer takes the **kwargs of `forward` for a sign
        # that the loss is already divided by the gradient accumulation steps.
        self.model_accepts_loss_kwargs = False
        names = (*self.metric_names, self.rate_name)
        self._train_window, self._eval_window = (MetricWindow(names, self.args.device) for _ in range(2))
        self._window_start: float | None = None
        self._losses, self._row_ids = FiniteLosses(), None
        if isinstance(self.data_collator, SeededCollator):
            self.add_callback(EpochCallback(self.data_collator))

    def _check_sharding(self) -> None:
        """Refuse what sharded weights would do wrong without a word."""
        if self.is_deepspeed_enabled and is_deepspeed_zero3_enabled() and not self.trains_under_zero3:
            raise ValueError(
                f"{type(self).__name__} does not train right under DeepSpeed's ZeRO-3, which keeps no weight whole. "
                "Take ZeRO-2 or plain data parallelism (examples/accelerate/several_gpus.yaml)."
            )

    def train(self, resume_from_checkpoint: str | bool | None = None, **kwargs):
        """As [`Trainer.train`]; `True` goes on from the last complete checkpoint in `output_dir`, if there is one."""
        if resume_from_checkpoint is True:
            resume_from_checkpoint = last_complete_checkpoint(self.args.output_dir)
        self._window_start = None  # the first window begins with the first batch, not with an earlier call
        output = super().train(resume_from_checkpoint, **kwargs)
        self._losses.check()
        return output

    def finished_model(self) -> nn.Module:
        """The trained model, as it is saved. It ends the training."""
        return self.model

    def training_step(self, model, inputs, num_items_in_batch=None):
        loss = super().training_step(model, inputs, num_items_in_batch)
        self._losses.add(self.state.global_step + 1, loss, self._row_ids)
        return loss

    def _prepare_inputs(self, inputs):
        self._row_ids = inputs.pop("row_ids", None)  # for messages; no model takes them
        return super()._prepare_inputs(inputs)

    def _save_checkpoint(self, model, trial):
        self._losses.check()
        super()._save_checkpoint(model, trial)

    def _run_epoch(self, *args, **kwargs):
        # Trainer looks for the end only after a step: resumed at its end, a run would go on for one step more.
        if self.state.global_step < self.state.max_steps:
            super()._run_epoch(*args, **kwargs)

    def window(self, model: nn.Module) -> MetricWindow:
        """The window that a forward pass of `model`, in its present mode, belongs to."""
        return self._train_window if model.training else self._eval_window

    def count(self, model: nn.Module, done: torch.Tensor | int) -> None:
        """Add to what was done since the last log line; `done` is a scalar."""
        window = self.window(model)
        if window is self._train_window and self._window_start is None:
            self._window_start = time.perf_counter()
        window.add(self.rate_name, torch.as_tensor(done), 0.0)  # divided by the seconds, once they are known

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """As [`Trainer.init_hf_repo`], but private unless `hub_private_repo` says otherwise."""
        asked = self.args.hub_private_repo if private is None else private
        super().init_hf_repo(token, True if asked is None else asked)

    def create_model_card(self, *args, **kwargs) -> None:
        """Trainer's own draft, but not in place of the card that `ModelCardCallback` wrote."""
        if not (Path(self.args.output_dir) / "README.md").is_file():
            super().create_model_card(*args, **kwargs)

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """Weight decay for matrices only: not for vectors and scalars, biases and norms (`SEED_Tokenizer/`)."""
        named = model.named_parameters()
        return [n for n, p in named if p.ndim >= 2 and "bias" not in n and "norm" not in n.lower()]

    def create_scheduler(self, num_training_steps: int, optimizer=None):
        warmup = self.args.get_warmup_steps(num_training_steps)
        if warmup >= num_training_steps:
            logger.warning(
                "The warm-up (%d steps) is as long as the whole run (%d steps): the learning rate will not reach %g. "
                "Set warmup_steps lower; a fraction such as 0.05 means a share of the run.",
                warmup, num_training_steps, self.args.learning_rate,
            )  # fmt: skip
        return super().create_scheduler(num_training_steps, optimizer)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:  # a line of the training loop, not an evaluation and not the closing summary
            logs.update(self.window_metrics(self._train_window, training=True))
        super().log(logs, start_time)

    def window_metrics(self, window: MetricWindow, training: bool) -> dict[str, float]:
        """Read one window; subclasses add what is not a mean."""
        if training and self._window_start is not None:
            now = time.perf_counter()
            # What the processes have is added up: what they did, and these shares of the time that passed for all.
            seconds = (now - self._window_start) / self.accelerator.num_processes
            window.add(self.rate_name, torch.zeros(()), seconds)
            self._window_start = now
        return window.read(self.accelerator)

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        """Loss only: the metrics of an evaluation are summed batch by batch and no output is kept."""
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            loss = self.compute_loss(model, inputs)
        return loss.detach(), None, None

    def evaluation_loop(self, *args, metric_key_prefix: str = "eval", **kwargs):
        begun = time.perf_counter()
        output = super().evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **kwargs)
        if self._window_start is not None:  # evaluating is not training
            self._window_start += time.perf_counter() - begun
        metrics = self.window_metrics(self._eval_window, training=False)
        output.metrics.update({f"{metric_key_prefix}_{name}": value for name, value in metrics.items()})
        return output


def last_complete_checkpoint(folder: str | os.PathLike) -> str | None:
    """The newest `checkpoint-N` in `folder` that was written to its end; `None` if there is none.

    The trainer's state is the last file of a checkpoint: one that is missing or cut tells a save that was interrupted.
    """
    found = [path for path in Path(folder).glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdigit()]
    for path in sorted(found, key=lambda path: int(path.name.removeprefix("checkpoint-")), reverse=True):
        try:
            json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            logger.warning("%s is not complete and is left aside.", path)
        else:
            return str(path)
    return None
