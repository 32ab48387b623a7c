"""A UNet that was distilled to guide itself (LCM) reads the scale, in one row, as in StableDiffusionPipeline."""

import pytest
import torch
from diffusers import LCMScheduler, StableDiffusionPipeline

from seed_hf import SeedImagePipeline
from tiny import tiny_tokenizer
from tiny_diffusion import generators, some_codes, tiny_donor, tiny_pipeline, tiny_unet


@pytest.fixture(scope="module")
def donor():
    parts = tiny_donor("text").components
    unet = tiny_unet(time_cond_proj_dim=12)
    torch.nn.init.normal_(unet.time_embedding.cond_proj.weight)
    donor = StableDiffusionPipeline(**{**parts, "unet": unet}, requires_safety_checker=False)
    donor.scheduler = LCMScheduler.from_config(donor.scheduler.config)
    donor.set_progress_bar_config(disable=True)
    return donor


@pytest.mark.parametrize("scale", [1.0, 4.0, 8.0])
@torch.no_grad()
def test_it_draws_as_in_stable_diffusion(donor, scale):
    pipe = SeedImagePipeline.from_diffusion(donor, tiny_tokenizer())
    pipe.set_progress_bar_config(disable=True)
    embeds = pipe.encode_codes(some_codes(2))
    call = {"prompt_embeds": embeds, "num_inference_steps": 4, "output_type": "latent", "guidance_scale": scale}
    rows = []
    hook = pipe.unet.register_forward_pre_hook(lambda _, args: rows.append(len(args[0])))
    ours = pipe(generator=generators(1, 2), **call).images
    assert rows == [2] * 4
    hook.remove()
    theirs = donor(generator=generators(1, 2), **call).images
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    pipe.enable_cuda_graphs()
    assert torch.equal(pipe(generator=generators(1, 2), **call).images, ours)


def test_it_needs_no_empty_prompt_and_is_led_away_from_nothing_else():
    pipe = tiny_pipeline(unet=tiny_unet(time_cond_proj_dim=12), empty_prompt=None)
    call = {"codes": some_codes(1), "num_inference_steps": 2, "output_type": "pt", "guidance_scale": 4.0}
    assert torch.isfinite(pipe(**call).images).all()
    with pytest.raises(ValueError, match="guidance_rescale changes predictions"):
        pipe(guidance_rescale=0.7, **call)
    with pytest.raises(ValueError, match="distilled to guide itself .* leave out negative_codes"):
        pipe(negative_codes=some_codes(1), **call)
