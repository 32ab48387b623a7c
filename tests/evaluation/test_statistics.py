"""Frechet distances agree with scipy's; intervals of shares and means are right, and cover what they should."""

import numpy as np
import pytest
import torch

from seed_hf.evaluation.metrics.frechet import FeatureStatistics, frechet_distance
from seed_hf.evaluation.metrics.intervals import Mean, Share


# (seed, rows, width, shift, scale) -> scipy.linalg.sqrtm of the product of numpy's covariances, scipy 1.17.1
SCIPY = {
    (0, 200, 16, 0.5, 1.0): 150.65923255876686,
    (1, 80, 24, 0.0, 1.5): 851.7896475350913,
    (2, 500, 8, 2.0, 0.3): 68.89467847195456,
}


def features(seed: int, rows: int, width: int, shift: float, scale: float) -> torch.Tensor:
    random = np.random.default_rng(seed)
    mix = random.standard_normal((width, width))
    return torch.from_numpy(random.standard_normal((rows, width)) @ mix * scale + shift)


def statistics(rows: torch.Tensor, block: int = 64) -> FeatureStatistics:
    found = FeatureStatistics(rows.shape[1])
    for part in rows.split(block):
        found.add(part)
    return found


@pytest.mark.parametrize("case", SCIPY)
def test_frechet_distance_is_that_of_scipy(case):
    seed, rows, width, shift, scale = case
    first, second = features(seed, rows, width, 0.0, 1.0), features(seed + 100, rows, width, shift, scale)
    distance = frechet_distance(statistics(first), statistics(second))
    assert distance == pytest.approx(SCIPY[case], rel=1e-9)
    assert distance == pytest.approx(frechet_distance(statistics(second), statistics(first, 7)), rel=1e-9)


def test_statistics_are_those_of_numpy_whatever_the_blocks():
    rows = features(3, 90, 5, 100.0, 0.1)
    for block in (1, 13, 90):
        found = statistics(rows, block)
        np.testing.assert_allclose(found.mean.numpy(), rows.numpy().mean(0))
        np.testing.assert_allclose(found.covariance.numpy(), np.cov(rows.numpy(), rowvar=False), atol=1e-10)


def test_distance_of_a_set_to_itself_is_zero_also_with_few_rows():
    rows = features(4, 6, 20, 0.0, 1.0)  # a covariance of rank 5
    assert frechet_distance(statistics(rows), statistics(rows)) == pytest.approx(0, abs=1e-5)
    with pytest.raises(ValueError, match="at least two rows"):
        frechet_distance(statistics(rows), statistics(rows[:1]))


def test_share_and_mean():
    share = Share()
    for value in [True] * 8 + [False] * 2:
        share.add(value)
    # Wilson, as in Brown, Cai and DasGupta (2001): 8 of 10
    assert share.percent == 80 and share.interval == pytest.approx((49.02, 94.33), abs=0.01)
    none = Share()
    none.add(False)
    assert none.interval[0] == 0 and 70 < none.interval[1] < 90
    mean = Mean()
    for value in (1.0, 2.0, 6.0):
        mean.add(value)
    error = np.std([1, 2, 6], ddof=1) / np.sqrt(3)
    assert mean.mean == pytest.approx(3)
    assert mean.interval == pytest.approx((3 - 1.96 * error, 3 + 1.96 * error), abs=1e-3)
