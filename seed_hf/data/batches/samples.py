"""Token sequences with what is learned of them, and batches of them: padded, or packed into sequences of a length."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from .packing import PADDING, borders, pack


# What a learned token belongs to; `loss_kinds` has its index in this tuple.
LOSS_KINDS = ("caption", "answer", "code", "text")
IGNORE = -100  # the label of a token that is not learned
_GIVEN = -1  # in the place of the index


@dataclass
class Sample:
    """The ids of a sequence, and the kind of each that is learned.

    Args:
        ids: Of the tokens.
        kinds: For each token, its index in `LOSS_KINDS`, or -1 if it is given.
    """

    ids: list[int] = field(default_factory=list)
    kinds: list[int] = field(default_factory=list)

    def add(self, ids: Sequence[int], kind: str | None = None, is_code: Callable[[int], bool] | None = None) -> Sample:
        """Append tokens.

        Args:
            ids: Of the tokens.
            kind: One of `LOSS_KINDS` if they are learned.
            is_code: Which of them are of the kind "code" instead.

        Returns:
            The sample itself.
        """
        own, code = _GIVEN if kind is None else LOSS_KINDS.index(kind), LOSS_KINDS.index("code")
        self.ids += ids
        if kind is None or is_code is None:
            self.kinds += [own] * len(ids)
        else:
            self.kinds += [code if is_code(token) else own for token in ids]
        return self

    def cut(self, length: int) -> Sample:
        """The sample without what lies beyond a length; it may become empty.

        Args:
            length: In tokens.
        """
        return self if len(self.ids) <= length else Sample(self.ids[:length], self.kinds[:length])

    @property
    def is_learned(self) -> bool:
        """Whether a token is learned that others predict, as those before the first do not."""
        return any(kind != _GIVEN for kind in self.kinds[1:])


def batch_of(samples: Sequence[Sample], pad: int, pack_length: int | None) -> dict[str, Any]:
    """The tensors of a batch, as [`LanguageModelCollator`] returns them.

    The label of a sample's first token is its id where the authors' data has one, though nothing predicts it; in a
    packed batch it is -100, because there the sample before would.

    Args:
        samples: In the order of the rows.
        pad: The id of padding.
        pack_length: Tokens of a packed sequence; `None` pads to the longest sample.
    """
    lengths = [len(sample.ids) for sample in samples]
    if pack_length is None:
        places, shape = [(row, 0) for row in range(len(samples))], (len(samples), max(lengths))
    else:
        places = pack(lengths, pack_length)
        shape = (1 + max(sequence for sequence, _ in places), pack_length)
    input_ids = np.full(shape, pad, dtype=np.int64)
    labels = np.full(shape, IGNORE, dtype=np.int64)
    position_ids = np.zeros(shape, dtype=np.int64)
    sample_ids = np.full(shape, PADDING, dtype=np.int64)
    positions, kinds = [], []
    for row, (sample, (sequence, start)) in enumerate(zip(samples, places)):
        end = start + len(sample.ids)
        of_sample = np.array(sample.kinds)
        input_ids[sequence, start:end] = sample.ids
        labels[sequence, start:end] = np.where(of_sample == _GIVEN, IGNORE, sample.ids)
        if pack_length is not None:
            labels[sequence, start] = IGNORE
        position_ids[sequence, start:end] = np.arange(len(sample.ids))
        sample_ids[sequence, start:end] = row
        learned = (of_sample[1:] != _GIVEN).nonzero()[0]
        positions.append(learned + start + sequence * shape[1])
        kinds.append(of_sample[1:][learned])
    batch = {
        "input_ids": input_ids,
        "labels": labels,
        "loss_positions": np.concatenate(positions),
        "loss_kinds": np.concatenate(kinds),
    }
    if pack_length is None:
        batch["attention_mask"] = (sample_ids != PADDING).astype(np.int64)
    else:
        batch |= {"position_ids": position_ids, "sample_ids": sample_ids, "cu_seq_lens": borders(sample_ids)}
    return {name: torch.from_numpy(array) for name, array in batch.items()}
