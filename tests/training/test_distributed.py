"""Two processes train each stage as one process does: the same losses, metrics and weights."""

import pytest

from two_processes import TWO, assert_same, run


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("distributed")
    return run(folder / "one"), run(folder / "two", *TWO)


STAGES = ["contrastive", "streamed_contrastive", "quantization", "lm", "packed_lm", "instruct"]
FAMILIES = ["lm_llama", "lm_smollm2", "lm_qwen3"]  # "lm" is an OPT


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES + FAMILIES)
def test_two_processes_train_as_one(runs, stage):
    assert_same(runs, stage)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["contrastive", "quantization", "lm"])
def test_sharded_weights_train_as_whole_ones(runs, stage):
    assert_same(runs, f"sharded_{stage}")
