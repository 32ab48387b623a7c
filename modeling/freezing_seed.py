"""What each stage of the visual tokenizer's training trains, and what stays as it is (paper 3.1 to 3.3)."""

from typing import Any

from torch import nn


def freeze(tokenizer: Any, stage: str, train_qformer: bool = False) -> tuple[nn.Module, ...]:
    """Sets `requires_grad` of every parameter for a stage. Returns the modules that stay in eval mode.

    Args:
        tokenizer ([`SeedTokenizer`]): Its `PARTS` say what each module is for.
        stage: `"contrastive"` (stage I) or `"quantization"` (stage II).
        train_qformer: Whether stage II also trains what stage I does, but for the norm after the ViT.

    Raises:
        ValueError: There is no such stage; or stage II would change the Q-Former's text path without its loss.
    """
    if stage not in ("contrastive", "quantization"):
        raise ValueError(f"stage must be 'contrastive' or 'quantization', got {stage!r}.")
    if train_qformer and stage != "quantization":
        raise ValueError(f"train_qformer belongs to stage 'quantization'; stage {stage!r} trains the Q-Former anyway.")
    if train_qformer and tokenizer.config.text_tower and not tokenizer.config.contrastive_loss_weight:
        raise ValueError(
            "With train_qformer, the Q-Former changes and so does what it reads of texts: give the model a "
            "contrastive_loss_weight (0.5, for example), or leave its texts out with text_tower=False."
        )
    stage_one, stage_two = _parts(tokenizer, "seeing", "matching"), _parts(tokenizer, "coding", "drawing")
    tokenizer.requires_grad_(False)
    if stage == "contrastive":
        trained, frozen = stage_one, [tokenizer.vision_model, *stage_two]
    else:
        seeing_alone = train_qformer or tokenizer.config.teacher_dropout
        trained = [*stage_one, *stage_two] if train_qformer else stage_two
        frozen = [tokenizer.vision_model] if seeing_alone else stage_one
    for part in trained:
        part.requires_grad_(True)
    tokenizer.vision_model.requires_grad_(False)
    if stage == "contrastive":
        tokenizer.vision_model.post_layernorm.requires_grad_(True)
    return tuple(part for part in frozen if isinstance(part, nn.Module))


def _parts(tokenizer: Any, *roles: str) -> list[nn.Module | nn.Parameter]:
    """The modules and parameters of these roles that this tokenizer has."""
    return [getattr(tokenizer, name) for role in roles for name in tokenizer.PARTS[role] if hasattr(tokenizer, name)]


__all__ = ["freeze"]
