"""The diffusion model's embedding of the empty prompt, as a component of the pipeline."""

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config


class EmptyPromptEmbedding(ModelMixin, ConfigMixin):
    """The text encoder's embedding of the empty prompt. With it, guidance needs no text encoder.

    Args:
        num_tokens (`int`): Length of the embedding, the tokenizer's `num_generation_tokens`.
        dim (`int`): Its width, the tokenizer's `generation_dim`.
        derived_from (`str`, *optional*): The bundled checkpoint that it comes from, with the UNet that reads it.
    """

    @register_to_config
    def __init__(self, num_tokens: int, dim: int, derived_from: str | None = None):
        super().__init__()
        self.embeds = torch.nn.Parameter(torch.zeros(num_tokens, dim), requires_grad=False)

    @classmethod
    def from_embeds(cls, embeds: torch.Tensor) -> "EmptyPromptEmbedding":
        """From a tensor of shape `(num_tokens, dim)` or `(1, num_tokens, dim)`."""
        embeds = embeds.detach()
        embeds = embeds[0] if embeds.ndim == 3 and len(embeds) == 1 else embeds
        if embeds.ndim != 2:
            raise ValueError(f"One embedding of shape (num_tokens, dim) is expected, got {tuple(embeds.shape)}.")
        module = cls(*embeds.shape)
        module.embeds = torch.nn.Parameter(embeds.clone(), requires_grad=False)
        return module

    @classmethod
    @torch.no_grad()
    def from_text_encoder(cls, text_encoder, tokenizer, num_tokens: int) -> "EmptyPromptEmbedding":
        """Encodes `""` padded to `num_tokens`, without an attention mask, as Stable Diffusion does."""
        tokens = tokenizer("", padding="max_length", max_length=num_tokens, truncation=True, return_tensors="pt")
        return cls.from_embeds(text_encoder(tokens.input_ids.to(text_encoder.device))[0])

    def forward(self, batch_size: int) -> torch.Tensor:
        return self.embeds.expand(batch_size, -1, -1)


__all__ = ["EmptyPromptEmbedding"]
