"""A memory for what codes look like, for diffusion models too small to remember it themselves."""

import torch
from torch import nn

from .configuration_seed import SeedTokenizerConfig


class SeedCodeMemory(nn.Module):
    """The vectors of all codes at once to what is added to the generation embeddings: an MLP (not in the paper).

    The Reverse Q-Former runs the same narrow layers for every generation token, so that a weight of it costs as many
    multiplications as there are tokens, and so does a UNet for every place of the latents. Here a weight costs one: it
    is the cheapest place to remember pictures in. Its projection begins at zero, so that it adds nothing untrained.
    """

    def __init__(self, config: SeedTokenizerConfig):
        super().__init__()
        width, self.tokens = config.generation_memory_dim, config.num_generation_tokens
        self.layers = nn.Sequential(
            nn.Linear(config.num_query_tokens * config.code_dim, width),
            nn.GELU(),
            nn.LayerNorm(width),
            nn.Linear(width, width),
            nn.GELU(),
            nn.LayerNorm(width),
            nn.Linear(width, self.tokens * config.generation_memory_rank),
        )
        self.projection = nn.Parameter(torch.zeros(config.generation_memory_rank, config.generation_dim))

    def forward(self, code_vectors: torch.Tensor) -> torch.Tensor:
        """`(batch, num_query_tokens, code_dim)` to `(batch, num_generation_tokens, generation_dim)`."""
        return self.layers(code_vectors.flatten(1)).unflatten(1, (self.tokens, -1)) @ self.projection
