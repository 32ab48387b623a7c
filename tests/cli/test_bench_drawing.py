"""`seed-hf bench language` and `seed-hf bench draw`: every case and way runs; the figures are not looked at."""

import torch

from command_line import refused, run
from seed_hf.bench import draw, language
from seed_hf.bench.frame import Bench, table
from tiny_diffusion import tiny_model_and_processor, tiny_pipeline
from tiny_language import tiny_language_model


def bench(name: str) -> Bench:
    return Bench(name, "cpu", rounds=1, seconds=0.0)


def errors(report: dict) -> list:
    cases = report["cases"].values()
    return [each for case in cases for each in (case, *case.get("ways", {}).values()) if "error" in each]


def test_language():
    measured = bench("language")
    language.add_cases(measured, tiny_language_model(), batches=(1,), lengths=(32, 64))
    cases = measured.report["cases"]
    ways = cases["prompt to codes, batch 1"]["ways"]
    assert not errors(measured.report) and "generate, static cache" in table(measured.report)
    assert ways["generate, growing cache"]["same"] == ways["generate, static cache"]["same"] == 1
    assert cases["8 drawings of a prompt"]["ways"]["the prompt once"]["same"] == 1
    assert cases["the constraint, batch 8"]["ways"]["its constraint, text"]["share_of_step"] > 0


def test_draw():
    measured, (model, processor) = bench("draw"), tiny_model_and_processor()
    pipe = tiny_pipeline(model, processor=processor)
    pipes = draw.Pipes(pipe, None, draw.Steps(3, 2, 1), measured, compiled=False)
    draw.add_cases(measured, pipes, batches=(2,), many=2, writer=draw.Writer(pipes, None, measured))
    assert not errors(measured.report) and "3 steps, one by one" in table(measured.report)
    assert list(measured.report["cases"]) == [
        "codes to images, batch 2", "prompts to images, batch 2", "2 images, 2 steps"
    ]  # fmt: skip


def test_seed_tiny_draws_in_the_number_type_that_is_reported(monkeypatch):
    used = []
    monkeypatch.setattr(draw, "add_cases", lambda bench, pipes, *_: used.append((bench.dtype, pipes.plain.unet.dtype)))
    for dtype in ("float32", "bfloat16"):
        draw.measure(device="cpu", dtype=dtype, rounds=1)
    assert used == [(torch.float32, torch.float32), (torch.bfloat16, torch.bfloat16)]


def test_fits():
    status, out, _ = run("bench", "fits", "--sizes", "16,40")
    assert status == 0 and "OPT-2.7B" in out
    assert "| bf16, the part in use | 6.0 | fits | fits |" in out  # 2.67 * 10^9 weights and 0.67 GB of cache
    refused("bench", "fits", "--sizes", "0", words="--sizes takes positive numbers")


def test_what_is_not_known_is_refused():
    refused("bench", "language", "--model", "gpt", words="--model is one of tiny, opt-2.7b, llama-7b, got 'gpt'")
    refused("bench", "draw", "--model", "gpt", words="--model is one of tiny, sd-1.5, unclip, got 'gpt'")
    refused("bench", "draw", "--steps", "50,20", words="--steps takes three numbers")
