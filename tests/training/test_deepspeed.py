"""DeepSpeed on CPU, if it is installed: ZeRO-2 trains as one process does, and unsupported settings are refused.

It is not part of the test environment, because it compiles at installation. `pip install deepspeed` and run this file.
"""

import pytest

from two_processes import TWO, assert_same, run


pytest.importorskip("deepspeed")
STAGES = ("contrastive", "quantization", "lm", "packed_lm")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("deepspeed")
    cpu = {"DS_ACCELERATOR": "cpu"}
    one = run(folder / "one", stages=STAGES, **cpu)
    for stage in STAGES:  # an engine each
        two = run(folder / "two", *TWO, stages=(stage,), **cpu)
    return one, two


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_zero2_trains_as_one_process(runs, stage):
    assert_same(runs, stage)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "words"),
    [
        ("contrastive_zero3", "ContrastiveTrainer does not train right under DeepSpeed's ZeRO-3"),
        ("remedies_zero2", "which DeepSpeed and FSDP undo"),
    ],
)
def test_unsupported_settings_are_refused(tmp_path, stage, words):
    with pytest.raises(AssertionError, match=words):
        run(tmp_path / "out", *TWO, stages=(stage,), DS_ACCELERATOR="cpu")
