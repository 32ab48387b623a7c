"""Classifier-free guidance on the codes of image spans, while a language model writes them.

Each sample has two rows in one batch: its own, and one that knows nothing but bos and the span so far. Both have the
same tokens in the same places of one cache. A mask hides from the second row all that stands before the last `<img>`,
and its positions count only what it sees. So it starts anew at each `<img>`, and equals a pass over bos and the span.
"""

import math
from dataclasses import dataclass

import torch

from .cache_name_seed import CACHE_NAMES
from .generation_seed import missing_span_tokens
from .visual_vocabulary_seed import VisualVocabulary


_MODES = ("image", "interleaved")
# What would need the second rows too, or several tokens in one step.
_IMPOSSIBLE = (
    "assistant_model",
    "prompt_lookup_num_tokens",
    "assistant_early_exit",
    "prefill_chunk_size",
    "inputs_embeds",
    *CACHE_NAMES,
    "output_attentions",
    "output_hidden_states",
)


def check_code_guidance(scale: float, mode: str | None) -> None:
    """Raises `ValueError` for a scale that is no finite number, and for a mode without image spans.

    Args:
        scale: The `code_guidance_scale`.
        mode: The `generation_mode`.
    """
    if not math.isfinite(scale):
        raise ValueError(f"code_guidance_scale must be a finite number, 1 for no guidance; got {scale}.")
    if mode not in _MODES:
        raise ValueError(f"code_guidance_scale goes with generation_mode 'image' or 'interleaved', got {mode!r}.")


def check_guided_options(config, length: int, options: dict) -> None:
    """Raises `ValueError` for an option of `generate` that guidance does not go with.

    Args:
        config: Of the language model.
        length: Of prompts and new tokens together.
        options: Those of the call and of its generation config.
    """
    if taken := [name for name in _IMPOSSIBLE if options.get(name) is not None and options[name] is not False]:
        raise ValueError(f"code_guidance_scale does not go with {', '.join(taken)}.")
    window = getattr(config, "sliding_window", None)
    if window and length > window:
        raise ValueError(
            f"code_guidance_scale needs the first token until the end, but this model looks {window} tokens back, and "
            f"{length} were asked for, prompt included."
        )


@dataclass
class GuidedRows:
    """What one step of guided generation is called with: the samples' own rows, then as many without their prompts.

    Args:
        input_ids, attention_mask, position_ids: `(2 * rows, length)`.
        scale: `(rows,)`. 1 where the next token is no code.
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    position_ids: torch.Tensor
    scale: torch.Tensor


def guided_rows(
    config,
    scale: float,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor | None,
    position_ids: torch.Tensor | None,
) -> GuidedRows:
    """The rows of a step. All of it is tensor operations, without a loop over rows and without waiting for the device.

    Args:
        config: Of the language model. Without a `bos_token_id`, the second rows begin with `<img>`.
        scale: How far codes move away from those without the prompt.
        input_ids: `(rows, length)`, prompts and what was generated, padded on the left.
        attention_mask, position_ids: `(rows, length)`, by default those of rows without padding.
    """
    vocabulary, bos = VisualVocabulary.of(config), config.bos_token_id
    length = input_ids.shape[1]
    place = torch.arange(length, device=input_ids.device)
    own_mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
    missing = missing_span_tokens(input_ids, vocabulary)
    # Of a row outside a span, the last token alone: nothing is made of its logits.
    codes = torch.where(missing > 0, vocabulary.num_query_tokens + 1 - missing, 0)
    seen = place >= (length - 1 - codes).unsqueeze(-1)
    alone = input_ids
    if bos is not None:
        # A prompt that begins with <img> itself has no bos, and its second row has none either.
        begin = own_mask.long().argmax(-1, keepdim=True)
        first = (place == 0) & (input_ids.gather(-1, begin) != vocabulary.boi_token_id)
        alone, seen = torch.where(first, bos, input_ids), seen | first
    mask = torch.cat([own_mask, seen.to(own_mask.dtype)])
    positions = (mask.long().cumsum(-1) - 1).clamp(min=0)
    if position_ids is not None:
        positions = torch.cat([position_ids.expand(len(input_ids), -1), positions[len(input_ids) :]])
    return GuidedRows(
        input_ids=torch.cat([input_ids, alone]),
        attention_mask=mask,
        position_ids=positions,
        scale=torch.where(missing > 1, scale, 1.0),
    )


def guided_logits(logits: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """`without + scale * (own - without)`, of log-probabilities, for the last place of each sample.

    Args:
        logits: `(2 * rows, length, vocabulary)`, as [`GuidedRows`] has them.
        scale: `(rows,)`. Where it is 1, the logits of the sample's own row are returned as they are.

    Returns:
        `(rows, 1, vocabulary)` in fp32.
    """
    own, without = logits[:, -1:].float().chunk(2)
    scale = scale[:, None, None].to(own.device)
    given, alone = own.log_softmax(-1), without.log_softmax(-1)
    return torch.where(scale == 1, own, alone + scale * (given - alone))


def guided_hidden(hidden: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """`without + scale * (own - without)` before the output layer, which is linear: one row goes through it, not two.

    Its logits differ from [`guided_logits`] by one number for each sample, which no choice among them depends on.

    Args:
        hidden: `(2 * rows, width)`, the states of the last place, as [`GuidedRows`] has them.
        scale: `(rows,)`. Where it is 1, the state of the sample's own row is returned as it is.

    Returns:
        `(rows, width)`, in the dtype of `hidden`.
    """
    own, without = hidden.float().chunk(2)
    scale = scale[:, None].to(own.device)
    return torch.where(scale == 1, own, torch.lerp(without, own, scale)).to(hidden.dtype)


__all__ = [
    "GuidedRows",
    "check_code_guidance",
    "check_guided_options",
    "guided_hidden",
    "guided_logits",
    "guided_rows",
]
