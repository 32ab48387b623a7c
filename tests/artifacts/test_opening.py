"""What programs open for people reads and writes where it must; loading alone asks for nothing."""

import pytest

from command_line import refused
from seed_hf.artifacts.loading import load_pipeline
from seed_hf.artifacts.opening import open_pipeline
from seed_hf.demo.see_and_draw import run_demo
from seed_hf.serving.served import ServedModel
from tiny import tiny_tokenizer
from tiny_artifacts import save_artifact
from tiny_diffusion import tiny_pipeline


@pytest.fixture(params=["language model", "processor"])
def speechless(request, tmp_path):
    """A pipeline without one of the two, which still draws from codes."""
    if request.param == "language model":
        tiny_pipeline(tiny_tokenizer()).save_pretrained(tmp_path / "pipeline")
    else:
        pipe = load_pipeline(save_artifact("pipeline", tmp_path / "whole"), device="cpu")
        pipe.register_modules(processor=None)
        pipe.save_pretrained(tmp_path / "pipeline")
    return tmp_path / "pipeline"


def test_all_programs_that_talk_refuse_it_in_the_same_words(speechless, tmp_path):
    assert open_pipeline(speechless, device="cpu").seed_model is not None
    words = "has no language model or no processor, so it cannot read and write"
    for open_one in (
        lambda: open_pipeline(speechless, reads_and_writes=True, device="cpu"),
        lambda: ServedModel.load(speechless, device="cpu"),
        lambda: run_demo(tmp_path / "out", model=speechless, device="cpu"),
    ):
        with pytest.raises(ValueError, match=words) as error:
            open_one()
        assert str(speechless) in str(error.value)
    assert not (tmp_path / "out").exists()
    (tmp_path / "prompts.txt").write_text("a red apple\n", encoding="utf-8")
    refused("draw", "a", "-o", tmp_path / "a.png", "--model", speechless, words=words)
    many = ("--prompts", tmp_path / "prompts.txt", "--out", tmp_path / "drawn")
    refused("draw", *many, "--model", speechless, words=words)
