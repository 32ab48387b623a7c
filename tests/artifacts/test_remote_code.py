"""Artifacts carry their code: without the package they load and compute the same."""

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import remote_child
from seed_hf import SeedForCausalLM, SeedImagePipeline
from seed_hf.pipelines.hub_code import single_file
from tiny import tiny_text_tokenizer
from tiny_diffusion import tiny_model_and_processor, tiny_pipeline
from tiny_families import FAMILIES, plain_model
from tiny_language import CODEBOOK_SIZE


# The oldest libraries that setup.py allows; `make test` builds that environment.
LOWEST = os.environ.get("SEED_HF_LOWEST_PYTHON")
SUPPORT = Path(__file__).parents[1] / "support"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Every kind of artifact, as `save_pretrained` writes it."""
    folder = tmp_path_factory.mktemp("artifacts")
    model, processor = tiny_model_and_processor()
    model.visual_tokenizer.save_pretrained(folder / "tokenizer")
    processor.image_processor.save_pretrained(folder / "tokenizer")
    model.language_model.save_pretrained(folder / "language_model")
    model.save_pretrained(folder / "model")
    processor.save_pretrained(folder / "model")
    tiny_pipeline(model, processor=processor).save_pretrained(folder / "pipeline")
    for family, (_, extend) in FAMILIES.items():
        plain_model(family).save_pretrained(folder / "plain" / family)
        tiny_text_tokenizer().save_pretrained(folder / "plain" / family)
        settings = {"codebook_size": CODEBOOK_SIZE, "code_dim": 8, "codebook": torch.randn(CODEBOOK_SIZE, 8)}
        extended = extend.from_language_model(folder / "plain" / family, visual_embedding="projected", **settings)
        extended.save_pretrained(folder / "families" / family)
    generator = torch.Generator().manual_seed(0)
    inputs = {
        "pixel_values": torch.randn(2, 3, 28, 28, generator=generator),
        "input_ids": torch.randint(3, 300, (2, 9), generator=generator),
        "picture": torch.randint(0, 256, (30, 40, 3), generator=generator, dtype=torch.uint8),
    }
    save_file(inputs, folder / "inputs.safetensors")
    for name, part in (("tokenizer", ""), ("language_model", ""), ("model", ""), ("pipeline", "unet")):
        shutil.copytree(folder / name, folder / "broken" / name)
        path = next((folder / "broken" / name / part).glob("*.safetensors"))
        weights = load_file(path)
        weights.pop(max(weights))
        save_file(weights, path, metadata={"format": "pt"})
    return folder


def without_the_package(folder, tmp_path, python=sys.executable) -> dict[str, torch.Tensor]:
    environment = {**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
    command = [python, str(SUPPORT / "remote_child.py"), str(folder), str(tmp_path / "out.safetensors")]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "Expected types" not in done.stderr  # diffusers' complaint about components of another class
    return load_file(tmp_path / "out.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("python", [sys.executable, LOWEST], ids=["newest", "lowest"])
def test_equal_to_the_last_bit_without_the_package(folder, tmp_path, python):
    if python is None:
        pytest.skip("SEED_HF_LOWEST_PYTHON is not set; `make test` sets it")
    expected = remote_child.compute(folder, SeedImagePipeline)
    found = without_the_package(folder, tmp_path, python)
    assert sorted(found) == sorted(expected)
    assert [name for name in expected if not torch.equal(found[name], expected[name])] == []
    assert not torch.equal(expected["from_prompt"], expected["from_image"])


@pytest.mark.slow
def test_code_that_is_missing_or_changed_is_noticed(folder, tmp_path):
    """The child runs only the code in the folder: without it, or with other code, it fails."""
    broken = shutil.copytree(folder, tmp_path / "broken")
    code = broken / "pipeline" / "seed_model" / "diffusers_modeling_seed.py"
    code.write_text(code.read_text().replace("class SeedForConditionalGeneration", "class Another"))
    with pytest.raises(AssertionError, match="SeedForConditionalGeneration"):
        without_the_package(broken, tmp_path)


def test_files_of_each_kind(folder):
    kinds = ("tokenizer", "model", "pipeline")
    written = {kind: {path.name for path in (folder / kind).iterdir()} for kind in kinds}
    code = {"configuration_seed.py", "modeling_seed_tokenizer.py", "modeling_seed_quantizer.py"}
    assert code | {"config.json", "model.safetensors", "preprocessor_config.json"} <= written["tokenizer"]
    assert "modeling_seed.py" not in written["tokenizer"]
    more = {"modeling_seed.py", "processing_seed.py", "tokenizer.json", "chat_template.jinja"}
    assert code | more <= written["model"]
    assert {"model_index.json", "pipeline_seed_image.py"} <= written["pipeline"]
    index = json.loads((folder / "pipeline" / "model_index.json").read_text())
    assert index["_class_name"] == ["pipeline_seed_image", "SeedImagePipeline"]
    assert index["seed_model"] == ["diffusers_modeling_seed", "SeedForConditionalGeneration"]
    for path in folder.rglob("*.json"):
        assert str(folder) not in path.read_text(), f"{path} tells where it was saved"


def test_the_package_uses_its_own_classes(folder):
    """With the package installed, transformers does not ask to trust the code in a folder, and does not run it."""
    pipe = SeedImagePipeline.from_pretrained(folder / "pipeline")
    for part in (pipe, pipe.seed_model, pipe.processor, pipe.empty_prompt):
        assert type(part).__module__.startswith("seed_hf.")
    assert isinstance(pipe.seed_model.language_model, SeedForCausalLM)


def test_one_file_for_a_module_and_what_it_needs():
    text = single_file("seed_hf.modeling.modeling_seed")
    compile(text, "modeling_seed.py", "exec")
    imports = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)]
    assert any(node.module == "transformers" for node in imports)
    assert not [node.module for node in imports if node.level or node.module.startswith("seed_hf")]
    whole = text.index("class SeedForConditionalGeneration(")
    assert text.index("class SeedTokenizerConfig") < text.index("class SeedTokenizer(") < whole
    assert text.index("class SeedTextConfig") < text.index("class SeedForCausalLM(") < whole


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        ("X = 1", "from .a import Y\nX = 2", "'X' is one thing in .*a and another in .*b"),
        ("import json as x", "from .a import Y\nimport math as x", "'x' is one thing"),
        ("X = 1", "from .a import X as Y", "imported as they are"),
        ("X = 1", "def f():\n    from .a import X", "must stand at the top"),
    ],
)
def test_what_does_not_fit_into_one_file_is_refused(tmp_path, monkeypatch, a, b, words):
    package = tmp_path / "pack_of_two"
    package.mkdir()
    for name, text in (("__init__", ""), ("a", a), ("b", b)):
        (package / f"{name}.py").write_text(text + "\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "pack_of_two", raising=False)
    with pytest.raises(ValueError, match=words):
        single_file("pack_of_two.b")


class Mine(SeedImagePipeline):
    """The script of a user's own class may hold secrets."""


def test_code_of_the_user_is_not_published(tmp_path):
    model, processor = tiny_model_and_processor()
    ours = tiny_pipeline(model, processor=processor)
    parts = {name: part for name, part in ours.components.items() if part is not None}
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.json").write_text("// no JSON")
    parts["unet"] = torch.compile(parts["unet"], backend="eager")
    Mine(**parts).save_pretrained(tmp_path)
    assert not list(tmp_path.rglob("test_remote_code.py")) and (tmp_path / "notes" / "a.json").exists()
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert index["_class_name"] == ["pipeline_seed_image", "SeedImagePipeline"]
    assert index["unet"] == ["diffusers", "UNet2DConditionModel"]
    assert SeedImagePipeline.from_pretrained(tmp_path).seed_model.config.model_type == "seed"


def test_no_folder_of_a_component_is_told(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(folder)
    SeedImagePipeline.from_pretrained("pipeline").save_pretrained(tmp_path / "again")  # by a relative path
    assert "_name_or_path" not in json.loads((tmp_path / "again" / "unet" / "config.json").read_text())
