"""The UNet's pass as a CUDA graph: one launch in place of some thousand from Python."""

from collections import OrderedDict
from typing import Any

import torch

from seed_hf.modeling.captured_graph_seed import CapturedGraph


_KEPT = 4  # shapes


_HOOKS = ("_hf_hook", "_diffusers_hook")  # by which accelerate and diffusers move weights


class CapturedUNet:
    """Calls a UNet, and repeats what was captured at the first call of each shape.

    It shows the UNet as it was then: whoever loads LoRA weights, or changes its blocks, captures anew.
    """

    def __init__(self) -> None:
        self.graphs: OrderedDict[tuple, tuple[torch.cuda.CUDAGraph, dict[str, torch.Tensor], torch.Tensor]]
        self.graphs = OrderedDict()

    def __call__(
        self, unet: Any, sample: torch.Tensor, timestep: torch.Tensor, **inputs: torch.Tensor | None
    ) -> torch.Tensor:
        """The predicted noise.

        Args:
            unet: On a GPU; on other devices, and where its weights come and go (offloading, or the copies that
                autocast makes), it is called as it is.
            sample: `(rows, channels, height, width)`.
            timestep: One for all rows.
            inputs: `encoder_hidden_states`, `class_labels` and `timestep_cond`.
        """
        given = {"sample": sample, "timestep": timestep, **inputs}
        tensors = {name: value for name, value in given.items() if value is not None}
        moved = any(hasattr(each, hook) for each in unet.modules() for hook in _HOOKS)
        if not sample.is_cuda or moved or torch.is_autocast_enabled("cuda"):
            return unet(**tensors, return_dict=False)[0]
        tensors["timestep"] = timestep.to(sample.device)
        weights = (id(unet), *(weight.data_ptr() for weight in unet.parameters()))
        shapes = tuple((name, value.shape, value.dtype, value.stride()) for name, value in tensors.items())
        kept = self.graphs.pop(shapes + weights, None) or self._captured(unet, tensors)
        self.graphs[shapes + weights] = kept
        while len(self.graphs) > _KEPT:
            self.graphs.popitem(last=False)
        graph, places = kept
        for name, value in tensors.items():
            places[name].copy_(value)
        graph.replay()
        return graph.result.clone()  # some schedulers keep it

    @torch.inference_mode(False)  # what is made in that mode could not be changed outside it
    @torch.no_grad()
    def _captured(self, unet: Any, tensors: dict[str, torch.Tensor]) -> tuple:
        places = {name: value.clone() for name, value in tensors.items()}
        graph = CapturedGraph(lambda: unet(**places, return_dict=False)[0], places["sample"].device)
        return graph, places


__all__ = ["CapturedUNet"]
