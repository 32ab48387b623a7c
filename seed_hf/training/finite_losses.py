"""Stopping a run whose loss is no longer a number, with the rows that did it."""

from collections.abc import Sequence

import torch


CHECK_EVERY = 16  # steps; a GPU is made to wait once in so many


class FiniteLosses:
    """The losses since the last look, and the ids of their rows.

    A loss that is NaN or infinite spoils all weights at the next step, and nothing after that is worth computing. To
    read a loss makes the host wait for the device, so losses are collected and looked at together.
    """

    def __init__(self, check_every: int = CHECK_EVERY):
        self.check_every = check_every
        self._waiting: list[tuple[int, torch.Tensor, Sequence[str] | None]] = []

    def add(self, step: int, loss: torch.Tensor, row_ids: Sequence[str] | None = None) -> None:
        """Note the loss `()` of one batch; every `check_every` batches, look.

        Raises:
            FloatingPointError: See [`FiniteLosses.check`].
        """
        self._waiting.append((step, loss.detach(), row_ids))
        if len(self._waiting) >= self.check_every:
            self.check()

    def check(self) -> None:
        """Look at all losses noted since the last time.

        Raises:
            FloatingPointError: One is NaN or infinite; names the first such step and the ids of its rows.
        """
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        values = torch.stack([loss.float().reshape(()) for _, loss, _ in waiting]).tolist()
        for (step, _, row_ids), value in zip(waiting, values):
            if value - value != 0:  # NaN and infinity alike
                rows = "its rows have no ids (give them a column `id` to see which they are)"
                if row_ids is not None:
                    rows = "its rows: " + ", ".join(map(str, row_ids))
                raise FloatingPointError(
                    f"The loss of step {step} is {value}; {rows}. The run stops here. The last checkpoint is from "
                    "before that step: look at these rows, or lower the learning rate, and start again."
                )
