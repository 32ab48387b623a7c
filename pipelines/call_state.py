"""What callbacks may ask a pipeline about the call that is running, and pipelines for calls beside it."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from .diffusion_parts import embeds_guidance


class CallState:
    """The settings of the running call, as a mix-in of the pipeline."""

    _device_of_call: torch.device | None = None

    @property
    def _execution_device(self) -> torch.device:
        """diffusers' own, asked once in a call: it looks through all parts for hooks each time, which takes 2 ms."""
        return self._device_of_call or super()._execution_device  # type: ignore[misc]

    @property
    def guidance_scale(self) -> float:
        """The guidance scale of the running call; callbacks read it. 1 is no guidance."""
        return self._guidance_scale

    @property
    def guidance_rescale(self) -> float:
        """How far a guided prediction is scaled back to the size of the unguided one, from 0 to 1."""
        return self._guidance_rescale

    @property
    def do_classifier_free_guidance(self) -> bool:
        """Whether the running call has a second row for guidance."""
        return self._guidance_scale > 1 and not embeds_guidance(self.unet)  # type: ignore[attr-defined]

    @property
    def cross_attention_kwargs(self) -> dict[str, Any] | None:
        """The running call's options of the UNet's attention processors."""
        return self._cross_attention_kwargs

    @property
    def num_timesteps(self) -> int:
        """Denoising steps of the running call."""
        return self._num_timesteps  # type: ignore[attr-defined] # denoise sets it

    @property
    def interrupt(self) -> bool:
        """Whether a callback has stopped the call by setting `pipe._interrupt`."""
        return self._interrupt

    def beside(self) -> Any:
        """A pipeline of the same models that may draw in another thread at the same time.

        A call changes the scheduler and what callbacks are told; the models it only uses. Not with offloading, CUDA
        graphs, or a scale of LoRA weights in `cross_attention_kwargs`: these change the models during a call, too.
        """
        other = copy.copy(self)
        for name in ("scheduler", "image_noising_scheduler"):
            setattr(other, name, copy.deepcopy(getattr(self, name)))
        return other

    @contextmanager
    def _in_call(
        self, guidance_scale: float, guidance_rescale: float, cross_attention_kwargs: dict | None
    ) -> Iterator[None]:
        self._interrupt = False
        self.set_guidance(guidance_scale, guidance_rescale, cross_attention_kwargs)
        self._device_of_call = self._execution_device
        try:
            yield
        finally:
            self._device_of_call = None

    def set_guidance(
        self, guidance_scale: float, guidance_rescale: float, cross_attention_kwargs: dict | None
    ) -> None:
        """Sets what a callback may change, anew for each part of a call.

        Args:
            guidance_scale, guidance_rescale, cross_attention_kwargs: Of the call.
        """
        self._guidance_scale, self._guidance_rescale = guidance_scale, guidance_rescale
        self._cross_attention_kwargs = cross_attention_kwargs


__all__ = ["CallState"]
