"""The losses of stage I and stage II (arXiv 2307.08041, sections 3.1 to 3.3)."""

from collections.abc import Callable

import torch
from torch.nn import functional as F

from .configuration_seed import SeedTokenizerConfig


def contrastive_loss(
    image_features: torch.Tensor,
    text_features: torch.Tensor,
    temperature: torch.Tensor | float,
    label_smoothing: float = 0.1,
    gather_features: Callable[[torch.Tensor], tuple[torch.Tensor, int]] | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The contrastive loss of stage I: the mean of the image-to-text and the text-to-image cross-entropy.

    Args:
        image_features, text_features: `(batch, projection_dim)`, L2-normalised; row i of both is one pair.
        temperature: Divides the cosines.
        gather_features: See [`SeedTokenizer.forward`]. The loss is then the mean over this process's own pairs, each
            against the images and texts of all processes; the mean of it over the processes is the loss that one
            process would have found for all pairs.

    Returns:
        The loss, `()`; the logits per image and per text, both `(batch, all)`.
    """
    all_images, all_texts, first = image_features, text_features, 0
    if gather_features is not None:
        all_images, first = gather_features(image_features)
        all_texts, _ = gather_features(text_features)
    per_image = image_features @ all_texts.T / temperature
    per_text = text_features @ all_images.T / temperature
    labels = torch.arange(first, first + len(per_image), device=per_image.device)
    loss = F.cross_entropy(per_image, labels, label_smoothing=label_smoothing)
    loss = loss + F.cross_entropy(per_text, labels, label_smoothing=label_smoothing)
    return loss / 2, per_image, per_text


def quantization_losses(
    config: SeedTokenizerConfig,
    *,
    vq_loss: torch.Tensor,
    causal_embeddings: torch.Tensor,
    generation_embeddings: torch.Tensor,
    reconstructed_embeddings: torch.Tensor | None = None,
    target_embeddings: torch.Tensor | None = None,
    contrastive_loss: torch.Tensor | None = None,
    image_features: Callable[[torch.Tensor], torch.Tensor] | None = None,
    temperature: torch.Tensor | float = 1.0,
    gather_features: Callable[[torch.Tensor], tuple[torch.Tensor, int]] | None = None,
) -> dict[str, torch.Tensor]:
    """The losses of stage II, each before its weight, and under `"loss"` their weighted sum. All have shape `()`.

    Args:
        config: Its `*_loss_weight` fields are the weights.
        vq_loss: Of the quantizer.
        causal_embeddings: `(batch, num_query_tokens, hidden_size)`, targets without a gradient.
        generation_embeddings: What the diffusion model is conditioned on.
        reconstructed_embeddings: Of the shape of `causal_embeddings`, for `reconstruction_loss`: 1 - mean cosine.
        target_embeddings: Of the shape of `generation_embeddings`, for `generation_loss`: the mean squared error.
        contrastive_loss: That of stage I, where it goes on.
        image_features: Takes embeddings to L2-normalised features `(batch, projection_dim)`, for `feature_loss` and
            `feature_contrast_loss`.
        temperature: Divides the cosines of `feature_contrast_loss`; no gradient goes to it.
        gather_features: Gathers the features of all processes, as in stage I, for `feature_contrast_loss`.

    Raises:
        ValueError: `target_embeddings` have another shape than `generation_embeddings`; or
            `config.feature_loss_weight` or `config.feature_contrast_loss_weight` is set without `image_features` and
            `reconstructed_embeddings`.
    """
    losses = {"vq_loss": vq_loss}
    if reconstructed_embeddings is not None:
        # Where the Q-Former learns along, it would come to meet what is reconstructed, until all images are alike.
        cosine = F.cosine_similarity(reconstructed_embeddings.float(), causal_embeddings.float().detach(), -1)
        losses["reconstruction_loss"] = 1 - cosine.mean()
    if config.feature_loss_weight or config.feature_contrast_loss_weight:
        if image_features is None or reconstructed_embeddings is None:
            name = "feature_loss_weight" if config.feature_loss_weight else "feature_contrast_loss_weight"
            raise ValueError(f"{name} needs image_features and reconstructed_embeddings; give both.")
        features = image_features(reconstructed_embeddings).float()
        target = image_features(causal_embeddings).float().detach()
        if config.feature_loss_weight:
            losses["feature_loss"] = 1 - (features * target).sum(-1).mean()
        if config.feature_contrast_loss_weight:
            everyones, first = (target, 0) if gather_features is None else gather_features(target)
            cosines = features @ everyones.T / torch.as_tensor(temperature).detach()
            own = torch.arange(first, first + len(cosines), device=cosines.device)
            losses["feature_contrast_loss"] = F.cross_entropy(cosines, own)
    if target_embeddings is not None:
        if target_embeddings.shape != generation_embeddings.shape:
            raise ValueError(
                f"target_embeddings must have the shape of the generation embeddings, "
                f"{tuple(generation_embeddings.shape)}, got {tuple(target_embeddings.shape)}."
            )
        losses["generation_loss"] = F.mse_loss(generation_embeddings.float(), target_embeddings.float())
    if contrastive_loss is not None:
        losses["contrastive_loss"] = contrastive_loss
    losses["loss"] = sum(getattr(config, f"{name}_weight") * value for name, value in losses.items())
    return losses


__all__ = ["contrastive_loss", "quantization_losses"]
