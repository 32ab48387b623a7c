"""The targets of the generation embeddings in stage II: features of the diffusion model's own encoder.

Stable Diffusion reads features of its text encoder (SEED-1), Stable unCLIP an embedding of its image encoder (SEED-2).
"""

import torch
from transformers import PreTrainedModel


def text_targets(encoder: PreTrainedModel, input_ids: torch.Tensor, config) -> torch.Tensor:
    """Features of captions, without a mask, as diffusion pipelines make them.

    Args:
        encoder: The text encoder.
        input_ids: `(batch, tokens)`.
        config: The SEED tokenizer's configuration.

    Returns:
        `(batch, num_generation_tokens, generation_dim)`.

    Raises:
        ValueError: The encoder gives another shape.
    """
    targets = encoder(input_ids).last_hidden_state
    expected = (config.num_generation_tokens, config.generation_dim)
    if targets.shape[1:] != expected:
        raise ValueError(
            f"The text encoder gives {tuple(targets.shape[1:])} for a caption, but this tokenizer's generation "
            f"embeddings are {expected}. Use the text encoder of the diffusion model that it is trained for."
        )
    return targets


def image_targets(encoder: PreTrainedModel, pixel_values: torch.Tensor, config) -> torch.Tensor:
    """Embeddings of images as the SEED tokenizer sees them.

    unCLIP's own image processor crops to the centre. Here the encoder sees the whole image, resized to a square,
    because the codes describe that.

    Args:
        encoder: The image encoder.
        pixel_values: `(batch, 3, size, size)`.
        config: The SEED tokenizer's configuration.

    Returns:
        `(batch, generation_dim)`.

    Raises:
        ValueError: The encoder's image size or width is another.
    """
    size = encoder.config.image_size
    if size != pixel_values.shape[-1]:
        raise ValueError(
            f"The image encoder sees {size} x {size} pixels, this tokenizer {pixel_values.shape[-1]}. "
            "The target needs an image encoder of the tokenizer's image size."
        )
    targets = encoder(pixel_values.to(encoder.dtype)).image_embeds
    if targets.shape[1:] != (config.generation_dim,):
        raise ValueError(
            f"The image encoder gives {targets.shape[-1]} numbers for an image, but this tokenizer's generation "
            f"embeddings are {config.generation_dim} wide. Use the image encoder of the unCLIP that it is trained for."
        )
    return targets
