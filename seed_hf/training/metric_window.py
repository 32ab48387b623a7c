"""Means of metrics between two log lines."""

from collections.abc import Sequence

import torch


class MetricWindow:
    """Weighted means of named metrics since the last reading.

    The sums stay on the training device until `read`, so a training step never waits for them.

    Args:
        names: Of the metrics.
        device: Where the model is trained.
    """

    def __init__(self, names: Sequence[str], device: torch.device):
        self.names = tuple(names)
        self._rows = {name: row for row, name in enumerate(self.names)}
        # fp64 keeps counts exact over long windows. Apple's GPU does not have it.
        self._sums = torch.zeros(len(names), 2, dtype=torch.float32 if device.type == "mps" else torch.float64)
        self._sums = self._sums.to(device)

    def add(self, name: str, total: torch.Tensor, weight: torch.Tensor | float = 1.0) -> None:
        """Add to one metric.

        Args:
            name: Of the metric.
            total: Sum over `weight` items, a scalar.
            weight: Number of items, a scalar.
        """
        row = self._sums[self._rows[name]]
        row[0] += total.detach()
        row[1] += weight

    def add_all(self, totals: torch.Tensor, weights: torch.Tensor) -> None:
        """Add to the first N metrics at once.

        Args:
            totals, weights (`torch.Tensor` of shape `(N,)`): As in `add`.
        """
        self._sums[: len(totals)] += torch.stack([totals.detach(), weights], 1)

    def clear(self) -> None:
        """Begin a new window."""
        self._sums.zero_()

    def read(self, accelerator) -> dict[str, float]:
        """Means over the window and over all processes; then a new window begins. Metrics without items are left out.

        Args:
            accelerator (`accelerate.Accelerator`): Of the run.
        """
        sums = accelerator.reduce(self._sums.clone(), "sum").tolist()
        self.clear()
        return {name: total / weight for name, (total, weight) in zip(self.names, sums) if weight > 0}
