"""What the visual tokenizer returns."""

from dataclasses import dataclass

import torch
from transformers.modeling_outputs import BaseModelOutputWithPooling, BaseModelOutputWithPoolingAndCrossAttentions
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
        vision_outputs (`BaseModelOutputWithPooling`): What the ViT returned, with its hidden states and attentions.
            This and the next three fields only where hidden states or attentions were asked for.
        qformer_outputs (`BaseModelOutputWithPoolingAndCrossAttentions`): The same of the Causal Q-Former.
        hidden_states, attentions (`tuple` of `torch.Tensor`): Those of the ViT, or of the Causal Q-Former where the
            ViT was not run.
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
    vision_outputs: BaseModelOutputWithPooling | None = None
    qformer_outputs: BaseModelOutputWithPoolingAndCrossAttentions | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None

    def to_tuple(self) -> tuple:
        """The fields that are not `None`, in order; outputs of a module as tuples, too, as BLIP-2's are."""
        return tuple(value.to_tuple() if isinstance(value, ModelOutput) else value for value in self.values())


__all__ = ["SeedTokenizerOutput"]
