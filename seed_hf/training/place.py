"""The place of a run in its data: what a checkpoint must know besides its step, so that a resumed run goes on."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from transformers import TrainingArguments


KEY = "seed_hf.place"  # in the part of `trainer_state.json` that is for such things
_ROWS_OF_A_STEP = ("per_device_train_batch_size", "processes", "gradient_accumulation_steps")


@dataclass
class Place:
    """Which pass over the training data a run is in, and how far.

    A stream has no length, so the step alone does not say where a run is.

    Args:
        passes: Whole passes that lie behind, the "epoch" of the current one.
        batches: Batches of the current pass that each process has trained on.
        layout: Settings by which rows become batches.
    """

    passes: int = 0
    batches: int = 0
    layout: dict[str, Any] = field(default_factory=dict)

    def note(self, notes: dict) -> None:
        """Put this into the notes of a checkpoint (`TrainerState.stateful_callbacks`)."""
        notes[KEY] = asdict(self)


def noted_place(notes: Mapping[str, Any]) -> Place | None:
    """The place that a checkpoint's notes have; `None` in one that an earlier version wrote."""
    return Place(**notes[KEY]) if KEY in notes else None


def batches_to_skip(place: Place, layout: Mapping[str, Any], stream: bool, checkpoint: str) -> int:
    """Batches of the current pass that a resumed run has behind it.

    Args:
        place: Of the checkpoint.
        layout: The settings of this run.
        stream: Whether the rows come from a stream. Their order then depends on all of the layout; otherwise only the
            number of rows of a step has to be the same.
        checkpoint: Its name, for messages.

    Raises:
        ValueError: With these settings the batches would have other rows than those of the run so far.
    """
    before = place.layout
    if stream:
        if changed := [f"{key} {before[key]} (now {layout[key]})" for key in before if before[key] != layout[key]]:
            raise ValueError(
                f"{checkpoint} was written with {', '.join(changed)}. With another setting the stream gives other "
                "batches, so the run cannot go on where it was. Set it back, or train into another output_dir."
            )
        return place.batches
    rows, rows_now = (math.prod(each[key] for key in _ROWS_OF_A_STEP) for each in (before, layout))
    if rows != rows_now:
        raise ValueError(
            f"{checkpoint} was written with {rows} rows a step, and now there are {rows_now} "
            f"({' x '.join(_ROWS_OF_A_STEP)}), so the run cannot go on where it was. Make the product the same, or "
            "train into another output_dir."
        )
    of_a_batch, of_a_batch_now = (math.prod(each[key] for key in _ROWS_OF_A_STEP[:2]) for each in (before, layout))
    return math.ceil(place.batches * of_a_batch / of_a_batch_now)


def no_batch(data: str, args: TrainingArguments, least: int) -> str:
    """What to say of data without a batch.

    Args:
        data: "training" or "evaluation".
        args: Of the run.
        least: The rows of a batch, where one that is not full is left out; else 0.
    """
    text = f"The {data} data gave no batch: it is empty, filters leave out all rows"
    if least:
        each = " for each loader process (dataloader_num_workers)" if args.dataloader_num_workers else ""
        text += f", or it has fewer than the {least} rows of a batch{each} and dataloader_drop_last is true"
    return f"{text}."
