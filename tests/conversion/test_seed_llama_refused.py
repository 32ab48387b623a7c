"""What is no sound SEED-LLaMA gets one line, and nothing is written."""

import json
import os
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from command_line import refused
from released_seed_llama import GOLDEN, LAYOUT, WEIGHTS, release
from tiny import tiny_tokenizer


def edit(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def changed(name, change):
    weights = dict(WEIGHTS)
    weights[name] = change(weights[name].float().clone())
    return weights


def with_value(number):
    def change(weight):
        weight.view(-1)[7] = number
        return weight

    return change


def check_refused(source, out, words, *more, tokenizer=LAYOUT):
    """`out` has a parent that is not there yet."""
    refused(
        "convert", "seed-llama", "--checkpoint", source, "--tokenizer", tokenizer, "--out", out, *more, words=words
    )
    assert not out.parent.exists()


# Weights

WRONG_WEIGHTS = [
    ("model.norm.weight", with_value(float("nan")), (), "model.norm.weight holds NaN or infinite values"),
    ("lm_head.weight", with_value(-float("inf")), (), "lm_head.weight holds NaN or infinite values"),
    ("lm_head.weight", with_value(1e6), ("--dtype", "float16"), "lm_head.weight has values too large for float16"),
]


@pytest.mark.parametrize(("name", "change", "more", "words"), WRONG_WEIGHTS, ids=lambda value: str(value)[:20])
def test_numbers_that_are_none(tmp_path, name, change, more, words):
    check_refused(release(tmp_path / "in", changed(name, change)), tmp_path / "new" / "out", words, *more)


def stored(folder, change, number=2, shards=2):
    path = folder / f"pytorch_model-{number:05d}-of-{shards:05d}.bin"
    weights = torch.load(path)
    change(weights)
    torch.save(weights, path)


def test_weights_that_are_quantized_twice_there_or_not_tied(tmp_path):
    source = release(tmp_path / "in")
    first = next(
        name
        for name in WEIGHTS
        if "inv_freq" not in name and name in torch.load(source / "pytorch_model-00001-of-00002.bin")
    )
    stored(source, lambda weights: weights.update({first: torch.zeros(2)}))
    words = f"{first} is there twice, again in pytorch_model-00002-of-00002.bin"
    check_refused(source, tmp_path / "new" / "out", words)
    source = release(tmp_path / "quantized", shards=1)
    stored(source, lambda weights: weights.update({"lm_head.weight": weights["lm_head.weight"].to(torch.int8)}), 1, 1)
    check_refused(source, tmp_path / "new" / "out", "lm_head.weight holds int8, as a quantized copy does")
    source = release(tmp_path / "tied")
    edit(source / "config.json", tie_word_embeddings=True)
    check_refused(source, tmp_path / "new" / "out", "differ, but config.json says tie_word_embeddings")


@pytest.mark.parametrize("file", ["/etc/hostname", "../other.bin", 5, None])
def test_an_index_that_names_other_places(tmp_path, file):
    source = release(tmp_path / "in")
    (source / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": {"lm_head.weight": file}}))
    check_refused(source, tmp_path / "new" / "out", "is no name of a file in this folder")


# Configurations

CONFIGS = [
    {"hidden_size": "64"},
    {"hidden_act": "nonsense"},
    {"num_attention_heads": 0},
    {"num_attention_heads": 5},
    {"rope_scaling": "linear"},
    {"rope_scaling": {"type": "unheard of", "factor": 2.0}},
    {"rms_norm_eps": None},
]


@pytest.mark.parametrize("values", CONFIGS, ids=json.dumps)
def test_configurations_of_wrong_types(tmp_path, values):
    source = release(tmp_path / "in")
    edit(source / "config.json", **values)
    check_refused(source, tmp_path / "new" / "out", "config.json: no sound configuration")


def test_a_configuration_without_heads(tmp_path):
    """No weight shows how many there are, and the library would take 32."""
    source = release(tmp_path / "in")
    values = json.loads((source / "config.json").read_text())
    del values["num_attention_heads"]
    (source / "config.json").write_text(json.dumps(values))
    check_refused(
        source, tmp_path / "new" / "out", "config.json: no sound configuration. num_attention_heads is missing"
    )


def test_shards_without_their_index(tmp_path):
    source = release(tmp_path / "in")
    (source / "pytorch_model.bin.index.json").unlink()
    words = "There are shards (pytorch_model-00001-of-00002.bin), but no index that says which weights they hold."
    check_refused(source, tmp_path / "new" / "out", words)


def test_rows_of_another_type(tmp_path):
    source = release(tmp_path / "in")
    edit(source / "config.json", vocab_size="1514")
    check_refused(source, tmp_path / "new" / "out", "has '1514' rows, the tokenizer 1514 tokens")


# Folders


def resamplers(folder):
    names = ("llm.base_model.model.lm_head.weight", "input_resampler.query", "output_resampler.query")
    torch.save({name: torch.ones(2) for name in names}, folder / "pytorch_model.bin")


@pytest.mark.parametrize("kind", ["agent", "several models", "language model", "story", "story with a config"])
def test_seed_x_and_seed_story_are_named(tmp_path, kind):
    source = tmp_path / "in"
    source.mkdir()
    if kind in ("agent", "several models"):
        place = source / "seed_x_i" if kind == "several models" else source
        (place / "agent").mkdir(parents=True)
        (place / "agent" / "pytorch_model.bin").touch()
    elif kind == "language model":
        (source / "llm").mkdir()
        (source / "llm" / "config.json").write_text('{"vocab_size": 32330}')
    else:
        resamplers(source)
    if kind == "story with a config":
        shutil.copy(LAYOUT / "config.json", source)
    check_refused(source, tmp_path / "new" / "out", "looks like SEED-X or SEED-Story")


def test_tokenizers_that_are_not_of_a_seed_llama(tmp_path):
    source = release(tmp_path / "in")
    folder = shutil.copytree(LAYOUT, tmp_path / "layout", copy_function=shutil.copyfile)
    folder.chmod(0o755)
    added = json.loads((folder / "added_tokens.json").read_text())

    def check(tokens, words):
        (folder / "added_tokens.json").write_text(json.dumps(tokens))
        check_refused(source, tmp_path / "new" / "out", words, tokenizer=folder)

    check({"<pad>": 1000}, "no visual tokens: <img>, </img>, <img_00000> not found. (A plain Llama gets")
    check({}, "must give each token its id")
    check({**added, "<img>": "1512"}, "must give each token its id")
    check({**added, "<img_00100>": 1101}, "<img_00100> has 1101 where 1100 is the next")
    swapped = {**added, "<img_00001>": 1002, "<img_00002>": 1001}
    check(swapped, "<img_00001> has 1002. (A plain Llama gets visual tokens by")
    check_refused(tmp_path / "nowhere", tmp_path / "new" / "out", "nowhere: no such folder")


def test_visual_tokenizers_that_are_not_whole(tmp_path):
    source, out = release(tmp_path / "in"), tmp_path / "new" / "out"
    tiny_tokenizer(codebook_size=512, generation_target="image", num_generation_tokens=1).save_pretrained(
        tmp_path / "visual"
    )
    path = tmp_path / "visual" / "model.safetensors"
    whole = load_file(path)
    option = ("--visual-tokenizer", tmp_path / "visual")
    save_file({name: weight for name, weight in whole.items() if name != "code_decoder.0.bias"}, path)
    check_refused(source, out, "not a whole visual tokenizer. Missing (1): code_decoder.0.bias", *option)
    save_file({**whole, "code_decoder.0.bias": whole["code_decoder.0.bias"] + float("nan")}, path)
    check_refused(source, out, "code_decoder.0.bias holds NaN or infinite values", *option)
    os.remove(path)
    check_refused(source, out, "visual: no weights", *option)
    (tmp_path / "visual" / "seed_quantizer.pt").touch()
    check_refused(source, out, "which is to be converted first: seed-hf convert seed2", *option)
    (tmp_path / "visual" / "seed_quantizer.pt").unlink()
    tiny_tokenizer(codebook_size=512).save_pretrained(tmp_path / "visual")
    check_refused(source, out, "reads and writes the codes of SEED-2", *option)
    check_refused(source, out, "nowhere: no such folder", "--visual-tokenizer", tmp_path / "nowhere")


def test_options_of_other_originals_are_refused(tmp_path):
    source = release(tmp_path / "in")
    for option in (("--image-size", 56), ("--qformer-heads", 4), ("--allow-unknown", "x"), ("--no-text-tower",)):
        check_refused(source, tmp_path / "new" / "out", f"{option[0].replace('no-', '')}: not for seed-llama", *option)


def test_recorded_results_of_another_model(tmp_path):
    source, recorded = release(tmp_path / "in"), tmp_path / "recorded"
    recorded.mkdir()
    shutil.copyfile(GOLDEN / "language_model_io.safetensors", recorded / "language_model_io.safetensors")
    for prompts in ([{"name": "8b_vqa"}], [{"name": "8b_vqa", "text": "<s>", "ids": [5000]}]):
        (recorded / "prompts.json").write_text(json.dumps({"prompts": prompts}))
        words = "recorded results that are damaged, or of another model"
        check_refused(source, tmp_path / "new" / "out", words, "--verify", recorded)
