"""`seed-hf bench language` and `seed-hf bench draw` on seed-tiny."""

import pytest

from command_line import refused
from seed_hf.bench import draw, language
from seed_hf.bench.frame import table


SHORT = {"device": "cpu", "rounds": 1, "seconds": 0.0, "batches": (1,)}


@pytest.fixture(scope="module")
def spoken():
    return language.measure(lengths=(32, 64), **SHORT)


def test_language(spoken):
    cases = spoken["cases"]
    ways = cases["prompt to codes, batch 1"]["ways"]
    assert "generate, static cache" in table(spoken)
    assert all("error" not in case and not [way for way in case["ways"].values() if "error" in way]
               for case in cases.values())  # fmt: skip
    assert ways["generate, growing cache"]["same"] == ways["generate, static cache"]["same"] == 1
    assert cases["8 drawings of a prompt"]["ways"]["the prompt once"]["same"] == 1
    assert cases["the constraint, batch 8"]["ways"]["its constraint, text"]["share_of_step"] > 0


def test_draw():
    report = draw.measure(many=2, steps=draw.Steps(2, 1, 1), prompts=True, **SHORT)
    cases = report["cases"]
    assert "2 steps, one by one" in table(report)
    assert all("error" not in case and not [way for way in case["ways"].values() if "error" in way]
               for case in cases.values())  # fmt: skip
    assert list(cases) == ["codes to images, batch 1", "prompts to images, batch 1", "2 images, 2 steps"]


def test_what_is_not_known_is_refused():
    refused("bench", "language", "--model", "gpt", words="--model is one of tiny, opt-2.7b, llama-7b, got 'gpt'")
    refused("bench", "draw", "--model", "gpt", words="--model is one of tiny, sd-1.5, unclip, got 'gpt'")
    refused("bench", "draw", "--steps", "50,20", words="--steps takes three numbers")
