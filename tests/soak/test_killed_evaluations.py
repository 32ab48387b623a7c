"""Hundreds of killed evaluations: the same result but for times. `tests/evaluation/test_running.py` takes a sample."""

import os

import psutil
import pytest

from killed_evaluations import Lazy, Slow, Widths, data, rows, run_killed, without_times
from seed_hf.evaluation.rows import EvaluationData, EvaluationRow
from seed_hf.evaluation.running import run_task
from tiny_sources import noise


pytestmark = pytest.mark.soak


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_a_hundred_evaluations_are_killed(tmp_path, processes):
    whole = tmp_path / "whole.json"
    run_task(Slow(), data(rows(60)), whole, batch_size=2)
    expected = without_times(whole)
    expected["environment"]["processes"] = processes
    hit = 0
    for number in range(100):
        out = tmp_path / str(number) / "killed.json"
        hit += run_killed(out, kills=4, processes=processes, seed=number)
        assert without_times(out) == expected
    assert hit > 200


def test_memory_is_flat_over_fifty_thousand_rows(tmp_path):
    images, memory = [noise(i) for i in range(8)], []

    class Watched(Widths):
        def measure(self, rows, seen):
            memory.append(psutil.Process(os.getpid()).memory_info().rss / 1e6)
            self.measured.clear()
            return super().measure(rows, seen)

    class Many(Lazy):
        def __iter__(self):
            return (EvaluationRow(f"row {i}", images[i % 8], captions=("a dog",) * 5) for i in range(self.made))

    result = run_task(Watched(), EvaluationData("many", Many(50_000)), tmp_path / "out.json", batch_size=64)
    assert result["data"]["rows"] == 50_000
    # What grows is where the record of each row lies.
    assert max(memory) - memory[len(memory) // 10] < 30, (memory[len(memory) // 10], max(memory))
