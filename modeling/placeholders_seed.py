"""`<image>` placeholders in prompts: where they are, in ids or in embeddings, and whether the images fill them."""

from typing import Any

import torch


def find_placeholders(
    language_model: Any, input_ids: torch.Tensor | None, inputs_embeds: torch.Tensor | None
) -> torch.Tensor:
    """Where the placeholders are: a mask `(batch, length)`.

    Args:
        language_model: With a visual vocabulary.
        input_ids: `(batch, length)`.
        inputs_embeds: `(batch, length, width)`, looked at where there are no ids. A placeholder is then what equals
            the row of the placeholder, as in BLIP-2 and Llava.

    Raises:
        ValueError: There are only embeddings, and the placeholder of this model has no row.
    """
    placeholder, rows = language_model.config.image_token_id, language_model.config.vocab_size
    if input_ids is not None:
        return input_ids == placeholder
    if placeholder >= rows:
        raise ValueError(
            f"The placeholder of this model, {placeholder}, has no row among {rows}, so embeddings cannot say where "
            "images go: give input_ids."
        )
    assert inputs_embeds is not None
    row = language_model.get_input_embeddings()(torch.tensor([placeholder], device=inputs_embeds.device))
    return (inputs_embeds == row.to(inputs_embeds.dtype)).all(-1)


def check_filled(placeholders: torch.Tensor, codes: torch.Tensor | None, config: Any) -> None:
    """Raises `ValueError` unless there is a placeholder for each code. Compiled code passes.

    Args:
        placeholders: A mask `(batch, length)`.
        codes: `(images, num_query_tokens)`.
        config: Of the language model.
    """
    if torch.compiler.is_compiling():
        return
    found, given, size = int(placeholders.sum()), 0 if codes is None else codes.numel(), config.num_query_tokens
    if found != given:
        raise ValueError(
            f"The prompt has {found} placeholders ({found / size:g} images of {size}), but {given // size} images "
            "were given. Write <image> once for each."
        )


__all__ = ["check_filled", "find_placeholders"]
