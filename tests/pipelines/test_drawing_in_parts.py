"""Many images in parts of `batch_size`, and a UNet whose pass is captured or compiled."""

import pytest
import torch
from diffusers import DDIMScheduler, PNDMScheduler
from diffusers.callbacks import SDCFGCutoffCallback

from seed_hf.modeling.finite_values_seed import NotFiniteError
from seed_hf.pipelines.captured_unet import CapturedUNet
from tiny_diffusion import generators, some_codes, tiny_pipeline, tiny_unet


STEPS = {"num_inference_steps": 3}


@pytest.fixture(scope="module")
def pipe():
    return tiny_pipeline()


@pytest.mark.parametrize("output_type", ["np", "pt", "latent"])
def test_parts_are_the_whole(pipe, output_type):
    codes = some_codes(5)
    whole = pipe(codes=codes, generator=generators(*range(5)), output_type=output_type, **STEPS).images
    parts = pipe(codes=codes, generator=generators(*range(5)), output_type=output_type, batch_size=2, **STEPS).images
    assert torch.allclose(torch.as_tensor(whole), torch.as_tensor(parts), rtol=1e-4, atol=1e-4)


def test_images_are_lists_and_noise_of_one_generator_is_drawn_for_all(pipe):
    images = [
        pipe(codes=some_codes(3), generator=torch.Generator().manual_seed(0), batch_size=size, **STEPS).images
        for size in (None, 1)
    ]
    assert len(images[1]) == 3
    assert max(abs(a - b) for pair in zip(*images) for a, b in zip(*(image.tobytes() for image in pair))) <= 1


def test_the_unet_never_sees_more_rows_and_steps_are_counted_in_each_part(pipe):
    rows, steps = [], []
    hook = pipe.unet.register_forward_pre_hook(lambda _, args: rows.append(len(args[0])))
    try:
        settings = {"callback_on_step_end": lambda pipe, step, time, tensors: steps.append(step) or {}}
        pipe(codes=some_codes(5), batch_size=2, guidance_scale=3.0, **STEPS, **settings)
    finally:
        hook.remove()
    assert rows == [4] * 6 + [2] * 3 and steps == [0, 1, 2] * 3


def test_a_callback_stops_all_parts(pipe):
    def stop(pipe, step, time, tensors):
        pipe._interrupt = True
        return {}

    drawn = pipe(codes=some_codes(4), batch_size=2, callback_on_step_end=stop, **STEPS)
    assert len(drawn.images) == 2 and torch.equal(drawn.codes, some_codes(4)[:2])


def weaker(pipe, step, time, tensors):
    pipe._guidance_scale *= 0.7
    return {}


@pytest.mark.parametrize("callback", [weaker, SDCFGCutoffCallback(cutoff_step_ratio=0.5)], ids=["weaker", "cut off"])
def test_a_callback_that_changes_guidance_does_so_in_each_part(pipe, callback):
    settings = {"codes": some_codes(2), "output_type": "latent", "guidance_scale": 4.0, **STEPS}
    settings["callback_on_step_end"] = callback
    parts = pipe(generator=generators(0, 1), batch_size=1, **settings).images
    alone = [pipe(generator=generators(row), **{**settings, "codes": some_codes(2)[row]}).images for row in (0, 1)]
    assert torch.allclose(parts, torch.cat(alone), atol=1e-5)


def test_a_part_has_a_row(pipe):
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        pipe(codes=some_codes(1), batch_size=0)


@pytest.mark.parametrize("scheduler", [DDIMScheduler(), PNDMScheduler(skip_prk_steps=True)], ids=["ddim", "pndm"])
def test_a_captured_unet_draws_the_same(scheduler):
    pipe = tiny_pipeline(scheduler=scheduler)
    settings = {"codes": some_codes(2), "output_type": "np", **STEPS}
    for guidance in (1.0, 4.0):
        plain = pipe(generator=generators(0, 1), guidance_scale=guidance, **settings).images
        pipe.enable_cuda_graphs()
        assert isinstance(pipe.captured_unet, CapturedUNet)
        captured = pipe(generator=generators(0, 1), guidance_scale=guidance, **settings).images
        pipe.disable_cuda_graphs()
        assert pipe.captured_unet is None and (plain == captured).all()


def test_another_unet_is_not_drawn_with_the_captured_one():
    pipe = tiny_pipeline()
    settings = {"codes": some_codes(1), "output_type": "np", **STEPS}
    pipe.enable_cuda_graphs()
    first = pipe(generator=generators(0), **settings).images
    pipe.unet = tiny_unet(seed=5)
    second = pipe(generator=generators(0), **settings).images
    pipe.disable_cuda_graphs()
    assert (second == pipe(generator=generators(0), **settings).images).all() and not (first == second).all()


def test_the_unet_compiles_as_one_graph_for_all_steps():
    pipe = tiny_pipeline()
    settings = {"codes": some_codes(2), "output_type": "np", "num_inference_steps": 4}
    plain = pipe(generator=generators(0, 1), **settings).images
    torch._dynamo.reset()
    pipe.unet = torch.compile(pipe.unet, backend="eager", fullgraph=True)
    with torch._dynamo.config.patch(error_on_recompile=True):
        compiled = pipe(generator=generators(0, 1), **settings).images
    assert abs(plain - compiled).max() < 1e-4


def test_latents_are_decoded_outside_of_a_call(pipe):
    settings = {"codes": some_codes(2), **STEPS}
    latents = pipe(generator=generators(0, 1), output_type="latent", **settings).images
    expected = pipe(generator=generators(0, 1), output_type="np", **settings).images
    assert (pipe.decode_latents(latents, "np") == expected).all()


def test_images_that_are_not_finite_are_an_error_and_not_black(pipe):
    embeds = pipe.encode_codes(some_codes(2)).detach()
    embeds[1] = torch.nan
    latents = pipe(prompt_embeds=embeds, output_type="latent", **STEPS).images
    assert latents[0].isfinite().all() and latents[1].isnan().all()
    for output_type in ("pil", "np", "pt"):
        with pytest.raises(NotFiniteError, match="1 of 2 images are NaN or infinite") as caught:
            pipe(prompt_embeds=embeds, output_type=output_type, **STEPS)
        assert caught.value.rows == [1]
    assert len(pipe(prompt_embeds=embeds[:1], **STEPS).images) == 1
