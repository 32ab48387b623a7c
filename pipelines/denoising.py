"""The denoising loop of a [`SeedImagePipeline`] call."""

import inspect
from typing import Any

import torch
from diffusers.models.embeddings import get_timestep_embedding

from .diffusion_parts import embeds_guidance


def set_timesteps(
    scheduler, num_inference_steps: int, timesteps: list[int] | None, sigmas: list[float] | None, device
) -> torch.Tensor:
    """Prepares the scheduler and returns its timesteps.

    Args:
        scheduler: Of the pipeline.
        num_inference_steps: Denoising steps, unless one of the following is given.
        timesteps, sigmas: Own steps, for schedulers that take them.
        device: Of the latents.
    """
    own: dict[str, Any] = {
        name: value for name, value in (("timesteps", timesteps), ("sigmas", sigmas)) if value is not None
    }
    scheduler.set_timesteps(**(own or {"num_inference_steps": num_inference_steps}), device=device)
    steps = scheduler.timesteps
    if len(steps) > 1 and steps[0] == steps[1] and hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(0)  # of steps with the same timestep it would begin with the second
    return steps


def step_options(scheduler, **options: Any) -> dict[str, Any]:
    """Those of the options that `scheduler.step` has.

    Args:
        scheduler: Of the pipeline.
        options: `generator` and `eta`.
    """
    known = inspect.signature(scheduler.step).parameters
    return {name: value for name, value in options.items() if name in known}


def denoise(
    pipeline,
    latents: torch.Tensor,
    prompt_embeds: torch.Tensor,
    class_labels: torch.Tensor | None,
    timesteps: torch.Tensor,
    options: dict[str, Any],
    callback,
    callback_tensors: list[str],
    progress_bar,
) -> torch.Tensor:
    """Denoised latents of the shape of `latents`.

    Args:
        pipeline: A [`SeedImagePipeline`] in a call. Its `num_timesteps` is set here.
        latents: `(rows, channels, height / f, width / f)`, the starting noise.
        prompt_embeds, class_labels: The condition; under guidance the empty prompt's rows come first.
        timesteps: The scheduler's.
        options: Of the scheduler's `step`, from [`step_options`].
        callback, callback_tensors: `callback_on_step_end` of the call, and the tensors that it gets.
        progress_bar: Told of each step.
    """
    scheduler = pipeline.scheduler
    pipeline._num_timesteps = len(timesteps)
    for step, timestep in enumerate(timesteps):
        if pipeline.interrupt:
            break
        noise = predict_noise(pipeline, latents, timestep, prompt_embeds, class_labels)
        latents = scheduler.step(noise, timestep, latents, **options, return_dict=False)[0]
        if callback is not None:
            tensors = {"latents": latents, "prompt_embeds": prompt_embeds}
            tensors = {name: tensors[name] for name in callback_tensors}
            changed = callback(pipeline, step, timestep, tensors) or {}
            latents = changed.pop("latents", latents)
            prompt_embeds = changed.pop("prompt_embeds", prompt_embeds)
        progress_bar.update()
    return latents


def predict_noise(pipeline, latents: torch.Tensor, timestep, prompt_embeds, class_labels) -> torch.Tensor:
    """The UNet's prediction for latents `(rows, channels, height, width)`, with guidance if the call uses it.

    Args:
        pipeline: A [`SeedImagePipeline`] in a call.
        latents, timestep: Of this step.
        prompt_embeds, class_labels: The condition; under guidance the empty prompt's rows come first.
    """
    guided = pipeline.do_classifier_free_guidance
    inputs = pipeline.scheduler.scale_model_input(torch.cat([latents] * 2) if guided else latents, timestep)
    if class_labels is not None:
        class_labels = class_labels[-len(inputs) :]  # a callback may have ended guidance
    condition = {"encoder_hidden_states": prompt_embeds, "class_labels": class_labels}
    unet, options = pipeline.unet, pipeline.cross_attention_kwargs
    if embeds_guidance(unet):  # 1 is no guidance, which is the embedding of 0
        scales = torch.full((len(inputs),), 1000 * (pipeline.guidance_scale - 1), device=inputs.device)
        embedded = get_timestep_embedding(scales, unet.config.time_cond_proj_dim, downscale_freq_shift=1)
        condition["timestep_cond"] = embedded.to(inputs.dtype)
    if pipeline.captured_unet is not None and not options:
        noise = pipeline.captured_unet(unet, inputs, timestep, **condition)
    else:
        noise = unet(inputs, timestep, **condition, cross_attention_kwargs=options, return_dict=False)[0]
    if not guided:
        return noise
    noise_empty, noise_codes = noise.chunk(2)
    noise = noise_empty + pipeline.guidance_scale * (noise_codes - noise_empty)
    return rescaled(noise, noise_codes, pipeline.guidance_rescale) if pipeline.guidance_rescale else noise


def rescaled(guided: torch.Tensor, plain: torch.Tensor, share: float) -> torch.Tensor:
    """A guided prediction moved towards the standard deviation of the plain one (arXiv 2305.08891, section 3.4).

    Args:
        guided, plain: `(rows, channels, height, width)`.
        share: 0 leaves the guided prediction as it is, 1 gives it the standard deviation of the plain one.
    """
    sizes = [each.std(dim=list(range(1, each.ndim)), keepdim=True) for each in (plain, guided)]
    return guided * (share * sizes[0] / sizes[1] + 1 - share)


__all__ = ["denoise", "predict_noise", "rescaled", "set_timesteps", "step_options"]
