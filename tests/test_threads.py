"""CPU threads: as many as there are cores, and asleep while they wait; and batches of which each core has a part."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event, Thread, main_thread

import numpy as np
import pytest
import torch
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from PIL import Image

from seed_hf import threads as threads_module
from seed_hf.artifacts.opening import open_model, open_pipeline
from seed_hf.inference import draw_images, encode_pixels
from seed_hf.modeling.finite_values_seed import NotFiniteError
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
    [(0, [0]), (1, [1]), (7, [7]), (8, [4, 4]), (11, [5, 6]), (12, [4] * 3), (13, [4, 4, 5]), (100, [33, 33, 34])],
)
def test_each_core_has_a_part_of_a_batch(rows, lengths, three_threads):
    """In order, at the same time, without gradients; a part is not shared out again."""
    batch, meet = list(range(rows)), Barrier(len(lengths), timeout=20)

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


@pytest.mark.parametrize("settings", ["latents", "scale", "negative prompt"])
def test_calls_that_parts_would_change_are_drawn_whole(settings, three_threads):
    model, processor = tiny_model_and_processor()
    pipe = tiny_pipeline(model, processor=processor)
    pipe.set_progress_bar_config(disable=True)
    pipe.unet.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights=False))
    given = {
        "latents": {"latents": torch.randn(9, *pipe._latents_shape(1, *pipe._default_size())[1:])},
        "scale": {"cross_attention_kwargs": {"scale": 0.5}},
        "negative prompt": {"negative_prompt": "a pig", "generation_kwargs": {"do_sample": True}},
    }[settings]

    def drawn() -> np.ndarray:
        noise = generators(*range(9))
        return np.stack(draw_images(pipe, some_codes(9), noise, num_inference_steps=2, output_type="np", **given))

    whole = drawn()
    fit_threads(model)
    np.testing.assert_allclose(whole, drawn(), atol=1e-5)
    with pytest.raises(ValueError, match="9 rows of codes need as many generators, got 8"):
        draw_images(pipe, some_codes(9), generators(*range(8)))


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs POSIX")
def test_an_interrupt_ends_the_parts_of_a_drawing(three_threads, request):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background processes ignore it
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    model, processor = tiny_model_and_processor()
    pipe = tiny_pipeline(model, processor=processor)
    pipe.set_progress_bar_config(disable=True)
    steps, begun = [], Event()

    def on_step(*of_call):
        steps.append(of_call[1])
        begun.set()
        time.sleep(0.05)
        return {}

    def interrupt():
        begun.wait(60)
        signal.pthread_kill(main_thread().ident, signal.SIGINT)

    fit_threads(model)
    Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        noise = generators(*range(9))
        draw_images(pipe, some_codes(9), noise, num_inference_steps=1000, callback_on_step_end=on_step)
    on_all_cores(lambda part: None, 8)  # comes after the parts that were given up
    assert len(steps) < 100


def test_errors_of_a_batch_name_its_rows(three_threads):
    tokenizer = tiny_model_and_processor()[0].visual_tokenizer
    side = tokenizer.config.vision_config.image_size
    pixels = torch.zeros(12, 3, side, side)
    pixels[[3, 9]] = torch.nan
    fit_threads(tokenizer)
    with pytest.raises(NotFiniteError, match="rows 3, 9 of 12") as error:
        encode_pixels(tokenizer, pixels)
    assert error.value.rows == [3, 9]


def test_parts_compute_in_the_number_type_of_their_batch(three_threads):
    layer = torch.nn.Linear(2, 2)
    fit_threads(layer)
    kinds = []
    for half in (True, False):
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            kinds += on_all_cores(lambda part: layer(torch.ones(1, 2)).dtype, 8)
    assert kinds == [torch.bfloat16] * 2 + [torch.float32] * 2


@pytest.mark.parametrize("seeds", [(5, 6), (5, None)])
def test_sampled_codes_do_not_depend_on_other_threads(seeds):
    pipe = tiny_pipeline(*tiny_model_and_processor()[:1], processor=tiny_model_and_processor()[1])

    def codes(pipe, seed) -> torch.Tensor:
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        return pipe.encode_prompt("a red apple", generator, {"do_sample": True})

    alone = codes(pipe, seeds[0])
    with ThreadPoolExecutor(2) as pool:
        other = pipe.beside()
        for _ in range(5):
            beside = pool.submit(codes, other, seeds[1])
            assert torch.equal(pool.submit(codes, pipe, seeds[0]).result(), alone)
            beside.result()


def test_texts_of_a_model_that_peft_changes_in_a_call_are_written_whole(three_threads):
    model, processor = tiny_model_and_processor()
    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    model.language_model = get_peft_model(model.language_model, config)
    images = [Image.new("RGB", (20, 20), (25 * number, 90, 0)) for number in range(9)]
    whole = describe(model, processor, images)
    fit_threads(model.visual_tokenizer)
    assert [describe(model, processor, images) for _ in range(3)] == [whole] * 3


def test_parts_say_and_draw_what_the_whole_batch_does(three_threads):
    model, processor = tiny_model_and_processor()
    pipe = tiny_pipeline(model, processor=processor)
    pipe.set_progress_bar_config(disable=True)
    images = [Image.new("RGB", (20, 20), (25 * number, 90, 250 - 25 * number)) for number in range(9)]
    pixels = processor.image_processor(images, return_tensors="pt")["pixel_values"]
    codes = some_codes(9)

    def results() -> tuple:
        drawn = draw_images(pipe, codes, generators(*range(9)), num_inference_steps=3, output_type="np")
        return encode_pixels(model.visual_tokenizer, pixels), describe(model, processor, images), np.stack(drawn)

    whole = results()
    fit_threads(model)
    parts = results()
    assert torch.equal(whole[0], parts[0]) and whole[1] == parts[1]
    np.testing.assert_allclose(whole[2], parts[2], atol=1e-5)
