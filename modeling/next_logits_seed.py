"""The logits of the next token: of the whole vocabulary, or of the visual codes alone where nothing else may follow.

Inside an image span only codes may follow. Their rows are a part of the output layer, which is much of what
a step reads where the model is small.
"""

from typing import Any

import torch
from torch import nn
from transformers.generation import (
    LogitsProcessorList,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)

from .cache_name_seed import CACHE
from .guidance_seed import guided_hidden


# These do the same to codes alone as to a vocabulary whose other tokens are ruled out.
_SHAPE_ALONE = (MinPLogitsWarper, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper, TypicalLogitsWarper)


def codes_suffice(model: Any, processors: LogitsProcessorList, constraint: Any) -> bool:
    """Whether the logits of the codes alone decide which code follows.

    Args:
        model: A language model with a visual vocabulary.
        processors: Of the call, the constraint among them.
        constraint: That keeps all but codes from following.
    """
    head = model.get_output_embeddings()
    plain = type(head) is nn.Linear and type(head.weight) is nn.Parameter and model.family.plain_logits
    replaced = not model.has_own_forward or any("forward" in each.__dict__ for each in (model, head))
    compiled = any(each._compiled_call_impl is not None for each in (model, head))
    others = [each for each in processors if each is not constraint and type(each) not in _SHAPE_ALONE]
    return plain and not (replaced or compiled or has_hooks(model) or has_hooks(head) or others)


def has_hooks(module: Any) -> bool:
    """Whether something runs before or after a module, beside what captures its outputs for transformers.

    Args:
        module: A part of a model, or all of it.
    """
    hooks = [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]
    # Those stay where a call once asked for hidden states or attentions, and do nothing in others.
    hooks = [hook for hook in hooks if getattr(hook, "__module__", None) != "transformers.utils.output_capturing"]
    return bool(hooks) or hasattr(module, "_hf_hook")


def next_logits(
    model: Any,
    ids: torch.Tensor,
    mask: torch.Tensor | None,
    positions: torch.Tensor,
    cache: Any,
    scale: torch.Tensor | None,
    codes_alone: bool,
) -> torch.Tensor:
    """Logits after the last token of each row: `(samples, vocabulary)`, or `(samples, codebook_size)`.

    Args:
        model: A language model with a visual vocabulary.
        ids: New tokens `(rows, length)`.
        mask: As the model takes it.
        positions: `(rows, length)`.
        cache: What was read before; the new tokens are added.
        scale: Of the guidance on codes `(samples,)`, with two rows for each sample; or `None`.
        codes_alone: Whether `codes_suffice`.
    """
    settings = {"attention_mask": mask, "position_ids": positions, CACHE: cache}
    settings |= {"use_cache": True, "return_dict": True}
    if not codes_alone:
        guidance = {} if scale is None else {"code_guidance": scale}
        return model(input_ids=ids, logits_to_keep=1, **settings, **guidance).logits[:, -1]
    projected = model.config.visual_embedding == "projected"
    inputs = {"inputs_embeds": model.embed_ids(ids)} if projected else {"input_ids": ids}
    hidden = model.model(**inputs, **settings).last_hidden_state[:, -1]  # a matrix, for what `places_to_keep` says
    if scale is not None:
        hidden = guided_hidden(hidden, scale)
    head, first = model.get_output_embeddings(), model.config.visual_token_offset
    rows = slice(first, first + model.config.codebook_size)
    return nn.functional.linear(hidden, head.weight[rows], None if head.bias is None else head.bias[rows])


def places_to_keep(keep: int | torch.Tensor, inputs: torch.Tensor | None) -> int | torch.Tensor:
    """The `logits_to_keep` of plain models, as places where a number of them would make a view.

    With the view of several rows' last places a frozen output layer is multiplied row by row: torch makes one product
    of rows only if their strides allow it, or if the weights need gradients (`should_fold` in its LinearAlgebra.cpp).
    In bfloat16 on a CPU it even copies the weights for each row. Places are copied out of the rows, which is nothing.

    Args:
        keep: How many places of the end; 0 for all. Or places, which stay as they are.
        inputs: `(batch, length)` or `(batch, length, width)`, what the model reads.
    """
    if isinstance(keep, torch.Tensor) or inputs is None or not 0 < keep < inputs.shape[1]:
        return keep
    return torch.arange(inputs.shape[1] - keep, inputs.shape[1], device=inputs.device)


__all__ = ["codes_suffice", "has_hooks", "next_logits", "places_to_keep"]
