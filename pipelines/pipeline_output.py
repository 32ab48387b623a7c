"""What a [`SeedImagePipeline`] call returns."""

from dataclasses import dataclass

import numpy as np
import torch
from diffusers.utils import BaseOutput
from PIL import Image


@dataclass
class SeedImagePipelineOutput(BaseOutput):
    """Output of [`SeedImagePipeline`].

    Args:
        images: `list[PIL.Image.Image]`, or an array `(rows, height, width, 3)` for `"np"`, a tensor `(rows, 3, height,
            width)` in [0, 1] for `"pt"`, the latents for `"latent"`.
        codes: `torch.LongTensor` of shape `(rows, num_query_tokens)`: the codes that each image was drawn from;
            `None` if it was drawn from embeddings.
    """

    images: list[Image.Image] | np.ndarray | torch.Tensor
    codes: torch.Tensor | None


__all__ = ["SeedImagePipelineOutput"]
