"""The denoising loop of a [`SeedImagePipeline`] call."""

import inspect

import torch


def denoise(
    pipeline,
    latents: torch.Tensor,
    prompt_embeds: torch.Tensor,
    class_labels: torch.Tensor | None,
    num_inference_steps: int,
    generator: torch.Generator | list[torch.Generator] | None,
    callback,
    callback_tensors: list[str],
) -> torch.Tensor:
    """Denoised latents of the shape of `latents`.

    Args:
        pipeline: A [`SeedImagePipeline`] in a call. Its `num_timesteps` is set here.
        latents: `(rows, channels, height / f, width / f)`, the starting noise.
        prompt_embeds, class_labels: The condition; under guidance the empty prompt's rows come first.
        num_inference_steps: Denoising steps.
        generator: For schedulers that draw noise.
        callback, callback_tensors: `callback_on_step_end` of the call, and the tensors that it gets.
    """
    scheduler = pipeline.scheduler
    scheduler.set_timesteps(num_inference_steps, device=latents.device)
    timesteps = scheduler.timesteps
    pipeline._num_timesteps = len(timesteps)
    takes_generator = "generator" in inspect.signature(scheduler.step).parameters
    step_kwargs = {"generator": generator} if takes_generator else {}
    with pipeline.progress_bar(total=len(timesteps)) as progress_bar:
        for step, timestep in enumerate(timesteps):
            if pipeline.interrupt:
                break
            noise = predict_noise(pipeline, latents, timestep, prompt_embeds, class_labels)
            latents = scheduler.step(noise, timestep, latents, **step_kwargs, return_dict=False)[0]
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
    condition = {"encoder_hidden_states": prompt_embeds, "class_labels": class_labels}
    noise = pipeline.unet(inputs, timestep, **condition, return_dict=False)[0]
    if not guided:
        return noise
    noise_empty, noise_codes = noise.chunk(2)
    return noise_empty + pipeline.guidance_scale * (noise_codes - noise_empty)


__all__ = ["denoise", "predict_noise"]
