"""A part of a pipeline whose folder lacks a weight is refused: diffusers would draw it at random, with a log line."""

import json
import shutil

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from seed_hf import SeedImagePipeline
from tiny import tiny_tokenizer
from tiny_artifacts import save_artifact
from tiny_diffusion import tiny_donor, tiny_model_and_processor, tiny_pipeline


PARTS = ("seed_model", "unet", "vae", "empty_prompt")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_artifact("pipeline", tmp_path_factory.mktemp("pipeline") / "whole")


def edit(folder, part, change) -> str:
    """Changes the first weight of a part and returns its name."""
    path = next((folder / part).glob("*.safetensors"))
    weights = load_file(path)
    name = min(weights)
    change(weights, name)
    save_file(weights or {"other": torch.zeros(1)}, path, metadata={"format": "pt"})
    return name


def drop(weights, name):
    del weights[name]


def rename(weights, name):
    weights[f"{name}_old"] = weights.pop(name)


def reshape(weights, name):
    weights[name] = weights[name].repeat(2, *[1] * (weights[name].ndim - 1))


def test_each_variant_of_a_folder_must_be_whole(folder, tmp_path):
    pipe = SeedImagePipeline.from_pretrained(folder)
    pipe.save_pretrained(tmp_path / "both", variant="fp16", max_shard_size="100KB")
    left = tmp_path / "both" / "unet"
    pipe.unet.save_pretrained(left)  # diffusers leaves the index of the shards, and not these
    for part in ("vae", "empty_prompt", "seed_model"):
        getattr(pipe, part).save_pretrained(tmp_path / "both" / part)
    assert list(left.glob("*.index.fp16.json")) and not list(left.glob("*.fp16-*.safetensors"))
    assert SeedImagePipeline.from_pretrained(tmp_path / "both")
    shutil.copy(left / "diffusion_pytorch_model.safetensors", left / "diffusion_pytorch_model.fp16.safetensors")
    whole = load_file(left / "diffusion_pytorch_model.safetensors")
    name = min(whole)
    cut = {key: weight for key, weight in whole.items() if key != name}
    save_file(cut, left / "diffusion_pytorch_model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=name):  # diffusers loads these, and draws the weight
        SeedImagePipeline.from_pretrained(tmp_path / "both")


def test_weights_that_were_in_shards_are_saved_over_as_one_file(folder, tmp_path):
    pipe = SeedImagePipeline.from_pretrained(folder)
    pipe.save_pretrained(tmp_path, max_shard_size="100KB")
    assert list(tmp_path.glob("unet/*.index.json"))
    loaded = SeedImagePipeline.from_pretrained(tmp_path)
    loaded.save_pretrained(tmp_path)
    assert not list(tmp_path.glob("unet/*.index.json"))
    weights = SeedImagePipeline.from_pretrained(tmp_path).unet.state_dict()
    assert all(torch.equal(weights[name], weight) for name, weight in pipe.unet.state_dict().items())


def test_a_variant_of_any_name_must_be_whole(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "more")
    place = tmp_path / "more" / "unet"
    weights = load_file(place / "diffusion_pytorch_model.safetensors")
    name = min(weights)
    del weights[name]
    save_file(weights, place / "diffusion_pytorch_model.mine.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=name):
        SeedImagePipeline.from_pretrained(tmp_path / "more", variant="mine")


def test_files_that_are_no_weights_of_their_own_are_not_asked_for_all(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "more")
    place = tmp_path / "more" / "unet"
    save_file({"lora": torch.zeros(1)}, place / "diffusion_pytorch_model.lora.safetensors")
    unet = UNet2DConditionModel.from_pretrained(place)
    unet.save_pretrained(place, variant="fp16", max_shard_size="100KB")
    index = place / "diffusion_pytorch_model.safetensors.index.fp16.json"
    values = json.loads(index.read_text())  # as earlier versions of diffusers named shards
    for name in set(values["weight_map"].values()):
        (place / name).rename(place / name.replace("model.fp16-", "model-").replace(".safe", ".fp16.safe"))
    values["weight_map"] = {
        key: name.replace("model.fp16-", "model-").replace(".safe", ".fp16.safe")
        for key, name in values["weight_map"].items()
    }
    index.write_text(json.dumps(values))
    assert SeedImagePipeline.from_pretrained(tmp_path / "more")
    assert UNet2DConditionModel.from_pretrained(place, variant="fp16")


@pytest.mark.parametrize("change", [drop, rename, reshape], ids=lambda change: change.__name__)
@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_is_not_whole_is_refused(folder, tmp_path, part, change):
    shutil.copytree(folder, tmp_path / "edited")
    name = edit(tmp_path / "edited", part, change)
    with pytest.raises(ValueError, match=name):
        SeedImagePipeline.from_pretrained(tmp_path / "edited")


def test_an_index_that_names_too_few_shards(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "edited")
    place = tmp_path / "edited" / "unet"
    unet = UNet2DConditionModel.from_pretrained(place)
    shutil.rmtree(place)
    unet.save_pretrained(place, max_shard_size="100KB")
    assert SeedImagePipeline.from_pretrained(tmp_path / "edited")
    path = place / "diffusion_pytorch_model.safetensors.index.json"
    index = json.loads(path.read_text())
    gone = max(index["weight_map"].values())
    (place / gone).unlink()
    index["weight_map"] = {name: shard for name, shard in index["weight_map"].items() if shard != gone}
    path.write_text(json.dumps(index))
    with pytest.raises(ValueError, match="not the weights of this UNet2DConditionModel"):
        SeedImagePipeline.from_pretrained(tmp_path / "edited")


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_a_donor_that_is_not_whole_is_refused(tmp_path, part):
    tiny_donor("text").save_pretrained(tmp_path)
    name = edit(tmp_path, part, drop)
    with pytest.raises(ValueError, match=name):
        SeedImagePipeline.from_diffusion(tmp_path, tiny_tokenizer())


def test_parts_that_have_changed_since_are_the_users_own(folder):
    """Given parts, and a UNet with LoRA of its own."""
    vae = AutoencoderKL.from_pretrained(folder / "vae")
    pipe = SeedImagePipeline.from_pretrained(folder, vae=vae)
    pipe.unet.add_adapter(LoraConfig(r=2, target_modules=["to_q"]))
    assert SeedImagePipeline(**pipe.components).vae is vae
    with pytest.raises(ValueError, match="LoRA weights, which this folder could not hold"):
        pipe.save_pretrained(folder.parent / "adapted")
    assert not (folder.parent / "adapted").exists()


def test_a_model_with_lora_is_not_saved_as_its_adapter_alone(tmp_path):
    model, processor = tiny_model_and_processor()
    pipe = tiny_pipeline(model, processor=processor)
    codes = pipe.encode_prompt("a red apple")
    adapted = get_peft_model(model, LoraConfig(r=2, init_lora_weights=False))
    assert not torch.equal(pipe.encode_prompt("a red apple"), codes)
    with pytest.raises(ValueError, match="seed_model has LoRA weights, which this folder could not hold"):
        pipe.save_pretrained(tmp_path / "adapted")
    assert not (tmp_path / "adapted").exists()
    merged = tiny_pipeline(adapted.merge_and_unload(), processor=processor)
    merged.save_pretrained(tmp_path / "merged")
    again = SeedImagePipeline.from_pretrained(tmp_path / "merged")
    assert torch.equal(again.encode_prompt("a red apple"), merged.encode_prompt("a red apple"))


def test_fused_projections_and_students_are_whole(folder):
    pipe = SeedImagePipeline.from_pretrained(folder)
    pipe.fuse_qkv_projections(vae=False)
    assert SeedImagePipeline(**pipe.components).unet is pipe.unet is SeedImagePipeline.from_pipe(pipe).unet
    student = UNet2DConditionModel.from_config(pipe.unet.config, layers_per_block=2)
    assert SeedImagePipeline(**{**pipe.components, "unet": student}).unet is student
