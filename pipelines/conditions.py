"""What the UNet reads: generation embeddings in the place of Stable Diffusion's text or unCLIP's image embedding."""

import torch

from .diffusion_parts import unclip_labels


def text_condition(embeds: torch.Tensor, negative: torch.Tensor | None, empty_prompt, guided: bool) -> torch.Tensor:
    """The condition of Stable Diffusion: `(rows, tokens, dim)`, under guidance after what it is guided away from.

    Args:
        embeds: Generation embeddings `(rows, tokens, dim)`.
        negative: Those that guidance leads away from, of the same shape or of one row; by default the empty prompt.
        empty_prompt: An [`EmptyPromptEmbedding`].
        guided: Whether the call uses guidance.
    """
    if not guided:
        return embeds
    away = empty_prompt(len(embeds)) if negative is None else negative.expand(len(embeds), -1, -1)
    return torch.cat([away.to(embeds), embeds])


def unclip_condition(
    embeds: torch.Tensor, negative: torch.Tensor | None, pipeline, guided: bool, noise_level: int, generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """The condition of unCLIP: the empty prompt `(rows, tokens, dim)` and class labels `(rows, 2 dim)`.

    Under guidance there are twice as many rows. The first half of the labels is zero, as in diffusers, or that of the
    negative embeddings at noise level 0, as in the authors' evaluation of SEED-LLaMA.

    Args:
        embeds: Image embeddings `(rows, dim)`.
        negative: Those that guidance leads away from, of the same shape or of one row.
        pipeline: Gives unCLIP's normalizer and noise, and the empty prompt.
        guided: Whether the call uses guidance.
        noise_level: Of the noise on `embeds`.
        generator: For the noise.
    """

    def labels_of(each: torch.Tensor, level: int, source) -> torch.Tensor:
        parts = pipeline.image_normalizer, pipeline.image_noising_scheduler
        return unclip_labels(each, *parts, level, source)

    labels = labels_of(embeds, noise_level, generator)
    if guided and negative is None:
        labels = torch.cat([torch.zeros_like(labels), labels])
    elif guided and negative is not None:
        # By copies of the generators: the image starts from the noise that it starts from without it.
        several = isinstance(generator, list)
        copies = [each and each.clone_state() for each in (generator if several else [generator])]
        away = labels_of(negative.expand_as(embeds), 0, copies if several else copies[0])
        labels = torch.cat([away, labels])
    return pipeline.empty_prompt(len(labels)).to(labels.device, labels.dtype), labels


__all__ = ["text_condition", "unclip_condition"]
