"""Guidance away from codes: where the negative condition enters, in Stable Diffusion and in unCLIP."""

import pytest
import torch

from seed_hf import SeedImagePipeline
from seed_hf.pipelines.conditions import unclip_condition
from seed_hf.pipelines.diffusion_parts import unclip_labels
from tiny import tiny_tokenizer
from tiny_diffusion import (
    generators,
    some_codes,
    tiny_donor,
    tiny_model_and_processor,
    tiny_pipeline,
    tiny_unet,
    tiny_vae,
)


@torch.no_grad()
def draw(pipe, codes, **call):
    pipe.set_progress_bar_config(disable=True)
    settings = {"num_inference_steps": 2, "output_type": "latent", "generator": torch.Generator().manual_seed(0)}
    return pipe(codes=codes, **{**settings, **call}).images


@torch.no_grad()
def test_stable_diffusion_reads_negative_codes_in_place_of_the_empty_prompt():
    """As diffusers draws with the embeddings of both."""
    donor, tokenizer = tiny_donor("text"), tiny_tokenizer()
    pipe, (codes, negative) = SeedImagePipeline.from_diffusion(donor, tokenizer), some_codes(2)
    ours = draw(pipe, codes, negative_codes=negative, guidance_scale=4.0)
    embeds, away = tokenizer.decode(codes[None]), tokenizer.decode(negative[None])
    settings = {"num_inference_steps": 2, "output_type": "latent", "generator": torch.Generator().manual_seed(0)}
    theirs = donor(prompt_embeds=embeds, negative_prompt_embeds=away, guidance_scale=4.0, **settings).images
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(ours, draw(pipe, codes, guidance_scale=4.0), atol=1e-3)
    # Away from itself is no guidance at all.
    itself = draw(pipe, codes, negative_codes=codes, guidance_scale=4.0)
    torch.testing.assert_close(itself, draw(pipe, codes, guidance_scale=1.0), atol=1e-5, rtol=1e-5)
    pipe.register_modules(empty_prompt=None)  # it is not read
    assert torch.equal(draw(pipe, codes, negative_codes=negative, guidance_scale=4.0), ours)


@torch.no_grad()
def test_unclip_reads_negative_codes_at_noise_level_0():
    tokenizer = tiny_tokenizer(generation_target="image", num_generation_tokens=1)
    pipe, (codes, negative) = SeedImagePipeline.from_diffusion(tiny_donor("image"), tokenizer), some_codes(2)[:, None]
    parts = (pipe.image_normalizer, pipe.image_noising_scheduler)
    generator = torch.Generator().manual_seed(3)
    own = unclip_labels(tokenizer.decode(codes), *parts, 20, generator)
    away = unclip_labels(tokenizer.decode(negative), *parts, 0, generator)
    embeds, negative_embeds = pipe.encode_codes(codes), pipe.encode_codes(negative)
    _, labels = unclip_condition(embeds, negative_embeds, pipe, True, 20, torch.Generator().manual_seed(3))
    assert torch.equal(labels, torch.cat([away, own]))
    _, plain = unclip_condition(embeds, None, pipe, True, 20, torch.Generator().manual_seed(3))
    assert torch.equal(plain, torch.cat([torch.zeros_like(own), own]))
    drawn = [draw(pipe, codes[0], guidance_scale=5.0, negative_codes=each) for each in (negative[0], None)]
    assert not torch.allclose(*drawn, atol=1e-3)


@torch.no_grad()
def test_negative_codes_leave_the_starting_noise_of_unclip(monkeypatch):
    tokenizer = tiny_tokenizer(generation_target="image", num_generation_tokens=1)
    pipe, (codes, negative) = SeedImagePipeline.from_diffusion(tiny_donor("image"), tokenizer), some_codes(2)
    seen = []
    with_noise = type(pipe).prepare_latents
    monkeypatch.setattr(type(pipe), "prepare_latents", lambda *args: seen.append(with_noise(*args)) or seen[-1])
    for each in (None, negative):
        draw(pipe, codes, guidance_scale=5.0, negative_codes=each)
        draw(pipe, codes, guidance_scale=5.0, negative_codes=each, generator=generators(0))
    assert all(torch.equal(noise, seen[0]) for noise in seen)


@pytest.mark.parametrize("candidates", [1, 2])
def test_a_sampled_negative_prompt_follows_the_generator_of_its_row(candidates):
    model, processor = tiny_model_and_processor()
    pipe = tiny_pipeline(model, processor=processor, guidance_scale=3.0)
    settings = {"num_inference_steps": 2, "output_type": "latent", "negative_prompt": "a green car"}
    settings |= {"generation_kwargs": {"do_sample": True}, "num_candidates": candidates}
    both = pipe(["a red apple", "a dog"], generator=generators(1, 2), **settings).images
    alone = [
        pipe(text, generator=generators(seed), **settings).images for text, seed in (("a red apple", 1), ("a dog", 2))
    ]
    # Latents are up to 50 here, and in a batch rounded elsewhere in the sixth digit. Other seeds change them by 65.
    assert torch.allclose(both, torch.cat(alone), atol=1e-3)


def test_embeddings_to_lead_away_from_are_of_each_image_or_each_prompt():
    pipe = tiny_pipeline(guidance_scale=3.0)
    away = pipe.encode_codes(some_codes(2, seed=5)).detach()
    settings = {"num_images_per_prompt": 2, "generator": generators(0, 1, 2, 3)}
    of_prompts = draw(pipe, some_codes(2), negative_prompt_embeds=away, **settings)
    settings["generator"] = generators(0, 1, 2, 3)
    of_images = draw(pipe, some_codes(2), negative_prompt_embeds=away.repeat_interleave(2, 0), **settings)
    assert torch.equal(of_prompts, of_images)


def test_a_negative_prompt_is_its_codes():
    model, processor = tiny_model_and_processor()
    pipe = SeedImagePipeline(model.eval(), tiny_unet(), tiny_vae(), processor=processor, guidance_scale=3.0)
    codes, negative = some_codes(1), pipe.encode_prompt("a red apple")
    said = draw(pipe, codes, negative_prompt="a red apple", num_images_per_prompt=2)
    assert torch.equal(said, draw(pipe, codes, negative_codes=negative, num_images_per_prompt=2)) and len(said) == 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"negative_prompt": "x"}, "language model"),
        ({"negative_prompt_embeds": torch.zeros(1, 1, 20)}, r"negative_prompt_embeds \(1, 20\)"),
        ({"negative_codes": some_codes(2)}, "of one image"),
        ({"negative_codes": some_codes(1), "guidance_scale": 1.0}, "is none"),
        ({"negative_codes": some_codes(1), "negative_prompt": "x"}, "not negative_prompt and negative_codes"),
    ],
)
def test_what_cannot_be_led_away_from(call, message):
    with pytest.raises(ValueError, match=message):
        draw(tiny_pipeline(guidance_scale=3.0), some_codes(1), **call)
