"""How many steps a run has, and the mistakes that would leave it without any."""

import math

from transformers import TrainingArguments


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
