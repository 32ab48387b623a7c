"""Images to codes as the authors' release does it, from plain modules, with the weights of a [`SeedTokenizer`].

Attention weights are materialised, layer norms are computed in fp32, everything else in fp16 by autocast (on a CPU in
fp32), and the codebook search has the whole distance matrix. Source: `models/` of the authors' release, which takes
ViT and Q-Former from LAVIS.
"""

import copy

import torch
from torch import nn

from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer


class AuthorsEncoder:
    """The seeing half of a tokenizer, run as the authors run it.

    Args:
        tokenizer: Its weights; a copy in fp16 is made on a GPU.
    """

    def __init__(self, tokenizer: SeedTokenizer):
        self.device, self.config = tokenizer.device, tokenizer.config
        self.half = self.device.type == "cuda"
        names = (*tokenizer.PARTS["seeing"], *tokenizer.PARTS["coding"])
        parts = {name: copy.deepcopy(getattr(tokenizer, name)) for name in names}
        for name, part in parts.items():
            dtype = torch.float16 if self.half else torch.float32
            if isinstance(part, nn.Parameter):  # the queries
                parts[name] = nn.Parameter(part.detach().to(dtype))
                continue
            part.to(dtype)
            for module in part.modules():
                if isinstance(module, nn.LayerNorm):
                    module.float()
        self.vit, self.queries, self.qformer = (parts[name] for name in tokenizer.PARTS["seeing"])
        self.code_encoder, self.quantizer = (parts[name] for name in tokenizer.PARTS["coding"])

    @torch.no_grad()
    def encode(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Codes `(batch, num_query_tokens)` of fp32 `pixel_values` `(batch, 3, image_size, image_size)`."""
        with torch.autocast(self.device.type, dtype=torch.float16, enabled=self.half):
            states = self._causal_qformer(self._vit(pixel_values))
            features = self.code_encoder(states)
            codebook = self.quantizer.embedding.weight
            rows = features.reshape(-1, codebook.shape[1])
            distances = rows.pow(2).sum(1, keepdim=True) + codebook.pow(2).sum(1) - 2 * rows @ codebook.T
            return distances.argmin(1).view(features.shape[:2])

    def _vit(self, pixel_values: torch.Tensor) -> torch.Tensor:
        embeddings, heads = self.vit.embeddings, self.config.vision_config.num_attention_heads
        patches = embeddings.patch_embedding(pixel_values).flatten(2).transpose(1, 2)
        states = torch.cat([embeddings.class_embedding.expand(len(patches), -1, -1), patches], 1)
        states = states + embeddings.position_embedding
        for layer in self.vit.encoder.layers:
            query, key, value = layer.self_attn.qkv(layer.layer_norm1(states)).chunk(3, -1)
            states = states + layer.self_attn.projection(_attention(query, key, value, heads))
            states = states + layer.mlp.fc2(nn.functional.gelu(layer.mlp.fc1(layer.layer_norm2(states))))
        return self.vit.post_layernorm(states)

    def _causal_qformer(self, image: torch.Tensor) -> torch.Tensor:
        heads, length = self.config.qformer_config.num_attention_heads, self.queries.shape[1]
        states = self.qformer.layernorm(self.queries.expand(len(image), -1, -1))
        mask = torch.full((length, length), torch.finfo(torch.float16).min, device=self.device).triu(1)
        for layer in self.qformer.encoder.layer:
            states = _bert_attention(layer.attention, states, states, heads, mask)
            if layer.has_cross_attention:
                states = _bert_attention(layer.crossattention, states, image, heads)
            inner = nn.functional.gelu(layer.intermediate_query.dense(states))
            states = layer.output_query.LayerNorm(layer.output_query.dense(inner) + states)
        return states


def _bert_attention(block, states, seen, heads, mask=None) -> torch.Tensor:
    attention = block.attention
    found = _attention(attention.query(states), attention.key(seen), attention.value(seen), heads, mask)
    return block.output.LayerNorm(block.output.dense(found) + states)


def _attention(query, key, value, heads, mask=None) -> torch.Tensor:
    query, key, value = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (query, key, value))
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)
    weights = (scores if mask is None else scores + mask).softmax(-1)
    return (weights.to(value.dtype) @ value).transpose(1, 2).flatten(2)
