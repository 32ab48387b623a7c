"""What each stage of the visual tokenizer's training trains, and what stays as it is (paper 3.1 to 3.3)."""

from typing import Any

from torch import nn


def freeze(tokenizer: Any, stage: str) -> tuple[nn.Module, ...]:
    """Sets `requires_grad` of every parameter for a stage. Returns the modules that stay in eval mode.

    Args:
        tokenizer ([`SeedTokenizer`]): Its `PARTS` say what each module is for.
        stage: `"contrastive"` (stage I) or `"quantization"` (stage II).

    Raises:
        ValueError: There is no such stage.
    """
    if stage not in ("contrastive", "quantization"):
        raise ValueError(f"stage must be 'contrastive' or 'quantization', got {stage!r}.")
    stage_one, stage_two = _parts(tokenizer, "seeing", "matching"), _parts(tokenizer, "coding", "drawing")
    tokenizer.requires_grad_(False)
    if stage == "contrastive":
        trained, frozen = stage_one, [tokenizer.vision_model, *stage_two]
    else:
        trained, frozen = stage_two, [tokenizer.vision_model] if tokenizer.config.teacher_dropout else stage_one
    for part in trained:
        part.requires_grad_(True)
    if stage == "contrastive":
        tokenizer.vision_model.requires_grad_(False)
        tokenizer.vision_model.post_layernorm.requires_grad_(True)
    return tuple(part for part in frozen if isinstance(part, nn.Module))


def _parts(tokenizer: Any, *roles: str) -> list[nn.Module | nn.Parameter]:
    """The modules and parameters of these roles that this tokenizer has."""
    return [getattr(tokenizer, name) for role in roles for name in tokenizer.PARTS[role] if hasattr(tokenizer, name)]


__all__ = ["freeze"]
