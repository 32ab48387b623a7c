"""Ends a run whose loss is NaN or infinite, and names the rows of that batch."""

from collections.abc import Sequence

import torch


CHECK_EVERY = 16  # steps; reading a loss makes a GPU wait


class FiniteLosses:
    """Losses that were not checked yet, with the ids of their rows.

    A loss that is NaN or infinite destroys all weights at the next step. Reading a loss makes the host wait for the
    device, so losses are collected and read together.

    Args:
        check_every: Number of losses that are read together.
    """

    def __init__(self, check_every: int = CHECK_EVERY):
        self.check_every = check_every
        self._waiting: list[tuple[int, torch.Tensor, Sequence[str] | None]] = []

    def add(self, step: int, loss: torch.Tensor, row_ids: Sequence[str] | None = None) -> None:
        """Keep the loss of one batch, and check after `check_every` of them.

        Args:
            step: Of the training.
            loss (`torch.Tensor` of shape `()`): Of the batch.
            row_ids: Ids of its rows, if they have some.

        Raises:
            FloatingPointError: As in [`FiniteLosses.check`].
        """
        self._waiting.append((step, loss.detach(), row_ids))
        if len(self._waiting) >= self.check_every:
            self.check()

    def check(self) -> None:
        """Check all losses since the last check.

        Raises:
            FloatingPointError: A loss is NaN or infinite. The message names the first such step and its rows.
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
                    f"The loss of step {step} is {value}; {rows}. The run ends. The last checkpoint is from before "
                    "that step: check these rows, or lower the learning rate, and start again."
                )
