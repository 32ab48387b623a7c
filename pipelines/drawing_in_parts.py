"""Denoising and decoding so many images at a time: memory stays that of one part, however many images a call draws."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from .denoising import denoise, set_timesteps, step_options


def draw_in_parts(
    pipeline,
    call: SimpleNamespace,
    steps: torch.Tensor,
    latents: torch.Tensor,
    condition: torch.Tensor,
    class_labels: torch.Tensor | None,
) -> Any:
    """The images of a call, as its `output_type` says.

    Args:
        pipeline: A [`SeedImagePipeline`] in a call.
        call: The arguments of the call.
        steps: The scheduler's timesteps, which are set.
        latents: The starting noise of all images.
        condition, class_labels: Of all images; under guidance what leads away comes first.
    """
    size = call.batch_size or len(latents)
    starts = range(0, len(latents), size)
    images: list[Any] = []
    with pipeline.progress_bar(total=len(steps) * len(starts)) as progress_bar:
        for start in starts:
            if pipeline.interrupt and images:
                break
            if start:  # a solver remembers the steps before, and a callback may have changed the rest
                pipeline.set_guidance(call.guidance_scale, call.guidance_rescale, call.cross_attention_kwargs)
                steps = set_timesteps(
                    pipeline.scheduler, call.num_inference_steps, call.timesteps, call.sigmas, latents.device
                )
            rows = slice(start, start + size)
            generator = call.generator[rows] if isinstance(call.generator, list) else call.generator
            denoised = denoise(
                pipeline,
                latents[rows],
                _of(condition, rows, len(latents)),
                None if class_labels is None else _of(class_labels, rows, len(latents)),
                steps,
                step_options(pipeline.scheduler, generator=generator, eta=call.eta),
                call.callback_on_step_end,
                call.callback_on_step_end_tensor_inputs,
                progress_bar,
            )
            images.append(pipeline.decode_latents(denoised, call.output_type))
    if len(images) == 1:
        return images[0]
    if isinstance(images[0], list):
        return [image for part in images for image in part]
    return np.concatenate(images) if isinstance(images[0], np.ndarray) else torch.cat(images)


def _of(rows: torch.Tensor, part: slice, total: int) -> torch.Tensor:
    """Those of a part; under guidance there are twice `total`."""
    return torch.cat([half[part] for half in rows.split(total)])


__all__ = ["draw_in_parts"]
