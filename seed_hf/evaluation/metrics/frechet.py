"""The Frechet distance of two sets of features (FID with Inception's; arXiv 1706.08500)."""

from __future__ import annotations

import torch


class FeatureStatistics:
    """Mean and covariance of features, kept in one pass; memory does not grow with the rows.

    Args:
        width: Of the features.
    """

    def __init__(self, width: int):
        self.count = 0
        self._mean = torch.zeros(width, dtype=torch.float64)
        self._scatter = torch.zeros(width, width, dtype=torch.float64)

    def add(self, features: torch.Tensor) -> None:
        """Add rows.

        Args:
            features: `(rows, width)`.
        """
        rows = features.cpu().double()
        if not len(rows):
            return
        mean = rows.mean(0)
        centred = rows - mean
        total = self.count + len(rows)
        step = mean - self._mean
        self._scatter += centred.T @ centred + torch.outer(step, step) * (self.count * len(rows) / total)
        self._mean += step * (len(rows) / total)
        self.count = total

    @property
    def mean(self) -> torch.Tensor:
        """`(width,)`."""
        return self._mean

    @property
    def covariance(self) -> torch.Tensor:
        """`(width, width)`, without bias, as numpy's and torch-fidelity's."""
        return self._scatter / max(self.count - 1, 1)


def frechet_distance(first: FeatureStatistics, second: FeatureStatistics) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^1/2), which is 0 for equal sets.

    The trace of the root is the sum of the singular values of C1^1/2 C2^1/2: no complex parts appear, and nothing has
    to be added to a covariance of few rows.

    Args:
        first, second: The two sets, at least two rows each.

    Raises:
        ValueError: A set has fewer than two rows, or the widths differ.
    """
    if min(first.count, second.count) < 2:
        raise ValueError(f"A Frechet distance needs at least two rows each, got {first.count} and {second.count}.")
    if first.mean.shape != second.mean.shape:
        raise ValueError(f"The features have widths {len(first.mean)} and {len(second.mean)}.")
    shared = torch.linalg.svdvals(_root(first.covariance) @ _root(second.covariance)).sum()
    apart = (first.mean - second.mean).square().sum()
    traces = first.covariance.trace() + second.covariance.trace()
    return float(apart + traces - 2 * shared)


def _root(covariance: torch.Tensor) -> torch.Tensor:
    values, vectors = torch.linalg.eigh(covariance)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T
