"""Folders that version 0.1 wrote load, and give what they gave then; see `tests/fixtures/README.md`."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoProcessor

from seed_hf import SeedForConditionalGeneration, SeedImagePipeline, SeedProcessor, SeedTokenizer
from seed_hf.artifacts.kinds import kind_of
from seed_hf.artifacts.loading import load_language_model, load_model, load_pipeline, load_tokenizer
from seed_hf.data.features.cached import CachedFeatures, open_features
from seed_hf.data.features.caching import cache_features
from seed_hf.data.jobs.tokenizing import tokenize_images
from seed_hf.data.sources.source import open_source
from tiny import tiny_text_encoder, tiny_text_tokenizer


LOWEST = os.environ.get("SEED_HF_LOWEST_PYTHON")
SAVED = Path(__file__).parents[1] / "fixtures" / "saved_by_0.1"
KINDS = ("tokenizer", "language_model", "model", "pipeline", "adapter", "dataset")
PROMPT, QUESTION = "the blue fire engine", "what is shown?"


@pytest.fixture(scope="module")
def expected() -> dict[str, torch.Tensor]:
    return load_file(SAVED / "expected.safetensors")


@pytest.fixture
def images(expected) -> list[Image.Image]:
    return [Image.fromarray(pixels.numpy()) for pixels in expected["images"]]


def close(found: torch.Tensor, wanted: torch.Tensor) -> None:
    """Between CPUs with AVX2 and AVX-512 1e-5 is enough; without vector instructions logits differ by 2.4e-5."""
    torch.testing.assert_close(found, wanted, atol=5e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_kind_is_recognised(kind):
    assert kind_of(SAVED / kind) == kind


@torch.no_grad()
def test_tokenizer(expected, images):
    tokenizer, image_processor = load_tokenizer(SAVED / "tokenizer", device="cpu")
    pixel_values = image_processor(images, return_tensors="pt").pixel_values
    close(pixel_values, expected["pixel_values"])
    codes = tokenizer.encode(pixel_values)
    assert torch.equal(codes, expected["codes"])
    close(tokenizer.decode(codes), expected["generation_embeddings"])
    close(tokenizer.get_image_features(codes=codes).pooler_output, expected["image_features"])


@pytest.mark.parametrize("kind", ["tokenizer", "model", "pipeline/seed_model"])
def test_an_option_that_is_gone_is_forgotten_where_it_was_off(kind, caplog, tmp_path):
    """The code memory: the folders name it with a width of 0, and their weights have none."""
    config = AutoConfig.from_pretrained(SAVED / kind)
    assert "generation_memory" in (SAVED / kind / "config.json").read_text() and not caplog.records
    config.save_pretrained(tmp_path)
    assert "generation_memory" not in (tmp_path / "config.json").read_text()
    settings = json.loads((SAVED / kind / "config.json").read_text())
    settings.get("tokenizer_config", settings)["generation_memory_dim"] = 24
    (tmp_path / "config.json").write_text(json.dumps(settings))
    with pytest.raises(ValueError, match="these weights have a code memory, which this version no longer has"):
        AutoConfig.from_pretrained(tmp_path)


@torch.no_grad()
def test_language_model(expected):
    model, words = load_language_model(SAVED / "language_model", device="cpu")
    assert model.config.model_type == "seed_text" and model.config.visual_embedding == "projected"
    close(model(expected["lm_ids"]).logits, expected["lm_logits"])
    made = model.generate(expected["lm_ids"], do_sample=False, max_new_tokens=40)
    assert torch.equal(made, expected["lm_greedy"])
    assert words.decode(words(PROMPT).input_ids, skip_special_tokens=True) == PROMPT
    again = AutoModelForCausalLM.from_pretrained(SAVED / "language_model")
    assert type(again) is type(model)


@torch.no_grad()
def same_as_then(name: str, model, processor, images, expected) -> None:
    """Prompts, logits and greedy searches of a model, or of it with its adapter."""
    prompts = {"caption": processor.caption(images), "ask": processor.ask(images, [QUESTION] * 2)}
    prompts["draw"] = processor.draw([PROMPT, "a red apple"])
    for task, inputs in prompts.items():
        assert torch.equal(inputs["input_ids"], expected[f"{task}_ids"]), task
        close(model(**inputs).logits[:1], expected[f"{name}_{task}_logits"])
        mode = "image" if task == "draw" else "text"
        made = model.generate(**inputs, generation_mode=mode, do_sample=False, max_new_tokens=40)
        assert torch.equal(made, expected[f"{name}_{task}_greedy"]), task


def test_model(expected, images):
    same_as_then("model", *load_model(SAVED / "model", device="cpu"), images, expected)
    assert type(AutoModel.from_pretrained(SAVED / "model")) is SeedForConditionalGeneration
    assert type(AutoProcessor.from_pretrained(SAVED / "model")) is SeedProcessor


def test_adapter(expected, images, monkeypatch):
    monkeypatch.chdir(SAVED)  # it names its base as a folder
    model = SeedForConditionalGeneration.from_pretrained("adapter").eval()
    same_as_then("adapter", model, SeedProcessor.from_pretrained("model"), images, expected)
    assert not torch.equal(expected["adapter_caption_logits"], expected["model_caption_logits"])


REMOTE = """
import sys
sys.modules["seed_hf"] = None  # whoever imports it fails, installed or not
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForMultimodalLM, AutoProcessor
torch.set_num_threads(1)
folder, out = sys.argv[1:]
model = AutoModelForMultimodalLM.from_pretrained(folder + "/model", trust_remote_code=True).eval()
processor = AutoProcessor.from_pretrained(folder + "/model", trust_remote_code=True)
inputs = processor.caption(list(load_file(folder + "/expected.safetensors")["images"].numpy()))
made = model.generate(**inputs, generation_mode="text", do_sample=False, max_new_tokens=40)
with torch.no_grad():
    save_file({"greedy": made, "logits": model(**inputs).logits[:1].contiguous()}, out)
"""


@pytest.mark.slow
@pytest.mark.parametrize("python", [sys.executable, LOWEST], ids=["newest", "lowest"])
def test_remote_code(expected, tmp_path, python):
    """The code that 0.1 wrote beside the weights runs where the package is not installed."""
    if python is None:
        pytest.skip("SEED_HF_LOWEST_PYTHON is not set; `make test` sets it")
    environment = {**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
    command = [python, "-c", REMOTE, str(SAVED), str(tmp_path / "out.safetensors")]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    found = load_file(tmp_path / "out.safetensors")
    assert torch.equal(found["greedy"], expected["model_caption_greedy"])
    close(found["logits"], expected["model_caption_logits"])


@pytest.mark.parametrize("name", ["prompt", "codes"])
def test_pipeline(expected, name):
    pipe = load_pipeline(SAVED / "pipeline", device="cpu")
    pipe.set_progress_bar_config(disable=True)
    inputs = {"prompt": PROMPT} if name == "prompt" else {"codes": expected["codes"]}
    generators = [torch.Generator().manual_seed(i) for i in range(len(expected[f"drawn_from_{name}"]))]
    drawn = pipe(**inputs, num_inference_steps=3, generator=generators, output_type="np")
    assert torch.equal(drawn.codes, expected[f"drawn_from_{name}_codes"])
    close(torch.from_numpy(drawn.images), expected[f"drawn_from_{name}"])
    assert isinstance(pipe, SeedImagePipeline)


@pytest.fixture
def source():
    """What 0.1 read. A job remembers the files of its source: it goes on with no others."""
    return open_source(SAVED / "images.parquet")


def test_dataset(source, tmp_path):
    """Its rows are those of today, and a job of today takes it for its own finished work."""
    tokenizer = SeedTokenizer.from_pretrained(SAVED / "tokenizer").eval()
    shutil.copytree(SAVED / "dataset", tmp_path / "dataset")
    before = {path: path.read_bytes() for path in sorted((tmp_path / "dataset").glob("codes-*"))}
    settings = {"workers": 0, "rows_per_shard": 8}
    manifest = tokenize_images(source, tokenizer, tmp_path / "dataset", **settings)
    assert manifest["rows"] == {"read": 12, "written": 11, "bad": 1}
    assert len(before) == 2 and {path: path.read_bytes() for path in before} == before
    tokenize_images(source, tokenizer, tmp_path / "today", **settings)
    for path in before:
        assert pq.read_table(path).to_pydict() == pq.read_table(tmp_path / "today" / path.name).to_pydict()


def test_features(source, expected, tmp_path):
    tokenizer = SeedTokenizer.from_pretrained(SAVED / "tokenizer").eval()
    text = {"text_encoder": tiny_text_encoder(), "text_tokenizer": tiny_text_tokenizer()}
    settings = {"views": 2, "workers": 0, "rows_per_shard": 8, **text}
    cache_features(source, tokenizer, tmp_path / "today", **settings)
    _, image_processor = load_tokenizer(SAVED / "tokenizer", device="cpu")
    features = open_features(SAVED / "features", "data.features", tokenizer, image_processor)
    features.verify()
    today = CachedFeatures(tmp_path / "today")
    assert len(features) == len(today) == 22 and features.ids() == today.ids()
    for key in ("causal_embeddings", "target_embeddings"):
        stored = torch.stack([features[i][key] for i in range(len(features))])
        assert torch.equal(stored, expected[f"features_{key}"])
        fresh = torch.stack([today[i][key] for i in range(len(today))])
        torch.testing.assert_close(fresh, stored, atol=2e-3, rtol=2e-3)  # stored in float16
