"""CPU threads: as many as there are cores, and asleep while they wait; and batches of which each core has a part."""

import os
import subprocess
import sys
import time
from threading import Barrier

import numpy as np
import pytest
import torch
from PIL import Image

from seed_hf import threads as threads_module
from seed_hf.cli.shared import open_model, open_pipeline
from seed_hf.many import draw_many, encode_many
from seed_hf.texts import describe
from seed_hf.threads import SMALL, available_cores, fit_threads, on_all_cores
from tiny_diffusion import generators, some_codes, tiny_model_and_processor, tiny_pipeline


CORES = available_cores()


@pytest.fixture
def three_threads():
    """torch has three threads; afterwards everything is as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    threads_module._cores = None
    torch.set_num_threads(before)


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
        timeout=200,
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
    [(100, "cpu", 1), (SMALL // 1000, "cpu", 3), (100, "meta", 3), (0, "cpu", 3)],
    ids=["small", "large", "elsewhere", "no model"],
)
def test_small_models_have_one_thread(width, device, threads, three_threads):
    models = [torch.nn.Linear(size, 1000, device=device) for size in (width, 2)] if width else []
    fit_threads(None, *models, "a processor")
    assert torch.get_num_threads() == threads


def test_a_larger_model_has_its_threads_again(three_threads):
    for size, threads, parts in ((2, 1, 3), (2, 1, 3), (SMALL // 1000, 3, 1)):
        fit_threads(torch.nn.Linear(size, 1000))
        assert torch.get_num_threads() == threads and len(on_all_cores(str, 12)) == parts


def test_commands_that_write_and_draw_fit_their_threads(three_threads):
    for open_one in (open_model, open_pipeline):
        torch.set_num_threads(3)
        threads_module._cores = None
        open_one(None, device="cpu")
        assert torch.get_num_threads() == 1


@pytest.mark.parametrize(
    ("rows", "lengths"),
    [(0, [0]), (1, [1]), (7, [7]), (8, [4, 4]), (11, [6, 5]), (12, [4] * 3), (13, [5, 5, 3]), (100, [34, 34, 32])],
)
def test_each_core_has_a_part_of_a_batch(rows, lengths, three_threads):
    """In order, at the same time, without gradients; a part is not shared out again."""
    batch, meet = list(range(rows)), Barrier(len(lengths), timeout=60)

    def work(part: slice) -> list[int]:
        meet.wait()  # for all parts: they run at the same time
        assert len(lengths) == 1 or torch.is_inference_mode_enabled()
        (inner,) = on_all_cores(lambda inside: batch[part][inside], len(batch[part])) if len(lengths) > 1 else [batch]
        return inner

    fit_threads(torch.nn.Linear(2, 2))
    found = on_all_cores(work, rows)
    assert [len(part) for part in found] == lengths and sum(found, []) == batch


def test_a_fault_in_a_part_ends_the_batch_after_all_parts(three_threads):
    ended = []

    def work(part: slice) -> None:
        if part.start == 4:
            raise ValueError("the second")
        time.sleep(0.05)
        ended.append(part.start)

    fit_threads(torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match="the second"):
        on_all_cores(work, 12)
    assert sorted(ended) == [0, 8]
    assert on_all_cores(lambda part: part.start, 12) == [0, 4, 8]  # and the next batch is computed


def test_parts_say_and_draw_what_the_whole_batch_does(three_threads):
    model, processor = tiny_model_and_processor()
    pipe = tiny_pipeline(model, processor=processor)
    pipe.set_progress_bar_config(disable=True)
    images = [Image.new("RGB", (20, 20), (25 * number, 90, 250 - 25 * number)) for number in range(9)]
    pixels = processor.image_processor(images, return_tensors="pt")["pixel_values"]
    codes = some_codes(9)

    def results() -> tuple:
        drawn = draw_many(pipe, codes, generators(*range(9)), num_inference_steps=3, output_type="np")
        return encode_many(model.visual_tokenizer, pixels), describe(model, processor, images), np.stack(drawn)

    whole = results()
    fit_threads(model)
    parts = results()
    assert torch.equal(whole[0], parts[0]) and whole[1] == parts[1]
    np.testing.assert_allclose(whole[2], parts[2], atol=1e-5)
