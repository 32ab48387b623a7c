"""What a user of the package meets first: light imports, the public names, the Auto classes, the bundle."""

import subprocess
import sys

import pytest

import seed_hf
from seed_hf.artifacts import bundled as bundle
from tiny import tiny_tokenizer
from tiny_artifacts import save_artifact


PUBLIC = (
    "SeedTokenizer",
    "SeedTokenizerConfig",
    "SeedTextConfig",
    "SeedLlamaConfig",
    "SeedQwen3Config",
    "SeedForCausalLM",
    "SeedLlamaForCausalLM",
    "SeedQwen3ForCausalLM",
    "SeedConfig",
    "SeedForConditionalGeneration",
    "SeedImageProcessor",
    "SeedProcessor",
    "SeedImagePipeline",
    "bundled",
)


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_the_package_is_light():
    heavy = "{'torch', 'transformers', 'diffusers', 'peft', 'numpy'}"
    assert run_python(f"import sys, seed_hf; dir(seed_hf); print({heavy} & set(sys.modules))") == "set()"


def test_a_public_class_registers_all_of_them():
    code = """
from seed_hf import SeedTokenizerConfig
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForMultimodalLM, AutoProcessor
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING
import seed_hf
tokenizer, text, both = (AutoConfig.for_model(name) for name in ("seed_tokenizer", "seed_text", "seed"))
assert AutoModel._model_mapping[type(tokenizer)] is seed_hf.SeedTokenizer
assert AutoModel._model_mapping[type(both)] is seed_hf.SeedForConditionalGeneration
assert AutoModelForMultimodalLM._model_mapping[type(both)] is seed_hf.SeedForConditionalGeneration
assert AutoModelForCausalLM._model_mapping[type(text)] is seed_hf.SeedForCausalLM
assert PROCESSOR_MAPPING[type(both)] is seed_hf.SeedProcessor
print("ok")
"""
    assert run_python(code) == "ok"


def test_any_public_name_opens_saved_folders_without_their_code(tmp_path):
    """`bundled`, too. transformers would ask "run the custom code?", and a "y" would run it."""
    for kind in ("tokenizer", "language_model", "model"):
        save_artifact(kind, tmp_path / kind)
    for code in tmp_path.rglob("*_seed.py"):
        code.write_text("raise SystemExit('ran')")
    code = f"""
import builtins
builtins.input = lambda question="": exit("asked: " + question)
from seed_hf import bundled
from transformers import AutoImageProcessor, AutoModel, AutoModelForCausalLM, AutoProcessor, AutoTokenizer, pipeline
folder = {str(tmp_path)!r}
opened = [
    AutoModel.from_pretrained(bundled("seed-tiny", "tokenizer")),
    AutoModel.from_pretrained(folder + "/tokenizer"),
    AutoImageProcessor.from_pretrained(folder + "/tokenizer"),
    pipeline("image-feature-extraction", model=folder + "/tokenizer").model,
    AutoModelForCausalLM.from_pretrained(folder + "/language_model"),
    pipeline("text-generation", model=folder + "/language_model").model,
    AutoModel.from_pretrained(folder + "/model"),
    AutoProcessor.from_pretrained(folder + "/model"),
]
assert all(type(thing).__module__.startswith("seed_hf.") for thing in opened), opened
AutoTokenizer.from_pretrained(folder + "/model")
print("ok")
"""
    assert run_python(code) == "ok"


def test_public_names():
    assert set(PUBLIC) == set(seed_hf.__all__) - {"__version__"}
    assert set(PUBLIC) < set(dir(seed_hf))
    for name in PUBLIC:
        assert getattr(seed_hf, name).__name__ == name
    with pytest.raises(AttributeError, match="SeedTokenizer"):
        seed_hf.SeedTokeniser  # noqa: B018


def test_the_version_is_that_of_the_distribution():
    from importlib.metadata import version

    assert seed_hf.__version__ == version("seed_hf")


def test_auto_model_loads_a_saved_tokenizer(tmp_path):
    from transformers import AutoModel

    tiny_tokenizer().save_pretrained(tmp_path)
    assert type(AutoModel.from_pretrained(tmp_path)) is seed_hf.SeedTokenizer


def test_a_public_class_registers_the_image_processor():
    code = """
from seed_hf import SeedImageProcessor, SeedTokenizerConfig
from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING
assert IMAGE_PROCESSOR_MAPPING[SeedTokenizerConfig]["pil"] is SeedImageProcessor
print("ok")
"""
    assert run_python(code) == "ok"


def test_auto_image_processor_loads_a_saved_one(tmp_path):
    from transformers import AutoImageProcessor

    tiny_tokenizer().save_pretrained(tmp_path)
    seed_hf.SeedImageProcessor(size={"height": 28, "width": 28}).save_pretrained(tmp_path)
    image_processor = AutoImageProcessor.from_pretrained(tmp_path)
    assert type(image_processor) is seed_hf.SeedImageProcessor and image_processor.size["height"] == 28


def test_bundled_finds_what_is_there(tmp_path, monkeypatch):
    (tmp_path / "seed-tiny" / "model").mkdir(parents=True)
    (tmp_path / "seed-tiny" / "tokenizer").mkdir()
    monkeypatch.setattr(bundle, "CHECKPOINTS", tmp_path)
    assert seed_hf.bundled("seed-tiny", "model") == tmp_path / "seed-tiny" / "model"
    with pytest.raises(ValueError, match="'pipeline', only: model, tokenizer"):
        seed_hf.bundled("seed-tiny", "pipeline")
    with pytest.raises(ValueError, match="'seed-huge'.*seed-tiny"):
        seed_hf.bundled("seed-huge", "model")
    monkeypatch.setattr(bundle, "CHECKPOINTS", tmp_path / "nowhere")
    with pytest.raises(ValueError, match="none"):
        seed_hf.bundled("seed-tiny", "model")
