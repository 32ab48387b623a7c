"""The command line of `examples/seed_tiny`, and the checkpoint that it writes. `make pages` runs its stages."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from docs_blocks import ROOT
from seed_hf import SeedForConditionalGeneration, SeedImagePipeline, SeedProcessor, SeedTokenizer, bundled
from seed_hf.artifacts.known_words import KnownWords, read_known_words
from tiny_diffusion import generators, some_codes, tiny_model_and_processor, tiny_pipeline


@pytest.fixture
def recipe(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "examples" / "seed_tiny"))
    import recipe

    return recipe


@pytest.mark.parametrize("quick", [True, False])
def test_the_results_of_a_few_steps_become_no_part_of_a_real_run(recipe, quick, monkeypatch, capsys, tmp_path):
    (tmp_path / ("vocabulary" if quick else "quick")).touch()  # begun the other way
    arguments = ["--data", "data", "--work", str(tmp_path), "--out", "out", *(["--quick"] if quick else [])]
    monkeypatch.setattr(sys, "argv", ["recipe.py", *arguments])
    with pytest.raises(SystemExit):
        recipe.main()
    assert f"was begun with{'out' if quick else ''} --quick: take another folder" in capsys.readouterr().err


def test_costs_add_up_over_sittings(recipe, monkeypatch, capsys, tmp_path):
    import costs

    spent = [("unet", 60, 66, 0.001), ("seeing", 30, 30, 0.002), ("unet", 90, 120, 0.003)]
    lines = [json.dumps(dict(zip(("stage", "seconds", "core_seconds", "kwh"), row))) for row in spent]
    (tmp_path / costs.FILE).write_text("\n".join(lines) + "\n")
    monkeypatch.setattr(sys, "argv", ["costs.py", "--work", str(tmp_path)])
    costs.main()
    table = capsys.readouterr().out.splitlines()[2:]
    assert table == ["| `unet` | 2.5 | 3.1 | 4.0 |", "| `seeing` | 0.5 | 0.5 | 2.0 |", "| `all` | 3.0 | 3.6 | 6.0 |"]
    monkeypatch.setattr(sys, "argv", ["costs.py", "--work", str(tmp_path / "other")])
    with pytest.raises(SystemExit, match="nothing was counted"):
        costs.main()


@torch.no_grad()
def test_the_checkpoint_uses_the_packages_own_classes(recipe, tmp_path):
    """No Python file and no word of one in its folders; each weight is there once; it loads, and computes the same."""
    model, processor = tiny_model_and_processor()
    pipe = tiny_pipeline(model, processor=processor)
    for part in (model, pipe.unet, pipe.vae, pipe.empty_prompt):
        part.half().float()
    codes = some_codes()
    drawn = pipe(codes=codes, num_inference_steps=1, generator=generators(0, 1), output_type="np").images
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "mine.py").touch()  # not the recipe's: stays

    known = KnownWords.of(["cat"], ["a red cat"], 0.5)
    recipe.assemble.save(pipe, known, tmp_path)
    assert [file.name for file in tmp_path.rglob("*.py")] == ["mine.py"]
    assert not [file for file in tmp_path.rglob("*.json") if "auto_map" in file.read_text()]
    stored = [tensor for file in tmp_path.rglob("*.safetensors") for tensor in load_file(file).values()]
    weights = [tensor for part in (model, pipe.unet, pipe.vae) for tensor in part.parameters()]
    assert sum(tensor.numel() for tensor in stored) < 1.02 * sum(tensor.numel() for tensor in weights)

    loaded = SeedForConditionalGeneration.from_pretrained(tmp_path / "model").state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in model.state_dict().items())
    assert torch.equal(
        SeedTokenizer.from_pretrained(tmp_path / "tokenizer").decode(codes), model.visual_tokenizer.decode(codes)
    )
    assert (
        SeedProcessor.from_pretrained(tmp_path / "tokenizer").tokenizer.get_vocab() == processor.tokenizer.get_vocab()
    )
    again = SeedImagePipeline.from_pretrained(tmp_path / "pipeline")
    assert (
        again(codes=codes, num_inference_steps=1, generator=generators(0, 1), output_type="np").images == drawn
    ).all()
    assert all(read_known_words(tmp_path / folder, "model") == known for folder in ("model", "pipeline"))


@torch.no_grad()
def test_a_run_goes_on_from_a_checkpoint(recipe, capsys, tmp_path):
    """What is taken apart makes the same checkpoint again, with a text encoder for the empty prompt."""
    import disassemble

    disassemble.main(["--work", str(tmp_path)])
    assert not (tmp_path / "teacher" / "unet").exists()  # or recipe.py would skip the teacher
    with pytest.raises(SystemExit):
        disassemble.main(["--work", str(tmp_path)])
    assert f"{tmp_path} is not empty" in capsys.readouterr().err

    vocabulary = recipe.vocabulary.load_vocabulary(tmp_path)
    teacher = recipe.teacher.Teacher(vocabulary)
    teacher.text_encoder.save_pretrained(tmp_path / "teacher" / "text_encoder")
    again = recipe.assemble.load_parts(tmp_path)
    pipe = SeedImagePipeline.from_pretrained(bundled("seed-tiny", "pipeline"))
    for name in ("seed_model", "unet", "vae"):
        weights = getattr(pipe, name).state_dict()
        assert all(torch.equal(weights[key], value) for key, value in getattr(again, name).state_dict().items())
    texts = ["a red apple to the left of a yellow star", "<img>"]
    assert torch.equal(again.processor(texts).input_ids, pipe.processor(texts).input_ids)
    assert again.processor.tokenizer.get_vocab() == pipe.processor.tokenizer.get_vocab()
    silent, _ = recipe.vocabulary.encode_texts(vocabulary, [""])
    torch.testing.assert_close(
        again.empty_prompt(1), teacher.text_encoder(silent).last_hidden_state, atol=2e-3, rtol=2e-3
    )


def test_a_unet_that_goes_on_becomes_part_of_the_checkpoint(recipe, monkeypatch, tmp_path):
    """What the page moves between the teacher and stage II: each stage reads what the stage before has trained.

    Stages of no steps write what they began with; those that the test does not call have their result copied.
    """
    import disassemble
    import loop

    monkeypatch.setattr(loop, "prepare_cpu", lambda: None)  # it sets how this process allocates, for good
    work = tmp_path / "runs" / "on"
    disassemble.main(["--work", str(work)])
    stage = ["--data", "data", "--work", str(work), "--steps", "0"]
    beginner = recipe.teacher.Teacher(recipe.vocabulary.load_vocabulary(work))  # not the bundled UNet
    beginner.text_encoder.save_pretrained(work / "teacher" / "begin" / "text_encoder")
    beginner.unet.save_pretrained(work / "teacher" / "begin" / "unet")
    (work / "codes").mkdir()
    recipe.teacher.main(stage)

    page = (ROOT / "examples" / "seed_tiny" / "README.md").read_text(encoding="utf-8")
    subprocess.run(
        ["bash", "-ec", re.search(r"^cd runs/on;.*?cd \.\./\.\.", page, re.M | re.S)[0]], cwd=tmp_path, check=True
    )
    shutil.copytree(work / "quantization" / "begin", work / "quantization" / "model")
    (work / "codes").mkdir()
    np.save(work / "codes" / "train.npy", np.zeros((4, 32), np.uint16))
    recipe.generation.main(stage)
    recipe.drawing.main(stage)
    shutil.copytree(work / "opt" / "model", work / "language" / "model")
    pipe = recipe.assemble.load_parts(work)
    weights = beginner.unet.half().float().state_dict()
    assert all(torch.equal(weights[name], value) for name, value in pipe.unet.state_dict().items())
