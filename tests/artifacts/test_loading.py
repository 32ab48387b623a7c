"""One way to open an artifact: from a folder, a Hub id, or the name of a bundled checkpoint."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from seed_hf import bundled
from seed_hf.artifacts.hub_ids import is_hub_id, split_hub_id
from seed_hf.artifacts.loading import (
    load_language_model,
    load_model,
    load_pipeline,
    load_pretrained,
    load_tokenizer,
    locate,
    pretrained_arguments,
)
from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer
from stand_in_hub import Repository, StandInHub
from tiny_artifacts import save_artifact


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    place = tmp_path_factory.mktemp("artifacts")
    kinds = ("tokenizer", "model", "language_model", "pipeline")
    return {kind: save_artifact(kind, place / kind.replace("_", "-")) for kind in kinds}


def equal(model, other) -> bool:
    found, wanted = model.state_dict(), other.state_dict()
    return found.keys() == wanted.keys() and all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_each_kind_opens_with_its_processor(folders):
    tokenizer, image_processor = load_tokenizer(folders["tokenizer"], device="cpu")
    assert equal(tokenizer, SeedTokenizer.from_pretrained(folders["tokenizer"])) and not tokenizer.training
    assert image_processor.size["height"] == 28
    model, processor = load_model(str(folders["model"]), device="cpu")
    assert type(model).__name__ == "SeedForConditionalGeneration" and not model.training
    assert type(processor).__name__ == "SeedProcessor"
    language_model, text_tokenizer = load_language_model(folders["language_model"], device="cpu")
    assert language_model.config.text_vocab_size and len(text_tokenizer)
    pipe = load_pipeline(folders["pipeline"], device="cpu")
    assert type(pipe).__name__ == "SeedImagePipeline" and pipe.processor is not None


def test_a_processor_that_writes_for_another_model_is_refused(folders, tmp_path):
    """Its prompts would be wrong without a word; a pipeline refuses it, too."""
    shutil.copytree(folders["model"], tmp_path / "model")
    config = tmp_path / "model" / "config.json"
    values = json.loads(config.read_text())
    values["text_config"]["prompt_format"] = "vicuna"
    config.write_text(json.dumps(values))
    with pytest.raises(ValueError, match="model: .*in the format 'seed', but the language model reads 'vicuna'"):
        load_model(tmp_path / "model", device="cpu")


def test_a_tokenizer_without_a_processor_gets_the_default_one_of_its_size(folders, tmp_path):
    shutil.copytree(folders["tokenizer"], tmp_path / "bare")
    (tmp_path / "bare" / "preprocessor_config.json").unlink()
    tokenizer, image_processor = load_tokenizer(tmp_path / "bare", device="cpu")
    assert image_processor.size["height"] == tokenizer.config.vision_config.image_size


def test_a_pipeline_holds_a_model(folders):
    model, processor = load_model(folders["pipeline"], device="cpu")
    assert equal(model, load_pipeline(folders["pipeline"], device="cpu").seed_model)
    assert type(processor).__name__ == "SeedProcessor"


def test_components_take_the_place_of_stored_ones(folders):
    model, processor = load_model(folders["pipeline"], device="cpu")
    pipe = load_pipeline(folders["pipeline"], device="cpu", seed_model=model, processor=processor)
    assert pipe.seed_model is model and pipe.processor is processor


@pytest.mark.parametrize("source", (None, "seed-tiny"))
@pytest.mark.parametrize("kind", ("tokenizer", "model", "pipeline"))
def test_seed_tiny_by_name_and_by_default(source, kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert locate(source, kind).folder == bundled("seed-tiny", kind)


def test_a_folder_of_that_name_comes_before_the_bundled_checkpoint(folders, tmp_path, monkeypatch):
    shutil.copytree(folders["model"], tmp_path / "seed-tiny")
    monkeypatch.chdir(tmp_path)
    assert locate("seed-tiny", "model").folder == Path("seed-tiny")


def test_a_whole_checkpoint_is_taken_by_its_parts():
    checkpoint = bundled("seed-tiny", "model").parent
    for kind in ("tokenizer", "model", "pipeline"):
        assert locate(checkpoint, kind).folder == bundled("seed-tiny", kind)


def test_number_types(folders):
    assert load_tokenizer(folders["tokenizer"], device="cpu")[0].dtype == torch.float32
    half = load_tokenizer(folders["tokenizer"], device="cpu", dtype=torch.float16)[0]
    assert half.dtype == torch.float16
    assert load_tokenizer(folders["tokenizer"], device="cpu", dtype="auto")[0].dtype == torch.float32


@pytest.mark.parametrize(
    "kind, other, words",
    (
        ("model", "tokenizer", "'seed_tokenizer', which is not a SeedForConditionalGeneration"),
        ("tokenizer", "language_model", ".*, which is not a SeedTokenizer"),
        ("pipeline", "model", "'seed', which is not a SeedImagePipeline"),
        ("language_model", "model", "'seed', which is not a SeedForCausalLM"),
    ),
)
def test_the_wrong_kind_is_named(folders, kind, other, words):
    with pytest.raises(ValueError, match=words) as error:
        locate(folders[other], kind)
    assert str(error.value).startswith(f"{folders[other]}: holds ") and "\n" not in str(error.value)


def test_a_foreign_model_and_an_empty_folder_are_named(tmp_path):
    with pytest.raises(ValueError, match="holds no artifact"):
        locate(tmp_path, "model")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "opt"}))
    with pytest.raises(ValueError, match="holds a model of the type 'opt', which is not a SeedForCond"):
        locate(tmp_path, "model")


@pytest.mark.parametrize(
    "load, kind", ((load_model, "model"), (load_pipeline, "pipeline"), (load_tokenizer, "tokenizer"))
)
def test_damaged_weights_name_the_folder(folders, tmp_path, load, kind):
    copy = Path(shutil.copytree(folders[kind], tmp_path / "copy"))
    weights = max(copy.rglob("*.safetensors"), key=lambda path: path.stat().st_size)
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(ValueError, match="cannot be loaded") as error:
        load(copy, device="cpu")
    assert str(copy) in str(error.value)


def test_an_unusable_device_is_refused_before_anything_is_read(folders):
    with pytest.raises(ValueError, match="device 'toaster'"):
        load_model(folders["model"], device="toaster")


@pytest.mark.parametrize(
    "name", ("/no/such/folder", "./model", "model", "a/../b", "a//b", "../a/b", "~/a", "a/b/../c")
)
def test_names_that_cannot_be_hub_ids_ask_nobody(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="no such folder, and not a Hub id"):
        locate(name, "model")


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "weights.safetensors").touch()
    with pytest.raises(FileNotFoundError, match="this is a file, not a folder"):
        locate(tmp_path / "weights.safetensors", "model")


def test_the_syntax_of_a_hub_id():
    assert is_hub_id("owner/name") and is_hub_id("o-1/n.2_x")
    for name in ("name", "a/b/c", "../b", "a/..", "/b", "a/", "a b/c", "", None, 3, "a/b--c", "a/b.git", Path("a/b")):
        assert not is_hub_id(name)
    assert is_hub_id("name", owner_optional=True) and not is_hub_id("a/b/c", owner_optional=True)
    assert split_hub_id("owner/name") == ("owner/name", "")
    assert split_hub_id("owner/name/one/two") == ("owner/name", "one/two")
    for name in ("owner", "owner/name/", "owner/name/../x", "./owner/name", "/owner/name", None):
        assert split_hub_id(name) is None


# ---- the Hub ----

# One process for many questions, since starting one takes long: [function of the module, arguments] -> its answer, and
# the weights that are in the cache then.
ASK = """
import json, os, sys
from pathlib import Path
from seed_hf.artifacts import loading

def ask(name, *arguments):
    try:
        if name == "load_pretrained":
            from transformers import AutoTokenizer
            arguments = (AutoTokenizer, *arguments)
        options = {"device": "cpu"} if name in ("load_model", "load_tokenizer", "load_pipeline") else {}
        found = getattr(loading, name)(*arguments, **options)
        if name == "locate":
            return found.folder.as_posix()
        return type(found[0] if isinstance(found, tuple) else found).__name__
    except (ValueError, OSError) as error:
        return f"{type(error).__name__}: {error}"

answers = []
for question in json.loads(sys.argv[1]):
    said = ask(*question)
    cached = [path.relative_to(os.environ["HF_HOME"]).as_posix() for path in Path(os.environ["HF_HOME"]).rglob("*")]
    answers.append([said, sorted(name for name in cached if name.endswith((".safetensors", ".bin")))])
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def hub(folders):
    def content(folder: Path) -> dict[str, bytes]:
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    with StandInHub() as hub:
        for folder in folders.values():
            hub.repositories["model", f"tester/{folder.name}"] = Repository(private=False, files=content(folder))
        parts = {
            f"{kind}/{name}": file for kind in ("model", "tokenizer") for name, file in content(folders[kind]).items()
        }
        hub.repositories["model", "tester/parts"] = Repository(private=False, files=parts | {"model.bin": b"pickle"})
        yield hub


def ask(hub, home, *questions, **environment):
    """What the program says, in a process with an empty standard input: nothing may ask for a yes."""
    done = subprocess.run(
        [sys.executable, "-c", ASK, json.dumps(questions)],
        stdin=subprocess.DEVNULL, env={**hub.environment(home), **environment}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def answers(hub, tmp_path_factory):
    """Question -> answer and cached weights, asked in this order with one cache, which is empty at first."""
    questions = (
        ("locate", "tester/language-model", "pipeline"),
        ("load_tokenizer", "tester/parts/tokenizer"),
        ("load_model", "tester/pipeline"),
        ("load_pipeline", "tester/pipeline"),
        ("load_pretrained", "tester/parts/model"),
        ("locate", "outputs/stage-too", "model"),
        ("load_pretrained", "outputs/stage-3"),
    )
    home = tmp_path_factory.mktemp("home")
    found = dict(zip(questions, ask(hub, home, *questions)))
    assert not hub.unknown
    return {"home": home, **found}


def repositories(weights: list[str]) -> set[tuple[str, str]]:
    """(repository, folder in it) of cached weights."""
    parts = [name.removeprefix("hub/models--tester--").split("/") for name in weights]
    return {(part[0], "/".join(part[3:-1])) for part in parts}


def test_the_wrong_kind_is_found_before_weights_are_fetched(answers):
    said, weights = answers["locate", "tester/language-model", "pipeline"]
    assert said.startswith("ValueError: tester/language-model: holds a model of the type 'seed_text', which is not")
    assert not weights


def test_a_folder_of_a_repository(answers):
    said, weights = answers["load_tokenizer", "tester/parts/tokenizer"]
    assert said == "SeedTokenizer" and repositories(weights) == {("parts", "tokenizer")}


def test_a_hub_id_opens_like_a_folder_and_only_what_is_needed_is_fetched(answers):
    said, weights = answers["load_model", "tester/pipeline"]
    assert said == "SeedForConditionalGeneration"
    assert repositories(weights) == {("parts", "tokenizer"), ("pipeline", "seed_model")}
    said, weights = answers["load_pipeline", "tester/pipeline"]
    assert said == "SeedImagePipeline" and ("pipeline", "unet") in repositories(weights)
    assert not [name for name in weights if name.endswith(".bin")]


def test_other_classes_open_the_same_way(answers, folders):
    kind = type(load_pretrained(AutoTokenizer, folders["model"])).__name__
    assert answers["load_pretrained", "tester/parts/model"][0] == kind
    assert pretrained_arguments(folders["model"]) == (os.fspath(folders["model"]), {})
    with pytest.raises(ValueError, match="cannot be loaded"):
        load_pretrained(SeedTokenizer, folders["pipeline"])


@pytest.mark.parametrize(
    "question", (("locate", "outputs/stage-too", "model"), ("load_pretrained", "outputs/stage-3"))
)
def test_a_typo_asks_the_hub_once(answers, hub, question):
    said = answers[question][0]
    assert said.startswith(f"FileNotFoundError: {question[1]}: no such folder, and no such repository on the Hub.")
    assert len([request for request in hub.requests if question[1] in request]) == 1


def test_offline_the_cache_answers_and_a_typo_asks_nobody(answers, hub):
    before = len(hub.requests)
    cached, typo = ask(
        hub,
        answers["home"],
        ("locate", "tester/pipeline", "model"),
        ("locate", "outputs/x", "model"),
        HF_HUB_OFFLINE="1",
    )
    assert Path(cached[0]).name == "seed_model" and (Path(cached[0]) / "config.json").is_file()
    assert typo[0].startswith("FileNotFoundError: outputs/x: no such folder.") and "not in the cache" in typo[0]
    (broken,) = ask(hub, answers["home"], ("locate", "outputs/x", "model"), HF_ENDPOINT="http://127.0.0.1:9")
    assert broken[0].startswith("FileNotFoundError: outputs/x: no such folder.") and "cannot be reached" in broken[0]
    assert len(hub.requests) == before
