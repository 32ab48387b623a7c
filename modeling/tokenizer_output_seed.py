"""What the visual tokenizer returns in training."""

from dataclasses import dataclass

import torch
from transformers.utils import ModelOutput


@dataclass
class SeedTokenizerOutput(ModelOutput):
    r"""Output of [`SeedTokenizer.forward`]. Fields that the stage does not compute are `None`.

    Args:
        loss (`torch.Tensor` of shape `()`): The weighted sum of the stage's losses.
        contrastive_loss, vq_loss, reconstruction_loss, generation_loss, feature_loss, feature_contrast_loss
            (`torch.Tensor` of shape `()`):
            Each before its weight.
        codes (`torch.LongTensor` of shape `(batch, num_query_tokens)`): Visual codes.
        causal_embeddings (`torch.Tensor` of shape `(batch, num_query_tokens, hidden_size)`): Before the codebook.
        reconstructed_embeddings (`torch.Tensor` of the same shape): Reconstructed from the codes by the decoder.
        generation_embeddings (`torch.Tensor` of shape `(batch, num_generation_tokens, generation_dim)`, or
            `(batch, generation_dim)` for the image target): The condition of the diffusion model.
        image_features, text_features (`torch.Tensor` of shape `(batch, projection_dim)`): L2-normalised.
        logits_per_image, logits_per_text (`torch.Tensor` of shape `(batch, all)`): Cosines with the texts (images)
            of all processes, divided by the temperature.
    """

    loss: torch.Tensor | None = None
    contrastive_loss: torch.Tensor | None = None
    vq_loss: torch.Tensor | None = None
    reconstruction_loss: torch.Tensor | None = None
    generation_loss: torch.Tensor | None = None
    feature_loss: torch.Tensor | None = None
    feature_contrast_loss: torch.Tensor | None = None
    codes: torch.Tensor | None = None
    causal_embeddings: torch.Tensor | None = None
    reconstructed_embeddings: torch.Tensor | None = None
    generation_embeddings: torch.Tensor | None = None
    image_features: torch.Tensor | None = None
    text_features: torch.Tensor | None = None
    logits_per_image: torch.Tensor | None = None
    logits_per_text: torch.Tensor | None = None


__all__ = ["SeedTokenizerOutput"]
