"""CPU threads: as many as there are cores, and asleep while they wait."""

import os
import subprocess
import sys

import pytest
import torch

from seed_hf.cli.shared import open_model, open_pipeline
from seed_hf.threads import SMALL, available_cores, fit_threads


CORES = available_cores()
PREPARED = """
import sys
import seed_hf.threads
seed_hf.threads.prepare_threads()
assert "torch" not in sys.modules
import torch
print(torch.get_num_threads())
"""


def openmp(**variables) -> tuple[str, int]:
    """What OpenMP says of itself in a new process that is prepared, and torch's number of threads there."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "GOMP_", "KMP_"))}
    done = subprocess.run(
        [sys.executable, "-c", PREPARED],
        env={**clean, "OMP_DISPLAY_ENV": "verbose", **variables},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr.upper(), int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="reads what libgomp says")
def test_waiting_threads_sleep_unless_the_user_says_otherwise():
    said, threads = openmp()
    assert "GOMP_SPINCOUNT = '0'" in said and 1 <= threads <= os.cpu_count()
    said, threads = openmp(OMP_WAIT_POLICY="ACTIVE", OMP_NUM_THREADS="1")
    assert "OMP_WAIT_POLICY = 'ACTIVE'" in said and threads == 1
    assert "GOMP_SPINCOUNT = '7'" in openmp(GOMP_SPINCOUNT="7")[0]


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, CORES),
        ({"cpu.max": "max 100000\n"}, CORES),
        ({"cpu.max": "100000 100000\n"}, 1),
        ({"cpu.max": "20000 100000\n"}, 1),
        ({"cpu.max": "800000000 100000\n"}, CORES),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, CORES),
        ({"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
    ],
)
def test_a_containers_share_of_the_cores(tmp_path, files, cores):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert available_cores(tmp_path) == cores


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux")
def test_cores_that_the_process_may_run_on(tmp_path):
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert available_cores(tmp_path) == 1
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.parametrize(
    ("width", "device", "threads"),
    [(100, "cpu", 1), (SMALL // 1000, "cpu", 2), (100, "meta", 2), (0, "cpu", 2)],
    ids=["small", "large", "elsewhere", "no model"],
)
def test_small_models_have_one_thread(width, device, threads):
    before = torch.get_num_threads()
    models = [torch.nn.Linear(size, 1000, device=device) for size in (width, 2)] if width else []
    try:
        torch.set_num_threads(2)
        fit_threads(None, *models, "a processor")
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_commands_that_write_and_draw_fit_their_threads():
    before = torch.get_num_threads()
    try:
        for open_one in (open_model, open_pipeline):
            torch.set_num_threads(2)
            open_one(None, device="cpu")
            assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
