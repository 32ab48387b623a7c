"""How far a share or a mean may be off by chance: intervals of 95 %. Rows are added one by one and not kept."""

from __future__ import annotations

import math


_Z = 1.959964  # of 95 % of a normal distribution


class Share:
    """The share of rows that are right."""

    def __init__(self) -> None:
        self.rows = self.right = 0

    def add(self, value: bool) -> None:
        """Count a row.

        Args:
            value: Whether it is right.
        """
        self.rows += 1
        self.right += bool(value)

    @property
    def percent(self) -> float:
        """The share in percent; NaN without rows."""
        return 100.0 * self.right / self.rows if self.rows else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's interval, in percent: it stays within 0 and 100 and is right for few rows, too."""
        if not self.rows:
            return math.nan, math.nan
        n, share = self.rows, self.right / self.rows
        middle = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
        reach = _Z * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n * n)) / (1 + _Z**2 / n)
        return 100 * max(0.0, middle - reach), 100 * min(1.0, middle + reach)


class Mean:
    """The mean of a value over rows."""

    def __init__(self) -> None:
        self.rows, self._mean, self._squares = 0, 0.0, 0.0

    def add(self, value: float) -> None:
        """Count a row.

        Args:
            value: Of the row.
        """
        self.rows += 1
        step = value - self._mean
        self._mean += step / self.rows
        self._squares += step * (value - self._mean)

    @property
    def mean(self) -> float:
        """The mean; NaN without rows."""
        return self._mean if self.rows else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """1.96 standard errors to both sides."""
        reach = _Z * math.sqrt(self._squares / max(self.rows - 1, 1) / self.rows) if self.rows else math.nan
        return self.mean - reach, self.mean + reach
