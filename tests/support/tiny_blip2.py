"""A tiny BLIP-2 of transformers, from which stage I starts."""

import torch
from transformers import Blip2Config, Blip2ForImageTextRetrieval, Blip2QFormerConfig, Blip2VisionConfig, OPTConfig


def blip2(cls=Blip2ForImageTextRetrieval, **overrides):
    """Random weights at a tiny size; `Blip2Model` has no text path in its Q-Former."""
    torch.manual_seed(3)
    sizes = {"num_hidden_layers": 3, "num_attention_heads": 2, "initializer_range": 0.2}
    vision = Blip2VisionConfig(hidden_size=16, intermediate_size=32, image_size=28, patch_size=14, **sizes)
    qformer = Blip2QFormerConfig(
        hidden_size=24,
        intermediate_size=48,
        encoder_hidden_size=16,
        vocab_size=60,
        max_position_embeddings=20,
        use_qformer_text_input=cls is Blip2ForImageTextRetrieval,
        **sizes,
    )
    text = OPTConfig(
        vocab_size=50, hidden_size=16, word_embed_proj_dim=16, ffn_dim=16, num_hidden_layers=1, num_attention_heads=2
    )
    config = Blip2Config(
        vision_config=vision.to_dict(),
        qformer_config=qformer.to_dict(),
        text_config=text.to_dict(),
        num_query_tokens=9,
        image_text_hidden_size=12,
        **overrides,
    )
    model = cls(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model
