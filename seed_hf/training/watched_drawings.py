"""Draws images from codes while a model is trained, with the diffusion model of a saved pipeline."""

from __future__ import annotations

from typing import Any

import torch
from PIL import Image
from transformers import PreTrainedConfig

from seed_hf.artifacts.loading import load_pipeline
from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer


STEPS, SEED = 12, 0


class Drawer:
    """The UNet and VAE of a pipeline. Each image starts from the same noise, so that drawings can be compared.

    Args:
        source: Folder or Hub id of a [`SeedImagePipeline`].
        device: Where it draws.
        model: Configuration of the model that is trained: of a [`SeedTokenizer`], whose embeddings are drawn, or of a
            language model, whose codes the pipeline's own tokenizer reads.

    Raises:
        FileNotFoundError: There is no such folder and no such repository.
        ValueError: It is no pipeline, or one of another visual tokenizer.
    """

    def __init__(self, source: str, device: torch.device, model: PreTrainedConfig):
        embeds = model.model_type == SeedTokenizer.config_class.model_type
        left_out = {"seed_model": None, "processor": None} if embeds else {}
        try:
            self.pipe = load_pipeline(source, device=device, **left_out)
            self.pipe.set_progress_bar_config(disable=True)
            sizes = {name: getattr(model, name) for name in ("codebook_size", "num_query_tokens")}
            own = sizes if embeds else {name: getattr(self.pipe.visual_tokenizer.config, name) for name in sizes}
            if own != sizes:
                raise ValueError(f"{source}: its visual tokenizer has {own}, the model {sizes}.")
            if embeds:
                shape = (model.num_generation_tokens, model.generation_dim)
                self.of_embeddings(torch.zeros(1, *shape[model.generation_target == "image" :]), steps=1)
        except (ValueError, FileNotFoundError) as error:
            raise type(error)(f"watch_pipeline: {error}") from error

    def of_codes(self, codes: torch.Tensor) -> list[Image.Image]:
        """Images `(rows,)` of codes `(rows, num_query_tokens)`, as the pipeline's tokenizer reads them."""
        return self.of_embeddings(self.pipe.encode_codes(codes))

    def of_embeddings(self, embeds: torch.Tensor, steps: int = STEPS) -> list[Image.Image]:
        """Images of generation embeddings.

        Args:
            embeds: One row an image.
            steps: Of denoising.
        """
        name = "image_embeds" if self.pipe.is_unclip else "prompt_embeds"
        noise = [torch.Generator().manual_seed(SEED) for _ in embeds]
        with torch.autocast(embeds.device.type, enabled=False):
            given: dict[str, Any] = {name: embeds}
            return self.pipe(**given, num_inference_steps=steps, generator=noise).images
