"""Sixty kills: every stage, each way to read data. `tests/training/test_killed_training.py` has a sample."""

import pytest

from killed_runs import CASES, check_kills, kill_in_pass, prepare


pytestmark = pytest.mark.soak


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("killed")
    prepare(folder)
    return folder


@pytest.mark.parametrize("name", CASES)
def test_sixty_kills(folder, name):
    """Five of each of twelve cases: one in each pass, one about when the model is saved, one before that."""
    assert check_kills(folder, name, [kill_in_pass(name, 0, seed=1)])
    assert check_kills(folder, name, [kill_in_pass(name, 1, seed=1)])
    check_kills(folder, name, [kill_in_pass(name, 2, seed=1)])
    assert check_kills(folder, name, [kill_in_pass(name, 1, seed=2), (CASES[name].steps, 0.02)])
