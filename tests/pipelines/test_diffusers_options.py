"""Options that users of diffusers know do here what they do in StableDiffusionPipeline, or are refused."""

from contextlib import contextmanager, nullcontext

import diffusers
import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler, PNDMScheduler
from diffusers.callbacks import SDCFGCutoffCallback
from peft import LoraConfig, get_peft_model_state_dict
from PIL import Image

from seed_hf import SeedImagePipeline
from tiny import tiny_tokenizer
from tiny_diffusion import generators, some_codes, tiny_donor, tiny_model_and_processor, tiny_pipeline, tiny_unet


SETTINGS = {"num_inference_steps": 2, "output_type": "latent", "guidance_scale": 4.0}


@pytest.fixture(scope="module")
def donor():
    donor = tiny_donor("text")
    donor.set_progress_bar_config(disable=True)
    return donor


@pytest.fixture(scope="module")
def pipe(donor):
    pipe = SeedImagePipeline.from_diffusion(donor, tiny_tokenizer())
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def embeds(pipe):
    with torch.no_grad():
        return pipe.encode_codes(some_codes(2))


def both(pipe, donor, embeds, **call):
    """What we and Stable Diffusion draw from the same embeddings."""
    call = {**SETTINGS, **call}
    away = donor.encode_prompt("", "cpu", len(embeds), False)[0].detach()
    ours = pipe(prompt_embeds=embeds, generator=generators(1, 2), **call).images
    theirs = donor(prompt_embeds=embeds, negative_prompt_embeds=away, generator=generators(1, 2), **call).images
    return ours, theirs


@contextmanager
def scheduled(pipe, donor, scheduler, **settings):
    """Both draw by a scheduler of their own, made from the pipeline's settings and these."""
    kept = pipe.scheduler
    pipe.scheduler, donor.scheduler = (scheduler.from_config({**kept.config, **settings}) for _ in range(2))
    try:
        yield
    finally:
        pipe.scheduler = donor.scheduler = kept


@pytest.mark.parametrize(
    ("scheduler", "call"),
    [
        (None, {}),
        (EulerDiscreteScheduler, {"timesteps": [900, 500, 100], "num_inference_steps": 3}),
        (EulerDiscreteScheduler, {"sigmas": [10.0, 3.0, 0.5], "num_inference_steps": 3}),
        (DDIMScheduler, {"eta": 0.8}),
        (None, {"guidance_rescale": 0.7}),
        (None, {"cross_attention_kwargs": {}}),
        (None, {"height": 8, "width": 24}),
    ],
)
def test_an_option_does_what_it_does_in_stable_diffusion(pipe, donor, embeds, scheduler, call):
    with scheduled(pipe, donor, scheduler) if scheduler else nullcontext():  # the one that the donor came with
        ours, theirs = both(pipe, donor, embeds, **call)
        plain = pipe(prompt_embeds=embeds, generator=generators(1, 2), **SETTINGS).images
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)  # sigmas are factors of rounding errors
    unchanged = ours.shape == plain.shape and torch.allclose(ours, plain, atol=1e-4)
    assert unchanged == (not call or "cross_attention_kwargs" in call)


SCHEDULERS = """
    DDPMScheduler
    DEISMultistepScheduler
    DPMSolverMultistepScheduler
    DPMSolverSinglestepScheduler
    EDMEulerScheduler
    EulerAncestralDiscreteScheduler
    HeunDiscreteScheduler
    IPNDMScheduler
    KDPM2AncestralDiscreteScheduler
    KDPM2DiscreteScheduler
    LCMScheduler
    PNDMScheduler
    SASolverScheduler
    TCDScheduler
    UniPCMultistepScheduler
""".split()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of diffusers' solvers
@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_scheduler_draws_what_it_draws_in_stable_diffusion(pipe, donor, embeds, name):
    with scheduled(pipe, donor, getattr(diffusers, name), prediction_type="v_prediction"):
        ours, theirs = both(pipe, donor, embeds, num_inference_steps=5)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"timesteps": [9], "sigmas": [1.0]}, "not both"),
        ({"timesteps": []}, "empty"),
        ({"sigmas": [1.0]}, "PNDMScheduler takes no sigmas"),
        ({"eta": 0.5}, "PNDMScheduler has no eta"),
        ({"guidance_rescale": 1.5}, "from 0 to 1"),
        ({"guidance_rescale": 0.5, "guidance_scale": 1.0}, "with guidance_scale=1.0 and this UNet none is"),
        ({"image_embeds": torch.zeros(1, 20)}, "exactly one"),
        ({"prompt_embeds": None, "image_embeds": torch.zeros(1, 20)}, "give prompt_embeds, not image_embeds"),
        ({"prompt_embeds": torch.zeros(1, 6, 21)}, r"\(rows, tokens, 20\)"),
        ({"negative_prompt_embeds": torch.zeros(3, 6, 20)}, "3 rows for 2 images"),
    ],
)
def test_an_option_that_cannot_work_is_refused(donor, embeds, call, message):
    pipe = SeedImagePipeline.from_diffusion(donor, tiny_tokenizer())
    pipe.scheduler = PNDMScheduler.from_config(pipe.scheduler.config)
    with pytest.raises(ValueError, match=message):
        pipe(**{"prompt_embeds": embeds, **SETTINGS, **call})


def test_embeddings_draw_what_their_codes_draw(pipe, embeds):
    call = {**SETTINGS, "generator": generators(1, 2)}
    said = pipe(codes=some_codes(2), **call)
    drawn = pipe(prompt_embeds=embeds, **{**SETTINGS, "generator": generators(1, 2)})
    assert torch.equal(drawn.images, said.images) and drawn.codes is None
    twice = pipe(
        prompt_embeds=embeds[:1], num_images_per_prompt=2, **{**SETTINGS, "generator": generators(1, 1)}
    ).images
    torch.testing.assert_close(twice[0], twice[1], atol=1e-5, rtol=1e-5)


def test_image_embeddings_of_unclip():
    tokenizer = tiny_tokenizer(generation_target="image", num_generation_tokens=1)
    pipe = SeedImagePipeline.from_diffusion(tiny_donor("image"), tokenizer)
    pipe.set_progress_bar_config(disable=True)
    with torch.no_grad():
        embeds = pipe.encode_codes(some_codes(2))
    negative = {"negative_prompt_embeds": embeds[1:]}
    for call in ({}, {"noise_level": 3}, negative):
        told = {**SETTINGS, **call, "generator": torch.Generator().manual_seed(0)}
        said = {**told, "generator": torch.Generator().manual_seed(0)}
        if call is negative:
            said["negative_codes"] = some_codes(2)[1:]
            del said["negative_prompt_embeds"]
        drawn, wanted = pipe(image_embeds=embeds[:1], **told).images, pipe(codes=some_codes(2)[:1], **said).images
        torch.testing.assert_close(drawn, wanted, atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="give image_embeds, not prompt_embeds"):
        pipe(prompt_embeds=torch.zeros(1, 6, 20))
    alone = SeedImagePipeline(**{**pipe.components, "seed_model": None})
    alone.set_progress_bar_config(disable=True)
    call = {**SETTINGS, "image_embeds": embeds[:1]}
    images = [each(**call, generator=torch.Generator().manual_seed(0)).images for each in (alone, pipe)]
    assert alone.is_unclip and torch.equal(*images)


@pytest.mark.parametrize("kind", ["text", "image"])
def test_a_callback_of_diffusers_ends_guidance(kind):
    """With unCLIP it ended in an error of shapes: the class labels kept their rows of guidance."""
    target = {"generation_target": "image", "num_generation_tokens": 1} if kind == "image" else {}
    pipe = SeedImagePipeline.from_diffusion(tiny_donor(kind), tiny_tokenizer(**target))
    pipe.set_progress_bar_config(disable=True)
    calls = ({}, {"guidance_scale": 1.0}, {"callback_on_step_end": SDCFGCutoffCallback(cutoff_step_ratio=0.0)})
    guided, free, cut = (
        pipe(codes=some_codes(1), generator=generators(1), **{**SETTINGS, **call}).images for call in calls
    )
    assert cut.isfinite().all()
    assert not torch.allclose(cut, guided, atol=1e-4) and not torch.allclose(cut, free, atol=1e-4)


# Images


def test_arrays_and_tensors_are_images(pipe):
    array = (np.random.default_rng(0).random((2, 30, 40, 3)) * 255).astype(np.uint8)
    codes = pipe.encode_image([Image.fromarray(row) for row in array])
    tensor = torch.from_numpy(array).permute(0, 3, 1, 2)
    forms = [array, array / 255, list(array), tensor, tensor / 255, [tensor[0], Image.fromarray(array[1])]]
    assert all(torch.equal(pipe.encode_image(form), codes) for form in forms)
    drawn = pipe(image=tensor / 255, **SETTINGS, generator=generators(1, 2))
    assert torch.equal(drawn.codes, codes)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.rand(1, 1, 8, 8), r"\(3, height, width\)"),
        (np.zeros((3, 8, 8), np.uint8), r"\(height, width, 3\)"),
        (torch.rand(3, 8, 8) * 2 - 1, "from 0 to 1"),
        (torch.full((3, 8, 8), float("nan")), "from 0 to 1"),
        (np.zeros((8, 8, 3), np.int64), "int64"),
        (np.zeros((0, 8, 8, 3)), "shape"),
        ([], "empty"),
    ],
)
def test_other_arrays_are_refused(pipe, image, message):
    with pytest.raises(ValueError, match=message):
        pipe(image=image)


# Parts left out


def test_parts_are_loaded_alone(tmp_path):
    model, processor = tiny_model_and_processor()
    whole = tiny_pipeline(model, processor=processor, guidance_scale=3.0)
    whole.save_pretrained(tmp_path)
    image, codes = Image.new("RGB", (30, 30), "red"), whole.encode_prompt("a red apple")
    encoder = SeedImagePipeline.from_pretrained(tmp_path, unet=None, vae=None)
    assert torch.equal(encoder.encode_prompt("a red apple"), codes)
    assert torch.equal(encoder.encode_image(image), whole.encode_image(image))
    with torch.no_grad():
        embeds = encoder.encode_codes(codes)
    with pytest.raises(ValueError, match="no unet"):
        encoder("a red apple")

    drawer = SeedImagePipeline.from_pretrained(tmp_path, seed_model=None, processor=None)
    drawer.set_progress_bar_config(disable=True)
    call = {"num_inference_steps": 2, "generator": generators(1), "output_type": "pt"}
    drawn = drawer(prompt_embeds=embeds, **call).images
    assert torch.equal(drawn, whole(codes=codes, **{**call, "generator": generators(1)}).images)
    for call in ({"prompt": "a red apple"}, {"image": image}, {"codes": codes}):
        with pytest.raises(ValueError, match="needs a seed_model"):
            drawer(**call)

    latent = SeedImagePipeline.from_pretrained(tmp_path, vae=None)
    latent.set_progress_bar_config(disable=True)
    with pytest.raises(ValueError, match="no vae"):
        latent(codes=codes)
    assert latent(codes=codes, **{**SETTINGS, "guidance_scale": 1.0}).images.shape[0] == 1

    encoder.save_pretrained(tmp_path / "encoder")
    again = SeedImagePipeline.from_pretrained(tmp_path / "encoder")
    assert again.unet is None and torch.equal(again.encode_prompt("a red apple"), codes)


def test_a_prompt_that_is_too_long_is_named():
    model, processor = tiny_model_and_processor()
    pipe = tiny_pipeline(model, processor=processor)
    with pytest.raises(ValueError, match=r"prompt 1 \(\d+ tokens\): too long. The model has 128 positions"):
        pipe(["a red apple", "red " * 100])


# The UNet and the VAE


def lora_weights(unet) -> dict[str, torch.Tensor]:
    torch.manual_seed(5)
    adapted = tiny_unet()
    adapted.add_adapter(LoraConfig(r=2, lora_alpha=4, target_modules=["to_q", "to_v"], init_lora_weights=False))
    return get_peft_model_state_dict(adapted)


def test_lora_of_the_unet_as_in_stable_diffusion(tmp_path, caplog):
    donor = tiny_donor("text")
    pipe = SeedImagePipeline.from_diffusion(donor, tiny_tokenizer())
    for each in (pipe, donor):
        each.set_progress_bar_config(disable=True)
    with torch.no_grad():
        embeds = pipe.encode_codes(some_codes(2))
    weights = lora_weights(pipe.unet)
    SeedImagePipeline.save_lora_weights(tmp_path, unet_lora_layers=weights)
    before = both(pipe, donor, embeds)[0]
    pipe.load_lora_weights(tmp_path)  # the donor has the same UNet
    assert pipe.get_active_adapters() == ["default_0"]
    ours, theirs = both(pipe, donor, embeds)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(ours, before, atol=1e-3)
    pipe.set_adapters("default_0", 0.5)
    weaker = both(pipe, donor, embeds)
    torch.testing.assert_close(*weaker, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(weaker[0], ours, atol=1e-3) and not torch.allclose(weaker[0], before, atol=1e-3)
    pipe.set_adapters("default_0")
    none = both(pipe, donor, embeds, cross_attention_kwargs={"scale": 0.0})[0]
    torch.testing.assert_close(none, before, atol=1e-5, rtol=1e-5)
    pipe.fuse_lora()
    torch.testing.assert_close(both(pipe, donor, embeds)[0], ours, atol=1e-4, rtol=1e-4)
    pipe.unfuse_lora()
    pipe.unload_lora_weights()
    torch.testing.assert_close(both(pipe, donor, embeds)[0], before, atol=1e-5, rtol=1e-5)
    foreign = {f"text_encoder.{name}": value for name, value in weights.items()}
    unets = {f"unet.{name}": value for name, value in weights.items()}
    pipe.load_lora_weights({**unets, **foreign})
    torch.testing.assert_close(both(pipe, donor, embeds)[0], ours, atol=1e-5, rtol=1e-5)


def test_switches_of_the_unet_and_the_vae(pipe, embeds):
    call = {"prompt_embeds": embeds, **SETTINGS, "output_type": "pt"}
    plain = pipe(generator=generators(1, 2), **call).images
    pipe.enable_freeu(s1=0.9, s2=0.2, b1=1.5, b2=1.6)
    freed = pipe(generator=generators(1, 2), **call).images
    pipe.disable_freeu()
    assert not torch.allclose(freed, plain, atol=1e-4)
    for switch in ("slicing", "tiling"):
        getattr(pipe.vae, f"enable_{switch}")()
        torch.testing.assert_close(pipe(generator=generators(1, 2), **call).images, plain, atol=1e-5, rtol=1e-5)
        getattr(pipe.vae, f"disable_{switch}")()
    pipe.fuse_qkv_projections()
    torch.testing.assert_close(pipe(generator=generators(1, 2), **call).images, plain, atol=1e-4, rtol=1e-4)
    pipe.unfuse_qkv_projections()


def test_every_component_has_variants_and_shards(tmp_path):
    model, processor = tiny_model_and_processor()
    pipe = tiny_pipeline(model, processor=processor, guidance_scale=2.0)
    pipe.save_pretrained(tmp_path, variant="fp16", max_shard_size="2KB")
    for part in ("seed_model", "unet", "vae"):
        names = [path.name for path in (tmp_path / part).glob("*.safetensors")]
        assert len(names) > 1 and all(".fp16-0" in name for name in names), part
    assert [path.name for path in (tmp_path / "empty_prompt").glob("*.safetensors")] == [
        "diffusion_pytorch_model.fp16.safetensors"
    ]
    loaded = SeedImagePipeline.from_pretrained(tmp_path, variant="fp16")
    loaded.set_progress_bar_config(disable=True)
    images = [each(codes=some_codes(1), **SETTINGS, generator=generators(1)).images for each in (pipe, loaded)]
    assert torch.equal(*images)
