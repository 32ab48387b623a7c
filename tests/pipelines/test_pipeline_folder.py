"""A pipeline that is copied, saved in another way or built without a part draws the same, or says what it lacks."""

import pytest
import torch
from diffusers import AutoencoderTiny

from seed_hf import SeedForConditionalGeneration, SeedImagePipeline
from tiny import tiny_tokenizer
from tiny_diffusion import some_codes, tiny_donor, tiny_model_and_processor, tiny_pipeline, tiny_unet, tiny_vae


def draw(pipe, **call):
    pipe.set_progress_bar_config(disable=True)
    call = {"codes": some_codes(1), **call}
    settings = {"num_inference_steps": 2, "output_type": "np", "generator": torch.Generator().manual_seed(0)}
    return pipe(**call, **settings).images


@pytest.mark.parametrize("copy", [lambda pipe: SeedImagePipeline(**pipe.components), SeedImagePipeline.from_pipe])
def test_a_copy_draws_the_same(copy):
    pipe = tiny_pipeline(guidance_scale=3.0, num_candidates=2)
    other = copy(pipe)
    assert other.unet is pipe.unet and other.empty_prompt is pipe.empty_prompt is not None
    assert (other.config.guidance_scale, other.config.num_candidates) == (3.0, 2)
    assert (draw(other) == draw(pipe)).all()
    assert copy(other).config.guidance_scale == 3.0


def test_a_copy_has_parts_of_other_classes():
    blocks = {f"{half}_block_out_channels": (8, 8) for half in ("encoder", "decoder")}
    vae = AutoencoderTiny(num_encoder_blocks=(1, 1), num_decoder_blocks=(1, 1), latent_channels=4, **blocks)
    pipe = tiny_pipeline(vae=vae)
    assert (draw(SeedImagePipeline.from_pipe(pipe)) == draw(pipe)).all()
    assert SeedImagePipeline.from_pipe(pipe, vae=None).vae is None


def test_options_of_saving_reach_the_model_inside(tmp_path):
    model, processor = tiny_model_and_processor()
    pipe = SeedImagePipeline(model, tiny_unet(), tiny_vae(), processor=processor, guidance_scale=1.0)
    pipe.save_pretrained(tmp_path, variant="fp16", max_shard_size="100KB")
    for part in ("seed_model", "unet"):
        names = sorted(path.name for path in (tmp_path / part).glob("*.safetensors"))
        assert len(names) > 1 and all(".fp16-0" in name for name in names)
    loaded = SeedImagePipeline.from_pretrained(tmp_path, variant="fp16")
    assert (draw(loaded, codes=None, prompt="a red apple") == draw(pipe, codes=None, prompt="a red apple")).all()


@pytest.mark.parametrize(
    "device_map",
    [
        {"": "disk"},
        {"visual_tokenizer": "disk", "language_model": "cpu"},
        {"visual_tokenizer": "cpu", "language_model": "disk"},
        "auto",
    ],
    ids=["all", "tokenizer", "language model", "auto"],
)
def test_an_offloaded_model_sees_and_draws(tmp_path, device_map):
    model, processor = tiny_model_and_processor()
    model.eval().save_pretrained(tmp_path / "model")
    limits = {"max_memory": {"cpu": "60KB"}} if device_map == "auto" else {}
    offloaded = SeedForConditionalGeneration.from_pretrained(
        tmp_path / "model", device_map=device_map, offload_folder=tmp_path / "disk", **limits
    )
    picture = processor.image_processor([torch.rand(3, 40, 40)], do_rescale=False, return_tensors="pt").pixel_values
    codes = model.visual_tokenizer.encode(picture)
    assert torch.equal(offloaded.visual_tokenizer.encode(picture), codes)
    words = processor.text_tower(["a red apple"], 32)
    told = [each.visual_tokenizer.get_text_features(**words).pooler_output for each in (offloaded, model)]
    torch.testing.assert_close(*told)
    layout = processor.vocabulary
    ids = torch.tensor([[0, *layout.span()]])
    settings = {"pixel_values": picture, "generation_mode": "text", "max_new_tokens": 3}
    assert torch.equal(offloaded.generate(ids, **settings), model.generate(ids, **settings))
    asked, settings = processor.draw(["a red apple"]), {"generation_mode": "image", "cache_implementation": "static"}
    assert torch.equal(*[each.generate(**asked, **settings, do_sample=False) for each in (offloaded, model)])
    pipes = [
        SeedImagePipeline(each, tiny_unet(), tiny_vae(), processor=processor, guidance_scale=1.0)
        for each in (offloaded, model)
    ]
    assert (draw(pipes[0], codes=codes) == draw(pipes[1], codes=codes)).all()


@pytest.mark.parametrize("kind", ["text", "image"])
def test_models_that_draw_are_offloaded_by_groups(tmp_path, kind):
    """To disk, where a CPU shows what a weight that is read outside of `forward` would hold: whatever was there."""
    target = {"generation_target": "image", "num_generation_tokens": 1} if kind == "image" else {}
    pipe = SeedImagePipeline.from_diffusion(tiny_donor(kind), tiny_tokenizer(**target))
    calls = ({}, {"codes": None, "image": torch.rand(3, 30, 30)}, {"negative_codes": some_codes(1, seed=5)})
    before = [draw(pipe, **call) for call in calls]
    settings = {"offload_type": "leaf_level", "offload_to_disk_path": str(tmp_path)}
    pipe.enable_group_offload(torch.device("cpu"), **settings)
    assert list(tmp_path.iterdir())
    assert all((draw(pipe, **call) == drawn).all() for call, drawn in zip(calls, before))
