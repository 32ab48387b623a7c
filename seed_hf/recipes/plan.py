"""What a recipe will run: sizes and steps that are counted, and memory that follows from them."""

import math
from dataclasses import dataclass, field

from torch import nn
from transformers import TrainingArguments


# Tensors of an optimizer's state for each trained number, as large as it. Those of others are not known here.
_STATES = {"adamw_torch": 2, "adamw_torch_fused": 2, "adamw_apex_fused": 2, "adagrad": 1, "rmsprop": 1, "sgd": 0}


@dataclass
class Plan:
    """What a run will do, as `check_recipe` finds it.

    Args:
        model: Name of the model's class.
        trained, frozen: Numbers of parameters, those of a frozen encoder of targets included.
        rows: Of each split that is read; `None` where only reading to the end would tell.
        steps: Of the optimizer.
        batch: Rows of a step, over all processes.
        weights, gradients, state: Bytes on one device; `state` is `None` for an optimizer that is not known here.
        data: Bytes of the rows that are held in memory.
        device: Where it will be trained.
        optimizer: `trainer.optim`.
        folder: What `output_dir` holds: "new", "unfinished" or "finished".
        notes: What is allowed and may surprise.
    """

    model: str = ""
    trained: int = 0
    frozen: int = 0
    rows: dict[str, int | None] = field(default_factory=dict)
    steps: int = 0
    batch: int = 0
    weights: int = 0
    gradients: int = 0
    state: int | None = None
    data: int = 0
    device: str = ""
    optimizer: str = ""
    folder: str = "new"
    notes: list[str] = field(default_factory=list)

    def count(self, *models: nn.Module | None) -> None:
        """Add the parameters of models and the memory that training them takes.

        Args:
            models: The trained one first.
        """
        weights = {id(weight): weight for model in models if model is not None for weight in model.parameters()}
        trained = [weight for weight in weights.values() if weight.requires_grad]
        self.trained = sum(weight.numel() for weight in trained)
        self.frozen = sum(weight.numel() for weight in weights.values()) - self.trained
        self.weights = sum(weight.numel() * weight.itemsize for weight in weights.values())
        self.gradients = sum(weight.numel() * weight.itemsize for weight in trained)
        states = _STATES.get(self.optimizer)
        self.state = None if states is None else states * self.gradients

    def lines(self) -> list[str]:
        """The plan as lines of text."""
        found = {split: "not known before reading" if n is None else f"{n:,}" for split, n in self.rows.items()}
        epochs = f" ({self.steps * self.batch / train:.3g} epochs)" if (train := self.rows.get("train")) else ""
        parts = {"weights": self.weights, "gradients": self.gradients, f"state of {self.optimizer}": self.state}
        known = sum(size for size in parts.values() if size is not None)
        sizes = " + ".join(f"{part} {'not known' if size is None else _size(size)}" for part, size in parts.items())
        return [
            f"model: {self.model}, {self.trained:,} parameters trained, {self.frozen:,} frozen",
            f"rows: {', '.join(f'{split} {number}' for split, number in found.items())}",
            f"steps: {self.steps:,} of {self.batch:,} rows{epochs}",
            f"memory on {self.device}: {_size(known)} = {sizes}. Exact for one process without sharding; what a batch "
            "needs (activations) comes on top and is not estimated.",
            *([f"memory for data: {_size(self.data)}, all rows at once"] if self.data else []),
            f"output_dir: {_FOLDERS[self.folder]}",
            *(f"note: {note}" for note in self.notes),
        ]


def steps_of(args: TrainingArguments, rows: int | None) -> int:
    """The number of optimizer steps of a run, counted as `transformers.Trainer` does.

    Args:
        args: Of the run.
        rows: Of the training data; `None` for a stream, whose length is not known.

    Raises:
        ValueError: The run would have no step: the data has fewer rows than one batch takes, or the settings say so.
    """
    for name in ("per_device_train_batch_size", "gradient_accumulation_steps"):
        if getattr(args, name) < 1:
            raise ValueError(f"trainer.{name} must be at least 1, got {getattr(args, name)}.")
    if args.max_steps <= 0 and args.num_train_epochs <= 0:
        raise ValueError(f"trainer.num_train_epochs must be positive, got {args.num_train_epochs:g}.")
    if rows is None:
        return args.max_steps
    batch = args.train_batch_size * args.world_size
    batches = rows // batch if args.dataloader_drop_last else math.ceil(rows / batch)
    if not batches:
        drop = ", or set trainer.dataloader_drop_last: false" if rows else ""
        raise ValueError(
            f"data.train has {rows} rows and one batch takes {batch} (trainer.per_device_train_batch_size on every "
            f"device), so there would be no step. Give more data, or smaller batches{drop}."
        )
    if args.max_steps > 0:
        return args.max_steps
    return math.ceil(args.num_train_epochs * math.ceil(batches / args.gradient_accumulation_steps))


_FOLDERS = {
    "new": "a new run",
    "unfinished": "goes on from the last checkpoint there",
    "finished": "finished already; nothing would be done",
}


def _size(number: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} GB"
