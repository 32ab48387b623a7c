"""A stage that is killed at any moment and started again ends with the weights of the unbroken run, bit for bit.

On one thread. `tests/soak/test_killed_runs.py` kills every stage in each of its ways to read data.
"""

import pytest

from killed_runs import check_kills, finish, kill_in_pass, prepare, start


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("killed")
    prepare(folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", ["contrastive", "quantization", "lm", "lm, streamed and packed"])
def test_killed_and_started_again_is_the_unbroken_run(folder, name):
    """Stages I and II read a stream of sound and damaged images. The run is killed twice, in passes 2 and 3."""
    assert check_kills(folder, name, [kill_in_pass(name, 1, seed=0), kill_in_pass(name, 2, seed=0)])


@pytest.mark.slow
def test_killed_between_the_last_checkpoint_and_the_model(folder):
    """A run of a stream never ended after that."""
    if not (folder / "contrastive").exists():
        finish(start(folder, "contrastive", "contrastive"))
    file = folder / "contrastive" / "model.safetensors"
    expected = file.read_bytes()
    file.unlink()
    finish(start(folder, "contrastive", "contrastive"))
    assert file.read_bytes() == expected
