"""How long a sequence becomes: what was asked for, the positions of the model, and room for a whole image span."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers.utils import logging

from .generation_seed import missing_span_tokens


# Default lengths. Drawing needs one span and the end of the sequence.
_DEFAULT_NEW_TOKENS = {"text": 64, "interleaved": 256}


def generated_length(
    config: Any, mode: str, prompt: torch.Tensor, start: int, settings: Sequence[Mapping[str, Any]]
) -> int:
    """The length of prompt and new tokens together.

    Args:
        config: Of the language model.
        mode: The `generation_mode`.
        prompt: Ids `(batch, length)`.
        start: The length of the prompt, of ids or of embeddings.
        settings: The options of `generate`, the generation config given and the model's own: the first that says
            how long counts, by `max_new_tokens` or else `max_length`.

    Raises:
        ValueError: There is no room, or an image span would be cut.
    """
    span = config.num_query_tokens + 2
    limit = config.max_position_embeddings
    length = min(start + _DEFAULT_NEW_TOKENS.get(mode, span + 2), limit)
    for each in settings:
        if (new_tokens := each.get("max_new_tokens")) is not None:
            length = start + new_tokens
        elif each.get("max_length") is not None:
            length = each["max_length"]
        else:
            continue
        break
    if length > limit:
        logging.get_logger(__name__).warning_once(
            f"{length} tokens were requested, prompt included, but the model has {limit} positions. Generation "
            "stops there."
        )
        length = limit
    if len(prompt) == 0:
        raise ValueError("The batch has no rows: give at least one prompt.")
    if length <= start:
        raise ValueError(f"The prompt has {start} tokens; with a total of {length} there is room for no more.")
    missing = missing_span_tokens(prompt, config)
    if mode == "text" and missing.any():
        raise ValueError(
            "The prompt ends inside an image span, which generation_mode='text' cannot finish. "
            "Complete the span, or use 'image' or 'interleaved'."
        )
    needed = int((torch.where(missing > 0, missing, span) if mode == "image" else missing).max())
    if length - start < needed:
        raise ValueError(
            f"An image span needs {needed} new tokens, but there is room for {length - start} (prompt {start}, "
            f"total {length}). Raise max_new_tokens, or shorten the prompt."
        )
    return length


__all__ = ["generated_length"]
