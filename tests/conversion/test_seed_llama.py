"""A released SEED-LLaMA, converted: ids, logits, losses and outputs are those of the authors' code."""

import json
import re
import shutil
from functools import cache
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

import seed_hf.auto  # noqa: F401
from command_line import refused, run
from full_disks import room_for
from released_seed_llama import GOLDEN, LAYOUT, WEIGHTS, release
from seed_hf import SeedForConditionalGeneration, SeedImageProcessor, SeedLlamaForCausalLM, SeedProcessor
from seed_hf.conversion import ConversionError, SeedLlamaConversion, weight_shards
from seed_hf.conversion.language_parity import compare_language_model
from seed_hf.modeling.generation_seed import Defect, parse_segments
from seed_hf.modeling.processing_seed import code_token
from tiny import tiny_tokenizer
from two_passes import assert_two_passes


RECORDED = json.loads((GOLDEN / "prompts.json").read_text())
PROMPTS, IMAGES = RECORDED["prompts"], RECORDED["images"]
GENERATED = json.loads((GOLDEN / "generated.json").read_text())
OUTPUTS = GENERATED["outputs"]


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    root = tmp_path_factory.mktemp("seed_llama")
    conversion = SeedLlamaConversion(release(root / "released"), LAYOUT, root / "once")
    parity = conversion.write(GOLDEN)
    # A second save and load, as any user does.
    SeedLlamaForCausalLM.from_pretrained(root / "once").save_pretrained(root / "twice")
    AutoTokenizer.from_pretrained(root / "once").save_pretrained(root / "twice")
    return root, conversion, parity


@pytest.fixture(params=["once", "twice"])
def folder(converted, request):
    return converted[0] / request.param


def test_the_report_has_every_key(converted):
    _, conversion, parity = converted
    report = conversion.report
    assert {*report.used, *report.computed} == set(WEIGHTS) and len(report.computed) == 2
    assert parity.holds and [row.stage for row in parity.rows] == ["ids of prompts", "logits", "losses"]
    assert report.replaced == {
        "bos_token_id": (0, 1), "eos_token_id": (1, 2), "pad_token_id": (-1, 0), "use_cache": (False, True)
    }  # fmt: skip
    assert f"{sum(w.numel() for n, w in WEIGHTS.items() if 'inv_freq' not in n):,}" in str(report)


def test_settings_of_sampling_that_are_left_behind_are_reported(tmp_path):
    source = release(tmp_path / "released")
    (source / "generation_config.json").write_text('{"bos_token_id": 0, "temperature": 0.9, "top_p": 0.6}')
    report = SeedLlamaConversion(source, LAYOUT, tmp_path / "out").report
    assert {name: pair for name, pair in report.replaced.items() if "generation" in name} == {
        "generation_config.temperature": (0.9, None), "generation_config.top_p": (0.6, None)
    }  # fmt: skip
    assert "generation_config.top_p = None, was 0.6" in str(report)


def test_saved_again_it_computes_the_same(converted):
    root, _, parity = converted
    assert compare_language_model(root / "twice", GOLDEN).rows == parity.rows


def test_ids_of_the_prompts(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for prompt in PROMPTS:
        assert tokenizer(prompt["text"], add_special_tokens=False).input_ids == prompt["ids"], prompt["name"]


@pytest.mark.parametrize("text", [" .;", " in it", "  two", " ", "\n x", "a  b", "\u2581x"])
def test_every_text_has_the_prefix_of_a_word(text, converted):
    """One that begins with a space, too: sentencepiece itself is asked."""
    import sentencepiece

    authors = sentencepiece.SentencePieceProcessor(model_file=str(LAYOUT / "tokenizer.model"))
    tokenizer = AutoTokenizer.from_pretrained(converted[0] / "once")
    assert tokenizer(text, add_special_tokens=False).input_ids == authors.encode(text)


@cache
def golden_processor(prompt_format: str, folder: Path) -> SeedProcessor:
    images = SeedImageProcessor(size={"height": 28, "width": 28})
    return SeedProcessor(images, AutoTokenizer.from_pretrained(folder), prompt_format=prompt_format)


def part(text: str | None = None, codes: list[int] | None = None) -> dict:
    return {"type": "text", "text": text} if codes is None else {"type": "image", "codes": codes}


def content(text: str, images: list[str]) -> list[dict]:
    """The parts of a text with `<image>` in it; an image without a place stands in front."""
    names = iter(images)
    if "<image>" not in text:
        return [*(part(codes=IMAGES[name]) for name in names), part(text)]
    pieces = [part(piece) for piece in text.split("<image>")]
    mixed = [pieces[0]]
    for piece in pieces[1:]:
        mixed += [part(codes=IMAGES[next(names)]), piece]
    return mixed


def written(prompt: dict, folder: Path) -> list[int]:
    """The ids that a user of the processor gets for what a recorded prompt was made of."""
    name, given = prompt["name"], prompt["inputs"]
    chosen = "llama2" if "14b" in name or "llama2" in name else "plain" if "pretrain" in name else "vicuna"
    processor = golden_processor(chosen, folder)
    options = {"begin_image": name in ("pretrain_caption_to_image", "pretrain_unconditional") or "force_boi" in name}
    if "turns" in given:
        roles = ["user", "assistant"] * len(given["turns"])
        turns = [{"role": role, "content": content(*turn)} for role, turn in zip(roles, given["turns"])]
    else:
        turns = [{"role": "user", "content": content(given["text"], given["images"])}]
        if name == "pretrain_caption_two_shot":  # pictures with their captions before it: the text itself is given
            pieces = re.split(r"<img>.*?</img>", prompt["text"].removeprefix("<s>"))
            parts = [part(pieces[0])]
            for image, piece in zip(given["images"], pieces[1:]):
                parts += [part(codes=IMAGES[image]), part(piece)]
            turns = [{"role": "user", "content": parts}]
    options |= {"tokenize": True, "add_generation_prompt": True}
    if not any(each["type"] == "image" for turn in turns for each in turn["content"]):
        text = processor.apply_chat_template(turns, add_generation_prompt=True)
        return processor(text, begin_image=options["begin_image"])["input_ids"][0].tolist()
    return processor.apply_chat_template(turns, **options)[0].tolist()


@pytest.mark.parametrize("prompt", PROMPTS, ids=lambda prompt: prompt["name"])
def test_chats_have_the_ids_of_the_authors(prompt, folder):
    assert written(prompt, folder) == prompt["ids"]


@pytest.mark.parametrize(
    "prompt",
    [p for p in PROMPTS if re.match(r"demo_.*(turns?|images)$", p["name"])],
    ids=lambda prompt: prompt["name"],
)
def test_a_server_of_the_plain_model_writes_the_same_chats(prompt, folder):
    """It has the text tokenizer alone, which must write bos, too, and images come as the names of their codes."""
    chosen = "llama2" if "llama2" in prompt["name"] else "vicuna"
    tokenizers = [golden_processor(chosen, folder).plain_tokenizer()]
    tokenizers += [AutoTokenizer.from_pretrained(folder)] if chosen == "vicuna" else []  # saved with the template
    turns = []
    for number, turn in enumerate(prompt["inputs"]["turns"]):
        parts = [p["text"] if p["type"] == "text" else span_of(p["codes"]) for p in content(*turn)]
        turns.append({"role": ("user", "assistant")[number % 2], "content": "".join(parts)})
    for tokenizer in tokenizers:
        ids = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=True, return_dict=False)
        assert ids == prompt["ids"]


def span_of(codes: list[int]) -> str:
    return f"<img>{''.join(map(code_token, codes))}</img>"


def test_the_named_prompts_are_those_of_the_scripts(converted):
    """`ask` and `draw` write what the published scripts do, `caption` and `draw` what the pretraining did."""
    folder, prompts = converted[0] / "once", {prompt["name"]: prompt for prompt in PROMPTS}
    for name, chosen in (("8b", "vicuna"), ("14b", "llama2")):
        sequences = golden_processor(chosen, folder).sequences
        asked = prompts[f"{name}_vqa"]
        codes = IMAGES[asked["inputs"]["images"][0]]
        assert sequences.prompt("question", question=asked["inputs"]["text"], codes=codes) == asked["ids"]
        said = prompts[f"{name}_text_to_image"]
        text = said["inputs"]["text"].removeprefix("Can you generate an image of ")
        assert sequences.prompt("draw", text=text) == said["ids"]
    sequences = golden_processor("plain", folder).sequences
    assert sequences.prompt("caption", codes=IMAGES["apple"]) == prompts["pretrain_caption"]["ids"]
    drawn = prompts["pretrain_caption_to_image"]
    assert [*sequences.prompt("draw", text=drawn["inputs"]["text"]), 1512] == drawn["ids"]


def test_pictures_and_codes_in_one_chat(converted):
    processor = golden_processor("vicuna", converted[0] / "once")
    picture = {"type": "image", "image": Image.new("RGB", (40, 30), "red")}
    codes = list(range(32))
    chat = [
        {"role": "user", "content": [picture, part("What is this?")]},
        {"role": "assistant", "content": [part("Like this? "), part(codes=codes)]},
        {"role": "user", "content": [part("Compare with "), picture]},
    ]
    inputs = processor.apply_chat_template(chat, tokenize=True, return_dict=True, add_generation_prompt=True)
    layout = processor.vocabulary
    ids = inputs["input_ids"][0].tolist()
    assert inputs["pixel_values"].shape[0] == 2 and ids.count(layout.image_token_id) == 64
    kept = layout.span(codes)
    assert any(ids[start : start + 34] == kept for start in range(len(ids)))
    with pytest.raises(ValueError, match="32 integers in 0..511"):
        processor.apply_chat_template([{"role": "user", "content": [part(codes=[512] * 32)]}], tokenize=True)
    with pytest.raises(ValueError, match="None for 1 images, but 0"):
        processor("<image>", codes=[None])


def test_greedy_outputs_and_beams(folder):
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    assert type(model) is SeedLlamaForCausalLM and model.generation_config.eos_token_id == 2
    limits = {"greedy": {"max_new_tokens": 60}, "beam5": {"max_new_tokens": 60, "num_beams": 5},
              "beam4_max120": {"max_new_tokens": 120, "num_beams": 4},
              "greedy_eos_1": {"max_new_tokens": 60, "eos_token_id": 1}}  # fmt: skip
    seen = 0
    for name, recorded in OUTPUTS.items():
        prompt = next(prompt["ids"] for prompt in PROMPTS if prompt["name"] == name)
        for kind, settings in limits.items():
            if kind in recorded:
                # transformers 4.30 divided by the whole length, prompt included; without the division both agree.
                beams = {"length_penalty": 0.0} if "num_beams" in settings else {}
                ids = model.generate(torch.tensor([prompt]), do_sample=False, **settings, **beams)
                assert ids[0].tolist() == recorded[kind], (name, kind)
                seen += 1
    assert seen >= len(OUTPUTS)


def test_valid_outputs_are_those_of_interleaved_mode(converted):
    """The constraint changes nothing where the model is right by itself."""
    model = AutoModelForCausalLM.from_pretrained(converted[0] / "once").eval()
    seen = set()
    for name in ("8b_vqa", "8b_edit", "pretrain_caption_to_image", "demo_llama2_one_turn_force_boi"):
        output = OUTPUTS[name]["greedy"]
        parts = parse_segments(output, model.config).parts
        assert not any(isinstance(part, Defect) for part in parts)
        prompt = torch.tensor([output[: OUTPUTS[name]["prompt_length"]]])
        ids = model.generate(prompt, generation_mode="interleaved", do_sample=False, max_new_tokens=60)
        assert ids[0].tolist() == output, name
        seen |= {part.type for part in parts}
    assert seen == {"text", "image"}


def test_codes_are_guided_away_from_those_of_the_empty_prompt(converted):
    """Which is `<s><img>`, as for the negative codes of the authors' evaluation."""
    model = AutoModelForCausalLM.from_pretrained(converted[0] / "twice").eval()
    for name in ("8b_edit", "pretrain_caption_to_image"):
        prompt = OUTPUTS[name]["greedy"][: OUTPUTS[name]["prompt_length"]]
        settings = {"generation_mode": "interleaved", "do_sample": False, "max_new_tokens": 60}
        ids = model.generate(torch.tensor([prompt]), code_guidance_scale=4.0, **settings)[0].tolist()
        assert_two_passes(
            model, ids, len(prompt), 4.0, mode="interleaved", total=len(prompt) + 60, bos=1, strength=0.0
        )


@pytest.mark.parametrize("name", GENERATED["sampling"])
def test_what_may_be_sampled(converted, name):
    """The first token, for three settings; `top_k=50` is a default of the library, then and now."""
    model = AutoModelForCausalLM.from_pretrained(converted[0] / "twice").eval()
    prompt = next(prompt["ids"] for prompt in PROMPTS if prompt["name"] == name)
    for settings in GENERATED["sampling"][name]:
        given = {key: settings[key] for key in ("temperature", "top_p")}
        output = model.generate(
            torch.tensor([prompt]), do_sample=True, max_new_tokens=1, output_scores=True,
            return_dict_in_generate=True, **given,
        )  # fmt: skip
        chances = output.scores[0][0].softmax(-1)
        found = {str(token): chances[token].item() for token in chances.nonzero().flatten().tolist()}
        assert found == pytest.approx(settings["choices"], abs=1e-4), settings


def test_number_types_and_files(tmp_path, converted):
    root = converted[0]
    plain = AutoModelForCausalLM.from_pretrained(root / "once")
    for safetensors, shards, dtype in ((True, 3, "bfloat16"), (False, 1, "float16")):
        source = release(tmp_path / f"in-{dtype}", safetensors=safetensors, shards=shards)
        SeedLlamaConversion(source, LAYOUT, tmp_path / dtype, dtype=dtype).write()
        model = SeedLlamaForCausalLM.from_pretrained(tmp_path / dtype, dtype="auto")
        assert model.dtype == getattr(torch, dtype)
        for name, weight in model.state_dict().items():
            assert torch.equal(weight, plain.state_dict()[name].to(weight.dtype))


def test_of_two_copies_the_one_that_transformers_reads(tmp_path):
    """Pickles that were saved again as safetensors leave their index behind."""
    source = release(tmp_path / "in", weights={name: torch.zeros_like(w) for name, w in WEIGHTS.items()})
    save_file({name: w.float() for name, w in WEIGHTS.items() if "inv_freq" not in name}, source / "model.safetensors")
    conversion = SeedLlamaConversion(source, LAYOUT, tmp_path / "out")
    assert conversion.write(GOLDEN).holds and conversion.report.files == [str(source / "model.safetensors")]


def test_small_shards_say_the_same(tmp_path, converted, monkeypatch):
    monkeypatch.setattr(weight_shards, "SHARD_BYTES", 200_000)
    SeedLlamaConversion(release(tmp_path / "in"), LAYOUT, tmp_path / "out").write()
    assert len(list((tmp_path / "out").glob("*.safetensors"))) > 3
    one = SeedLlamaForCausalLM.from_pretrained(converted[0] / "once").state_dict()
    many = SeedLlamaForCausalLM.from_pretrained(tmp_path / "out").state_dict()
    assert all(torch.equal(one[name], weight) for name, weight in many.items())


def test_a_full_disk_leaves_an_empty_folder_empty(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    released = release(tmp_path / "in")
    with room_for(100_000), pytest.raises(OSError, match=f"while writing into {out}. Free some room"):
        SeedLlamaConversion(released, LAYOUT, out).write()
    assert not list(out.iterdir())
    SeedLlamaConversion(released, LAYOUT, out).write()
    assert (out / "config.json").is_file() and not list(out.glob(".*"))


def test_whole_model_with_a_visual_tokenizer(tmp_path):
    tiny_tokenizer(codebook_size=512, generation_target="image", num_generation_tokens=1).save_pretrained(
        tmp_path / "visual"
    )
    source = release(tmp_path / "in")
    SeedLlamaConversion(source, LAYOUT, tmp_path / "out", visual_tokenizer=tmp_path / "visual").write(GOLDEN)
    model = SeedForConditionalGeneration.from_pretrained(tmp_path / "out").eval()
    assert type(model.language_model) is SeedLlamaForCausalLM
    processor = SeedProcessor.from_pretrained(tmp_path / "out")
    assert processor.image_processor.resample == 2  # bilinear
    ids = model.generate(**processor("<s>", images=None), generation_mode="image")
    (codes,) = processor.post_process_multimodal_output(ids, generation_mode="image")
    assert codes.shape == (1, 32) and 0 <= codes.min() and codes.max() < 512


def test_the_plain_class_opens_it_too(converted, tmp_path):
    model = SeedLlamaForCausalLM.from_pretrained(converted[0] / "once")
    model.to_plain().save_pretrained(tmp_path)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path)
    ids = torch.tensor([PROMPTS[0]["ids"]])
    assert type(plain) is LlamaForCausalLM and torch.equal(plain(ids).logits, model(ids).logits)


def changed(weights, **changes):
    return {
        **{name: w for name, w in weights.items() if name not in changes},
        **{n: w for n, w in changes.items() if w is not None},
    }


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"model.norm.weight": None}, r"Missing \(1\): model.norm.weight"),
        ({"model.extra.weight": torch.zeros(2)}, r"Unknown \(1\): model.extra.weight \(pytorch_model-"),
        ({"lm_head.weight": torch.zeros(9, 64)}, r"lm_head.weight is \(9, 64\), must be \(1514, 64\)"),
    ],
)
def test_keys_that_do_not_fit_are_named(tmp_path, weights, message):
    source = release(tmp_path / "in", changed(WEIGHTS, **weights))
    with pytest.raises(ConversionError, match=message):
        SeedLlamaConversion(source, LAYOUT, tmp_path / "out").write()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]


def edit(path: Path, **values) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_folders_that_are_something_else(tmp_path):
    source = release(tmp_path / "in")
    layout = Path(shutil.copytree(LAYOUT, tmp_path / "layout", copy_function=shutil.copyfile))
    layout.chmod(0o755)

    def declined(message):
        with pytest.raises(ConversionError, match=message):
            SeedLlamaConversion(source, layout, tmp_path / "out")

    edit(source / "config.json", vocab_size=1513)
    declined("1513 rows, the tokenizer 1514 tokens")
    edit(source / "config.json", vocab_size=32330)
    declined("SEED-X or SEED-Story")
    edit(source / "config.json", vocab_size=1514, model_type="opt")
    declined("type 'opt'; a released SEED-LLaMA is of type 'llama'")
    edit(source / "config.json", model_type="llama")
    edit(layout / "added_tokens.json", **{"<img_00003>": 5})
    declined("without a gap")
    (layout / "tokenizer.model").write_bytes(b"no model")
    declined("no readable sentencepiece model")
    (layout / "added_tokens.json").unlink()
    declined("added_tokens.json: no such file.*seed-tokenizer-2")
    (source / "config.json").unlink()
    (source / "agent").mkdir()
    (source / "agent" / "pytorch_model.bin").touch()
    declined("SEED-X or SEED-Story")


def test_cut_shards_are_named(tmp_path):
    source = release(tmp_path / "in")
    shard = source / "pytorch_model-00002-of-00002.bin"
    shard.write_bytes(shard.read_bytes()[:-5000])
    with pytest.raises(ConversionError, match="pytorch_model-00002-of-00002.bin: damaged"):
        SeedLlamaConversion(source, LAYOUT, tmp_path / "out").write()
    shard.unlink()
    with pytest.raises(ConversionError, match="names files that are not there: pytorch_model-00002-of-00002.bin"):
        SeedLlamaConversion(source, LAYOUT, tmp_path / "out")


def test_command(tmp_path):
    source = release(tmp_path / "in")
    arguments = ["convert", "seed-llama", "--checkpoint", source, "--out", tmp_path / "out"]
    refused(*arguments, words="give --tokenizer")
    refused("convert", "seed1", *arguments[2:], "--tokenizer", LAYOUT, words="belong to seed-llama")
    status, out, err = run(*arguments, "--tokenizer", LAYOUT, "--verify", GOLDEN, "--dtype", "float32")
    assert status == 0 and "ids of prompts" in out and "eos_token_id = 2, was 1" in out, err
    assert (tmp_path / "out" / "modeling_seed_text.py").is_file()
