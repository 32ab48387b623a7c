"""What the generation embeddings of stage II have to match: features of the diffusion model's own encoder.

Stable Diffusion reads features of its text encoder (SEED-1), Stable unCLIP an embedding of its image encoder (SEED-2).
"""

import torch
from transformers import PreTrainedModel


def text_targets(encoder: PreTrainedModel, input_ids: torch.Tensor, config) -> torch.Tensor:
    """Features of captions `(batch, tokens)`, without a mask, as diffusion pipelines make them.

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
    """Embeddings of pictures `(batch, 3, size, size)`, as the SEED tokenizer sees them.

    unCLIP's own image processor crops to the middle; this one sees the whole picture, squashed, because the codes do.

    Returns:
        `(batch, generation_dim)`.

    Raises:
        ValueError: The encoder sees pictures of another size, or gives another width.
    """
    size = encoder.config.image_size
    if size != pixel_values.shape[-1]:
        raise ValueError(
            f"The image encoder sees {size} x {size} pixels, this tokenizer {pixel_values.shape[-1]}. "
            "The target needs an image encoder of the tokenizer's picture size."
        )
    targets = encoder(pixel_values.to(encoder.dtype)).image_embeds
    if targets.shape[1:] != (config.generation_dim,):
        raise ValueError(
            f"The image encoder gives {targets.shape[-1]} numbers for a picture, but this tokenizer's generation "
            f"embeddings are {config.generation_dim} wide. Use the image encoder of the unCLIP that it is trained for."
        )
    return targets
