"""The bundled checkpoint keeps what README and design promise."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from transformers import AutoModel, AutoModelForMultimodalLM, AutoProcessor

import seed_hf.auto  # noqa: F401
from command_line import run
from seed_hf import (
    SeedForConditionalGeneration,
    SeedImagePipeline,
    SeedProcessor,
    SeedTokenizer,
    bundled,
)
from seed_hf.demo.see_and_draw import PICTURES, run_demo
from seed_hf.evaluation.rows import EvaluationData, EvaluationRow
from seed_hf.evaluation.running import run_task
from seed_hf.evaluation.tasks.caption import Caption


ROOT = Path(__file__).parents[2]
CHECKPOINT = bundled("seed-tiny", "model").parent


@pytest.fixture(scope="module")
def model():
    return SeedForConditionalGeneration.from_pretrained(bundled("seed-tiny", "model")).eval()


@pytest.fixture(scope="module")
def processor():
    return SeedProcessor.from_pretrained(bundled("seed-tiny", "model"))


@pytest.fixture(scope="module")
def pipe():
    pipe = SeedImagePipeline.from_pretrained(bundled("seed-tiny", "pipeline"))
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def images():
    return [Image.open(PICTURES / row["file"]) for row in json.loads((PICTURES / "pictures.json").read_text())]


def test_weights_fit_the_budget_and_are_stored_once():
    files = sorted(CHECKPOINT.rglob("*.safetensors"))
    assert sum(file.stat().st_size for file in files) <= 48 * 2**20
    assert max(file.stat().st_size for file in files) <= 15 * 2**20
    seen = {}
    for file in files:
        with safe_open(file, "pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118
                tensor = tensors.get_tensor(name)
                if tensor.numel() > 10_000:
                    digest = hashlib.sha256(tensor.numpy().tobytes()).hexdigest()
                    assert digest not in seen, f"{file.name}:{name} is stored twice, also as {seen[digest]}"
                    seen[digest] = f"{file.name}:{name}"


def test_everything_loads_as_float32_on_a_cpu(model, pipe):
    tokenizer = SeedTokenizer.from_pretrained(bundled("seed-tiny", "tokenizer"))
    for part in (tokenizer, model, pipe.seed_model, pipe.unet, pipe.vae, pipe.empty_prompt):
        assert part.dtype == torch.float32
    for part in (model.visual_tokenizer, pipe.seed_model.visual_tokenizer):
        assert all(torch.equal(a, b) for a, b in zip(tokenizer.state_dict().values(), part.state_dict().values()))


def test_the_calls_of_the_public_surface(model, processor, images):
    tokenizer = model.visual_tokenizer
    inputs = processor(images=images[:2], return_tensors="pt")
    codes = tokenizer.encode(inputs.pixel_values)
    assert codes.shape == (2, 32) and codes.dtype == torch.int64
    assert tokenizer.decode(codes).shape == (2, 24, 192)
    assert tokenizer.embed_codes(codes).shape == (2, 32, 192)
    words = processor.tokenizer(["a pig"], return_tensors="pt")
    for features in (
        tokenizer.get_image_features(inputs.pixel_values).pooler_output,
        tokenizer.get_image_features(codes=codes).pooler_output,
        tokenizer.get_text_features(words.input_ids, words.attention_mask).pooler_output,
    ):
        torch.testing.assert_close(features.norm(dim=-1), torch.ones(len(features)))
    inputs = processor(text="<image> a photo of", images=images[0], return_tensors="pt")
    for mode in ("text", "image", "interleaved"):
        output = model.generate(**inputs, generation_mode=mode)
        for segments in processor.post_process_multimodal_output(output):
            assert not [s for s in segments if type(s).__name__ == "Defect"]


def test_auto_classes_load_it():
    folder = bundled("seed-tiny", "model")
    assert isinstance(AutoModel.from_pretrained(folder), SeedForConditionalGeneration)
    assert isinstance(AutoModelForMultimodalLM.from_pretrained(folder), SeedForConditionalGeneration)
    assert isinstance(AutoProcessor.from_pretrained(folder), SeedProcessor)
    assert isinstance(AutoModel.from_pretrained(bundled("seed-tiny", "tokenizer")), SeedTokenizer)


def test_save_load_save_is_bit_equal(model, processor, images, tmp_path):
    model.save_pretrained(tmp_path / "one")
    again = SeedForConditionalGeneration.from_pretrained(tmp_path / "one").eval()
    again.save_pretrained(tmp_path / "two")
    first, second = ((tmp_path / n / "model.safetensors").read_bytes() for n in ("one", "two"))
    assert first == second
    inputs = processor.caption(images)
    assert torch.equal(model.generate(**inputs, max_new_tokens=8), again.generate(**inputs, max_new_tokens=8))


def test_the_pipeline_draws_from_words_images_and_codes(pipe, images, tmp_path):
    def draw(pipe, **inputs):
        return pipe(**inputs, num_inference_steps=3, generator=torch.Generator().manual_seed(0))

    drawn = draw(pipe, prompt="a red apple")
    assert drawn.images[0].size == (64, 64)
    codes = draw(pipe, image=images[0]).codes
    assert draw(pipe, codes=codes).images[0].tobytes() == draw(pipe, image=images[0]).images[0].tobytes()
    assert len(pipe(codes=codes.repeat(3, 1), num_inference_steps=1).images) == 3
    pipe.save_pretrained(tmp_path)
    again = SeedImagePipeline.from_pretrained(tmp_path)
    again.set_progress_bar_config(disable=True)
    assert draw(again, prompt="a red apple").images[0].tobytes() == drawn.images[0].tobytes()


@pytest.mark.parametrize("seed", [0, 100])
def test_it_sees_in_its_drawings_what_they_were_drawn_from(pipe, processor, seed):
    """README: the drawing for a caption of its world is recognisable."""
    prompts = ["a red apple", "a fire engine", "a hamburger", "a blue car", "a yellow star", "a green frog"]
    prompts += ["a koala", "a rainbow"]
    noise = [torch.Generator().manual_seed(seed + number) for number in range(len(prompts))]
    images = pipe(prompts, generator=noise, num_inference_steps=10).images
    seen = pipe.visual_tokenizer.get_image_features(
        processor(images=images, return_tensors="pt").pixel_values
    ).pooler_output
    words = processor.tokenizer(prompts, padding=True, padding_side="right", return_tensors="pt")
    said = pipe.visual_tokenizer.get_text_features(words.input_ids, words.attention_mask).pooler_output
    first = (seen @ said.T).argmax(dim=1)
    assert (first == torch.arange(len(prompts))).sum() >= len(prompts) - 1


def test_the_demo_writes_its_sheet_and_its_figures(model, processor, tmp_path):
    result = run_demo(tmp_path)
    written = json.loads((tmp_path / "see_and_draw.json").read_text())
    assert written == json.loads(json.dumps(result))
    assert len(written["pictures"]) == 8 and len(written["prompts"]) == 12
    assert all(len(row["codes"]) == 32 for row in written["pictures"] + written["prompts"])
    assert len({*map(tuple, written["samples"]["codes"])}) > 1
    captions = [row["model_caption"] for row in written["pictures"]]
    assert all(captions)
    assert sum(bool(row["new"]) for row in written["prompts"]) == 6
    with Image.open(tmp_path / "see_and_draw.png") as sheet:
        assert sheet.width > 1000 and sheet.height > 600
    assert not list(tmp_path.glob("*.partial"))

    # The same images get the same texts from the demo, the command line and the evaluation.
    files = [PICTURES / row["file"] for row in written["pictures"]]
    rows = [EvaluationRow(file.name, str(file), ("a thing",)) for file in files]
    run_task(Caption(model, processor, num_beams=1), EvaluationData("demo", rows), tmp_path / "said.json")
    lines = map(json.loads, (tmp_path / "said.rows.jsonl").read_text().splitlines()[1:])
    assert [line["said"] for line in sorted(lines, key=lambda line: line["row"])] == captions
    assert [json.loads(line)["caption"] for line in run("see", *files, "--json")[1].splitlines()] == captions
    asked = written["pictures"][0]
    assert run("ask", files[0], asked["question"])[1].strip() == asked["model_answer"]
