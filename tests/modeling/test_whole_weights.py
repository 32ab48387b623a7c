"""A weight that a folder lacks is an error, wherever SEED weights are loaded; nothing is drawn at random instead."""

import json
import shutil

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModel, CLIPTextModel, OPTForCausalLM

from seed_hf import SeedForCausalLM, SeedForConditionalGeneration, SeedTokenizer
from seed_hf.artifacts.loading import load_pretrained
from seed_hf.modeling.whole_weights_seed import new_weights
from seed_hf.training.lora import add_lora
from tiny import tiny_text_encoder
from tiny_artifacts import save_artifact
from tiny_blip2 import blip2
from tiny_families import FAMILIES, plain_model
from tiny_language import TEXT_VOCAB_SIZE, tiny_language_model, tiny_seed_model


WAYS = {
    "tokenizer": SeedTokenizer.from_pretrained,
    "tokenizer by AutoModel": AutoModel.from_pretrained,
    "tokenizer, stage one": SeedTokenizer.from_stage_one,
    "tokenizer on a device": lambda folder: SeedTokenizer.from_pretrained(folder, device_map="cpu", dtype=torch.half),
    "language_model": SeedForCausalLM.from_pretrained,
    "projected": SeedForCausalLM.from_pretrained,
    **{name: FAMILIES[name][1].from_pretrained for name in ("llama", "smollm2", "qwen3")},
    "model": SeedForConditionalGeneration.from_pretrained,
    "base": lambda folder: SeedForCausalLM.from_language_model(folder, text_vocab_size=100),
    "blip2": SeedTokenizer.from_blip2,
    "text_encoder": lambda folder: load_pretrained(CLIPTextModel, folder),
    "adapter": SeedForConditionalGeneration.from_pretrained,
    "adapter on a model": lambda folder: tiny_seed_model().load_adapter(str(folder)),
    "adapter by peft": lambda folder: PeftModel.from_pretrained(tiny_seed_model(), folder),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("whole")
    for kind in ("tokenizer", "language_model", "model", "adapter"):
        save_artifact(kind, root / kind)  # the adapter saves its base, too
    tiny_language_model(visual_embedding="projected").save_pretrained(root / "projected")
    for name in ("llama", "smollm2", "qwen3"):
        plain_model(name).save_pretrained(root / "plain" / name)
        model = FAMILIES[name][1].from_language_model(root / "plain" / name, text_vocab_size=TEXT_VOCAB_SIZE)
        model.save_pretrained(root / name)
    blip2().save_pretrained(root / "blip2")
    tiny_text_encoder().save_pretrained(root / "text_encoder")
    shutil.rmtree(root / "adapter")
    adapted = add_lora(
        SeedForConditionalGeneration.from_pretrained(root / "model"),
        r=2,
        alpha=2,
        dropout=0,
        target_modules=["q_proj"],
    )
    adapted.save_pretrained(root / "adapter", save_embedding_layers=False)
    return root


def edited(source, target, edit):
    """A copy of a folder with other weights."""
    shutil.copytree(source, target)
    path = next(target.glob("*model.safetensors"))
    weights = load_file(path)
    touched = edit(weights)
    save_file(weights, path, metadata={"format": "pt"})
    return touched


def dropped(weights):
    name = sorted(weights)[len(weights) // 2]
    weights.pop(name)
    return name


def reshaped(weights):
    name = next(name for name in sorted(weights) if weights[name].ndim == 2)
    weights[name] = torch.cat([weights[name], weights[name]])
    return name


def renamed(weights):
    name = sorted(weights)[len(weights) // 2]
    weights[f"{name}_old"] = weights.pop(name)
    return name


def all_renamed(weights):
    for name in list(weights):
        weights[f"old.{name}"] = weights.pop(name)
    return None


@pytest.mark.parametrize("edit", [dropped, reshaped, renamed, all_renamed], ids=lambda edit: edit.__name__)
@pytest.mark.parametrize("way", WAYS)
def test_weights_that_do_not_fit_are_refused_by_name(folders, tmp_path, way, edit):
    source, by_peft = folders / way.split(",")[0].split(" ")[0], way == "adapter by peft"
    name = edited(source, tmp_path / "edited", edit)
    # peft itself has errors for other shapes, and for an adapter of which nothing is known.
    errors = (ValueError, RuntimeError, KeyError) if by_peft else ValueError
    with pytest.raises(errors) as caught:
        WAYS[way](tmp_path / "edited")
    words = {dropped: r"Missing", reshaped: r"shape", renamed: r"Missing", all_renamed: ""}[edit]
    assert words in str(caught.value)
    if name:
        own = name.removeprefix("base_model.model.").removesuffix(".weight").removesuffix("_delta")
        assert own in str(caught.value)


@pytest.mark.parametrize("way", [way for way in WAYS if way != "base"])
def test_what_is_whole_loads(folders, way):
    assert WAYS[way](folders / way.split(",")[0].split(" ")[0])


@pytest.mark.parametrize("kind", ["tokenizer", "language_model", "model", "adapter"])
def test_weights_of_unknown_names_are_refused(folders, tmp_path, kind):
    edited(folders / kind, tmp_path / "more", lambda weights: weights.update(foreign=torch.zeros(2)))
    with pytest.raises(ValueError, match=r"Unknown \(1\): .*foreign"):
        WAYS[kind](tmp_path / "more")


def test_other_shapes_are_the_users_own_choice(folders, tmp_path):
    edited(folders / "tokenizer", tmp_path / "edited", reshaped)
    assert SeedTokenizer.from_pretrained(tmp_path / "edited", ignore_mismatched_sizes=True)


def test_a_broken_base_of_an_adapter_is_refused(folders, tmp_path):
    """transformers reports on the adapter alone."""
    edited(folders / "model", tmp_path / "base", dropped)
    shutil.copytree(folders / "adapter", tmp_path / "adapter")
    settings = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    settings["base_model_name_or_path"] = str(tmp_path / "base")
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps(settings))
    with pytest.raises(ValueError, match="not the weights of this SeedForConditionalGeneration"):
        SeedForConditionalGeneration.from_pretrained(tmp_path / "adapter")


def test_shards(folders, tmp_path):
    """An index that names too few shards, and a shard that is not there."""
    model = SeedForConditionalGeneration.from_pretrained(folders / "model")
    model.save_pretrained(tmp_path, max_shard_size="100KB")
    assert SeedForConditionalGeneration.from_pretrained(tmp_path)
    path = tmp_path / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    gone = sorted(set(index["weight_map"].values()))[1]
    (tmp_path / gone).rename(tmp_path / "kept")
    with pytest.raises(OSError, match=gone):
        SeedForConditionalGeneration.from_pretrained(tmp_path)
    (tmp_path / "kept").rename(tmp_path / gone)
    index["weight_map"] = {name: shard for name, shard in index["weight_map"].items() if shard != gone}
    path.write_text(json.dumps(index))
    with pytest.raises(ValueError, match="Missing"):
        SeedForConditionalGeneration.from_pretrained(tmp_path)


def test_either_of_two_tied_weights_is_enough(folders, tmp_path):
    def head_instead(weights):
        weights["lm_head.weight"] = weights.pop("model.decoder.embed_tokens.weight")

    edited(folders / "language_model", tmp_path / "head", head_instead)
    model = SeedForCausalLM.from_pretrained(tmp_path / "head")
    whole = SeedForCausalLM.from_pretrained(folders / "language_model")
    ids = torch.arange(8)[None]
    assert torch.equal(model(ids).logits, whole(ids).logits)


def test_what_a_tokenizer_does_without_is_no_unknown_weight(folders):
    """A tokenizer opens from a whole model, and without the parts that its configuration leaves out."""
    assert not hasattr(SeedTokenizer.from_pretrained(folders / "tokenizer", text_tower=False), "temperature")
    assert not hasattr(
        SeedTokenizer.from_pretrained(folders / "tokenizer", embedding_decoder=False), "embedding_decoder"
    )
    inside = SeedForConditionalGeneration.from_pretrained(folders / "model").visual_tokenizer.state_dict()
    alone = SeedTokenizer.from_pretrained(folders / "model").state_dict()
    assert all(torch.equal(alone[name], inside[name]) for name in inside)
    with pytest.raises(ValueError, match=r"not the weights of this SeedForCausalLM"):
        SeedForCausalLM.from_pretrained(folders / "model")


def test_new_parts_are_named_by_whoever_adds_them(folders, tmp_path):
    def without_decoder(weights):
        gone = [name for name in weights if name.startswith("embedding_decoder.")]
        for name in gone:
            weights.pop(name)
        return gone

    names = edited(folders / "tokenizer", tmp_path / "edited", without_decoder)
    with pytest.raises(ValueError, match="Missing .*embedding_decoder"):
        SeedTokenizer.from_pretrained(tmp_path / "edited")
    with new_weights(names):
        assert SeedTokenizer.from_pretrained(tmp_path / "edited").config.embedding_decoder
    with pytest.raises(ValueError, match="Missing .*embedding_decoder"):
        SeedTokenizer.from_pretrained(tmp_path / "edited")


def test_a_plain_model_of_transformers_is_checked_too(folders, tmp_path):
    edited(folders / "base", tmp_path / "edited", dropped)
    with pytest.raises(ValueError, match=r"not the weights of this OPTForCausalLM.* Missing \(1\)"):
        load_pretrained(OPTForCausalLM, tmp_path / "edited")


@pytest.mark.parametrize("variant", [None, "fp16"])
def test_shards_take_the_place_of_an_earlier_file(tmp_path, variant):
    """transformers leaves the file, and loads it before the shards."""
    model = tiny_language_model()
    model.save_pretrained(tmp_path, variant=variant)
    with torch.no_grad():
        model.get_input_embeddings().weight.add_(1)
    model.save_pretrained(tmp_path, variant=variant, max_shard_size="5KB")
    loaded = SeedForCausalLM.from_pretrained(tmp_path, variant=variant)
    assert torch.equal(loaded.get_input_embeddings().weight, model.get_input_embeddings().weight)
    model.save_pretrained(tmp_path, variant=variant)
    assert SeedForCausalLM.from_pretrained(tmp_path, variant=variant)
