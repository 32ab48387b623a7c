"""The decoders of the SEED tokenizer: codebook vectors to reconstructed embeddings and to generation embeddings."""

import torch
from torch import nn
from transformers import Blip2QFormerModel
from transformers.models.blip_2.modeling_blip_2 import Blip2Encoder

from .configuration_seed import SeedTokenizerConfig


class SeedCodeDecoder(nn.Module):
    """Bidirectional ViT blocks over the decoded codes, with learned positions and no final norm (paper 3.2)."""

    def __init__(self, config: SeedTokenizerConfig):
        super().__init__()
        width = config.decoder_config.hidden_size
        self.position_embeddings = nn.Parameter(torch.zeros(1, config.num_query_tokens, width))
        self.encoder = Blip2Encoder(config.decoder_config)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.encoder(inputs_embeds=hidden_states + self.position_embeddings).last_hidden_state


class SeedGenerationDecoder(nn.Module):
    """From decoded codes to generation embeddings, by a Reverse Q-Former or by SEED-2's bottleneck MLP."""

    def __init__(self, config: SeedTokenizerConfig):
        super().__init__()
        self.decoder = SeedCodeDecoder(config)
        hidden = config.qformer_config.hidden_size
        if config.generation_head == "qformer":
            reverse = config.reverse_qformer_config
            self.query_tokens = nn.Parameter(torch.zeros(1, config.num_generation_tokens, reverse.hidden_size))
            self.reverse_qformer = Blip2QFormerModel._from_config(reverse)
            self.projection = nn.Linear(reverse.hidden_size, config.generation_dim)
        else:
            layers, width = [], hidden
            for size in config.mlp_head_dims:
                layers += [nn.Linear(width, size, bias=False), nn.ReLU()]
                width = size
            self.bottleneck = nn.Sequential(*layers[:-1])
            self.projection = nn.Linear(width * config.num_query_tokens, config.generation_dim)
        self.has_queries = config.generation_head == "qformer"
        self.single = config.generation_target == "image"

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        hidden_states = self.decoder(hidden_states)
        if not self.has_queries:
            return self.projection(self.bottleneck(hidden_states).flatten(1))
        queries = self.query_tokens.expand(hidden_states.shape[0], -1, -1)
        hidden_states = self.reverse_qformer(queries, encoder_hidden_states=hidden_states).last_hidden_state
        embeddings = self.projection(hidden_states)
        return embeddings.squeeze(1) if self.single else embeddings


__all__ = ["SeedCodeDecoder", "SeedGenerationDecoder"]
