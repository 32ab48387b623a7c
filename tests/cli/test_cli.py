"""`seed-hf`: quick help, one line and status 2 for a user's mistake, whole files for results."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from PIL import Image

import seed_hf
from command_line import refused, run
from seed_hf import SeedImagePipeline
from seed_hf.cli.shared import plain_errors
from seed_hf.environment import environment
from tiny import tiny_tokenizer
from tiny_diffusion import tiny_model_and_processor, tiny_pipeline


LM = str(Path(__file__).parents[2] / "examples" / "seed_opt_2.7b" / "lm.yaml")


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    path = tmp_path_factory.mktemp("images") / "red.png"
    Image.new("RGB", (30, 20), "red").save(path)
    return path


@pytest.fixture
def no_model_is_loaded(monkeypatch):
    def fail(*arguments, **keywords):
        raise AssertionError("A model was loaded before the mistake was found.")

    monkeypatch.setattr("seed_hf.artifacts.loading.load_model", fail)
    monkeypatch.setattr("seed_hf.artifacts.loading.load_pipeline", fail)


# Help


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["see"],
        ["draw"],
        ["tokenize"],
        ["cache-features"],
        ["train"],
        ["convert"],
        ["data", "pictograms"],
        ["evaluate", "retrieval"],
        ["bench", "packing"],
        ["card"],
        ["env"],
    ],
)
def test_help_imports_nothing_heavy(arguments):
    code = f"""
import sys
from seed_hf.cli.app import main
sys.argv = ["seed-hf", *{arguments}, "--help"]
try:
    main()
except SystemExit as done:
    assert done.code == 0, done.code
heavy = {{"torch", "transformers", "diffusers", "datasets", "peft", "numpy", "PIL"}} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout


def test_what_draws_nothing_imports_no_diffusers(tmp_path):
    """It takes seconds, at each start of `see` and `ask`."""
    model, processor = tiny_model_and_processor()
    for part in (model, processor):
        part.save_pretrained(tmp_path / "model")
    Image.new("RGB", (30, 30), "red").save(tmp_path / "a.png")
    code = """
import sys
from seed_hf.cli.app import main
sys.argv = ["seed-hf", "see", "a.png", "--model", "model"]
try:
    main()
except SystemExit as done:
    assert done.code in (0, None), done.code
found = {"diffusers", "datasets"} & set(sys.modules)
assert not found, found
"""
    settings = {"capture_output": True, "text": True, "timeout": 600, "cwd": tmp_path}
    done = subprocess.run([sys.executable, "-c", code], **settings)
    assert done.returncode == 0, done.stderr


def test_help_names_every_command():
    status, out, _ = run("--help")
    assert status == 0
    for command in (
        "see",
        "ask",
        "draw",
        "reconstruct",
        "tokenize",
        "cache-features",
        "train",
        "convert",
        "data",
        "demo",
        "card",
        "push",
        "env",
        "evaluate",
        "bench",
    ):
        assert command in out


def test_version():
    assert run("--version") == (0, f"seed-hf {seed_hf.__version__}\n", "")


def test_env_is_the_environment_of_this_process():
    told = environment()
    assert json.loads(run("env", "--json")[1]) == told
    lines = run("env")[1].splitlines()
    assert [line.split("  ")[0].strip() for line in lines] == list(told)
    assert all(line.endswith(value) for line, value in zip(lines, told.values()))


# Mistakes


@pytest.mark.usefixtures("no_model_is_loaded")
def test_bad_images(tmp_path, image):
    (tmp_path / "text.png").write_text("not an image")
    (tmp_path / "cut.png").write_bytes(image.read_bytes()[:60])
    refused("see", tmp_path / "missing.png", words="no such file")
    refused("see", image, tmp_path / "text.png", words="text.png: not an image")
    refused("see", tmp_path / "cut.png", words="cut.png: damaged or cut off")
    refused("see", tmp_path, words="folder")
    refused("see", "https://example.org/a.png", words="URL")
    refused("ask", tmp_path / "text.png", "what is shown?", words="not an image")
    refused("reconstruct", tmp_path / "text.png", "-o", tmp_path / "a.png", words="not an image")


@pytest.mark.usefixtures("no_model_is_loaded")
def test_bad_outputs(tmp_path, image):
    (tmp_path / "folder.png").mkdir()
    for command in (["draw", "a red apple"], ["reconstruct", image]):
        refused(*command, "-o", tmp_path / "nowhere" / "a.png", words="does not exist")
        refused(*command, "-o", tmp_path / "a.txt", words=".png, .jpg")
        refused(*command, "-o", tmp_path / "a", words="not the name of an image file")
        refused(*command, "-o", tmp_path / "folder.png", words="this is a folder")
    assert [path.name for path in tmp_path.iterdir()] == ["folder.png"]


@pytest.mark.usefixtures("no_model_is_loaded")
@pytest.mark.parametrize(
    "command",
    [
        ["draw", "--prompts", "words.txt"],
        ["tokenize", "images"],
        ["cache-features", "images"],
        ["data", "pictograms"],
        ["data", "scenes"],
        ["demo"],
        ["export"],
        ["evaluate", "judge", "--pictograms", "data"],
        ["evaluate", "--paper-table", "1", "--data-dir", "data"],
    ],
)
def test_a_file_where_a_folder_is_written(tmp_path, command):
    file = tmp_path / "words.txt"
    file.write_text("a red apple")
    refused(*command, "--out", file, words="is a file")
    assert file.read_text() == "a red apple"


@pytest.mark.usefixtures("no_model_is_loaded")
def test_bytes_that_are_no_utf8_are_named(tmp_path, image):
    """The command line hands them on as half surrogate pairs."""
    refused("draw", "a \udcff", "-o", tmp_path / "a.png", words="The prompt holds bytes that are no UTF-8")
    refused("ask", image, "a \udcff", words="The question holds bytes that are no UTF-8")


def test_the_demo_refuses_in_one_line(tmp_path):
    (tmp_path / "out" / "see_and_draw.png").mkdir(parents=True)
    refused("demo", "--out", tmp_path / "out", words="this is a folder, where a file is to be written")
    model, processor = tiny_model_and_processor()
    tiny_pipeline(model.visual_tokenizer, processor=processor).save_pretrained(tmp_path / "bare")
    refused("demo", "--model", tmp_path / "bare", "--out", tmp_path / "new", words="no language model or no processor")
    assert not (tmp_path / "new").exists()


def test_bad_arguments(tmp_path, image):
    refused("see", words="Missing argument")
    refused("draw", "a red apple", words="Missing option")
    refused("draw", " ", "-o", tmp_path / "a.png", words="prompt is empty")
    refused("ask", image, " ", words="question is empty")
    refused("draw", "a red apple", "-o", tmp_path / "a.png", "--steps", 0, words="--steps")
    refused("draw", "a red apple", "-o", tmp_path / "a.png", "-n", 0, words="--num-images")
    refused("paint", words="No such command")
    refused("data", "pictograms", words="either --out DIR")
    refused("data", "pictograms", "--out", tmp_path, "--compare", tmp_path, tmp_path, words="either --out DIR")
    refused("data", "pictograms", "--compare", tmp_path, words="--compare")
    refused("data", "pictograms", "--compare", tmp_path, tmp_path, words="give the folder of a built pictogram set")
    refused("train", "stage-three", "--config", tmp_path / "a.yaml", words="contrastive")
    refused("train", "contrastive", "--config", tmp_path / "a.yaml", words="a.yaml: no such file")
    (tmp_path / "a.yaml").write_text("{}")
    refused(
        "train",
        "contrastive",
        "--full",
        "--config",
        tmp_path / "a.yaml",
        words="--full is for the stages lm and instruct",
    )


def test_bad_model_folders(tmp_path, image):
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "config.json").write_text('{"model_type": "bert"}')
    refused("see", image, "--model", tmp_path / "nowhere", words="no such folder")
    refused("demo", "--out", tmp_path / "out", "--model", tmp_path / "nowhere", words="no such folder")
    refused("see", image, "--model", "nobody/nothing", words="nobody/nothing: no such folder. As a Hub id")
    refused("see", image, "--model", tmp_path, words="holds no artifact")
    refused("see", image, "--model", tmp_path / "foreign", words="'bert'")
    refused("draw", "a", "-o", tmp_path / "a.png", "--model", tmp_path / "foreign", words="not a SeedImagePipeline")


def test_damaged_weights_name_the_folder(tmp_path):
    tiny_pipeline().save_pretrained(tmp_path)
    (tmp_path / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"\x08" + b"\0" * 20)
    refused("draw", "a", "-o", tmp_path / "a.png", "--model", tmp_path, words=f"{tmp_path}: cannot be loaded")


def test_a_pipeline_without_all_its_parts_says_so(folder, image, tmp_path):
    pipe = SeedImagePipeline.from_pretrained(folder, empty_prompt=None)
    pipe.save_pretrained(tmp_path / "parts")
    settings = ["-o", tmp_path / "a.png", "--model", tmp_path / "parts"]
    for command in (["draw", "a"], ["reconstruct", image]):
        refused(*command, *settings, words="needs the embedding of the empty prompt")


@pytest.mark.parametrize("part", ["seed_model", "unet", "vae"])
def test_weights_that_are_nan_are_no_model(tmp_path, image, part):
    pipe = tiny_pipeline(*tiny_model_and_processor()[:1], processor=tiny_model_and_processor()[1])
    with torch.no_grad():
        list(getattr(pipe, part).parameters())[-1].view(-1)[0] = torch.nan
    pipe.save_pretrained(tmp_path / "pipeline")
    words = "holds values that are NaN or infinite"
    refused("draw", "a red apple", "-o", tmp_path / "a.png", "--model", tmp_path / "pipeline", words=words)
    refused("reconstruct", image, "-o", tmp_path / "a.png", "--model", tmp_path / "pipeline", words=words)
    if part == "seed_model":
        for command in (("see", image), ("ask", image, "what is it?")):
            refused(*command, "--model", tmp_path / "pipeline", words=words)


def test_no_such_device(folder, image):
    refused("see", image, "--model", folder, "--device", "toaster", words="device 'toaster'")


def test_a_bare_tokenizer_cannot_caption_or_draw_from_words(tmp_path, image):
    tiny_pipeline(tiny_tokenizer()).save_pretrained(tmp_path)
    refused("see", image, "--model", tmp_path, words="not a SeedForConditionalGeneration")
    refused("draw", "a", "-o", tmp_path / "a.png", "--model", tmp_path, words="no language model")
    status, _, _ = run("reconstruct", image, "-o", tmp_path / "a.png", "--steps", 2, "--model", tmp_path)
    assert status == 0 and Image.open(tmp_path / "a.png").size == (16, 16)


@pytest.mark.parametrize(
    ("blocked", "command"),
    [("pyarrow", ["data", "pictograms", "--out", "made"]), ("datasets", ["train", "lm", "--config", LM, "--check"])],
)
def test_a_package_that_is_missing_is_one_line_and_its_extra(tmp_path, blocked, command):
    code = (
        f"import sys; sys.modules[{blocked!r}] = None; from seed_hf.cli import main; sys.argv[1:] = {command}; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    said = done.stderr.splitlines()[-1]  # a library may have warned before
    assert done.returncode == 2 and said.startswith("seed-hf: ") and "Traceback" not in done.stderr, done.stderr
    assert blocked in said and said.endswith(
        'It is installed by pip install ".[train]" in a clone of this repository.'
    )


def test_debug_shows_the_traceback(tmp_path, monkeypatch):
    monkeypatch.setenv("SEED_HF_DEBUG", "1")
    with pytest.raises(ValueError, match="no such file"):
        run("see", tmp_path / "missing.png")


def test_a_bug_is_not_dressed_up_as_a_mistake(folder, image, monkeypatch):
    def broken(*arguments):
        raise ValueError("a bug")

    monkeypatch.setattr("seed_hf.texts.generate_texts", broken)
    with pytest.raises(ValueError, match="a bug"):
        run("see", image, "--model", folder)


# Work


def test_see(folder, image):
    status, out, _ = run("see", image, image, "--model", folder)
    assert status == 0 and out.count(str(image)) == 2 and "caption" in out
    status, out, _ = run("see", image, "--json", "--model", folder)
    answer = json.loads(out)
    assert answer["image"] == str(image) and isinstance(answer["caption"], str)
    pipe = SeedImagePipeline.from_pretrained(folder)
    assert answer["codes"] == pipe.encode_image(Image.open(image))[0].tolist()


def test_ask(folder, image):
    status, out, _ = run("ask", image, "what is shown?", "--json", "--model", folder)
    assert status == 0 and set(json.loads(out)) == {"image", "question", "answer"}


def test_draw_is_repeatable_and_writes_whole_files(folder, tmp_path):
    for name in ("a.png", "b.png"):
        assert run("draw", "a red apple", "-o", tmp_path / name, "--steps", 2, "--model", folder)[0] == 0
    assert run("draw", "a red apple", "-o", tmp_path / "c.png", "--steps", 2, "--seed", 1, "--model", folder)[0] == 0
    first, again, other = (np.asarray(Image.open(tmp_path / name)) for name in ("a.png", "b.png", "c.png"))
    assert (first == again).all() and not (first == other).all()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png", "c.png"]  # no temporary files left

    status, out, _ = run("draw", "a red apple", "-o", tmp_path / "d.jpg", "-n", 2, "--steps", 2, "--model", folder)
    assert status == 0 and out.split() == [str(tmp_path / "d-1.jpg"), str(tmp_path / "d-2.jpg")]
    assert Image.open(tmp_path / "d-2.jpg").format == "JPEG"


def test_names_that_are_no_utf8_are_printed_as_escapes(folder, image, tmp_path):
    odd = tmp_path / os.fsdecode(b"\xe9.png")
    odd.write_bytes(Path(image).read_bytes())
    for arguments in (
        ("see", odd),
        ("reconstruct", image, "-o", odd, "--steps", 2),
        ("draw", "a red apple", "-o", odd, "--steps", 2),
    ):
        status, out, _ = run(*arguments, "--model", folder)
        assert status == 0 and "\\udce9.png" in out, arguments


def test_several_images_are_those_of_the_following_seeds(folder, tmp_path):
    arguments = ["draw", "a red apple", "--steps", 2, "--temperature", 2.0, "--model", folder]
    run(*arguments, "-o", tmp_path / "many.png", "-n", 2, "--seed", 5)
    run(*arguments, "-o", tmp_path / "one.png", "--seed", 6)
    assert (tmp_path / "many-2.png").read_bytes() == (tmp_path / "one.png").read_bytes()


def test_reconstruct(folder, image, tmp_path):
    status, out, _ = run("reconstruct", image, "-o", tmp_path / "a.webp", "--steps", 2, "--model", folder)
    assert status == 0 and out.strip() == str(tmp_path / "a.webp")
    assert Image.open(tmp_path / "a.webp").format == "WEBP"


def test_what_is_too_long_or_in_the_way_is_one_line(tmp_path):
    words, image = "red " * 500, tmp_path / "a.png"
    Image.new("RGB", (30, 30), "red").save(image)
    before = image.read_bytes()
    refused("ask", image, words, words="there is room for no more")
    refused("draw", words, "-o", tmp_path / "b.png", words="there is room for no more")
    refused("draw", "an apple", "-o", tmp_path / "b.png", "--seed", 10**22, words="--seed")
    refused("reconstruct", image, "-o", image, words="would replace the input image")
    refused("demo", "--model", tmp_path, "--out", tmp_path / "out", words="holds no artifact")
    assert image.read_bytes() == before and sorted(path.name for path in tmp_path.iterdir()) == ["a.png"]


def test_a_package_that_another_library_misses_is_told_in_one_line(capsys):
    """transformers raises a plain ImportError, which has no name of a module."""
    with pytest.raises(typer.Exit), plain_errors():
        raise ImportError("You need to install `bitsandbytes` for this.")
    assert capsys.readouterr().err == "seed-hf: You need to install `bitsandbytes` for this.\n"
