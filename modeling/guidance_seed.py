"""Classifier-free guidance on the codes of an image span, while a language model writes it.

Each sample has two rows in one batch: its own, and one that knows nothing but bos and the span so far. Both get the
same token at every step, so caches and compiled steps are those of an ordinary batch.
"""

from dataclasses import dataclass

import torch
from transformers.generation import (
    LogitsProcessor,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from .generation_seed import missing_span_tokens
from .visual_vocabulary_seed import VisualVocabulary


# How tokens may be sampled under guidance, with the value that changes nothing.
_WARPERS = {
    "temperature": (TemperatureLogitsWarper, 1.0),
    "top_k": (TopKLogitsWarper, 0),
    "top_p": (TopPLogitsWarper, 1.0),
    "min_p": (MinPLogitsWarper, None),
}
_IMPOSSIBLE = ("streamer", "assistant_model", "return_dict_in_generate", "output_scores", "output_logits")


class CodeGuidance(LogitsProcessor):
    r"""Moves the scores of codes away from those that the model gives without the prompt.

    Args:
        config: Gives the layout of the visual tokens.
        scale (`float`): `unconditional + scale * (conditional - unconditional)`, of log-probabilities.
    """

    def __init__(self, config, scale: float):
        self.vocabulary, self.scale = VisualVocabulary.of(config), scale

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        given, alone = scores.float().log_softmax(-1).chunk(2)
        within = missing_span_tokens(input_ids[: len(given)], self.vocabulary).unsqueeze(-1) > 1
        guided = torch.where(within, alone + self.scale * (given - alone), given)
        return torch.cat([guided, guided]).nan_to_num(nan=-torch.inf)


class OneTokenForBoth(LogitsProcessor):
    r"""Leaves one token, the same for both rows of a sample: drawn, or the most likely one.

    Args:
        sample (`bool`): Whether it is drawn.
        settings (`dict`): `temperature`, `top_k`, `top_p` and `min_p`.
    """

    def __init__(self, sample: bool, settings: dict):
        self.sample = sample
        self.warpers = [
            _WARPERS[name][0](value) for name, value in settings.items() if value not in (None, _WARPERS[name][1])
        ]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        own = scores[: len(scores) // 2]
        for warper in self.warpers if self.sample else ():
            own = warper(input_ids[: len(own)], own)
        chosen = own.softmax(-1).multinomial(1) if self.sample else own.argmax(-1, keepdim=True)
        only = torch.full_like(own, -torch.inf).scatter_(-1, chosen, 0.0)
        return torch.cat([only, only])


@dataclass
class GuidedRows:
    """What `generate` is called with under guidance.

    Args:
        input_ids, attention_mask: Of twice as many rows: the prompts, then the rows without them.
        options: The other options of `generate`.
        sampling: The processor that comes last.
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    options: dict
    sampling: OneTokenForBoth


def guided_rows(config, settings, input_ids: torch.Tensor, options: dict) -> GuidedRows:
    """The rows of guided generation.

    Args:
        config: Of the language model.
        settings: Its generation config, or the one of the call.
        input_ids: Prompts `(batch, length)`, padded on the left.
        options: Of `generate`; `attention_mask` among them, if rows are padded.

    Raises:
        ValueError: An option that guidance cannot go with.
    """

    def option(name, default=None):
        found = options.get(name)
        return getattr(settings, name, default) if found is None else found

    if taken := [name for name in _IMPOSSIBLE if options.get(name)]:
        raise ValueError(f"code_guidance_scale does not go with {', '.join(taken)}.")
    if (option("num_beams") or 1) > 1:
        raise ValueError("code_guidance_scale goes with sampling and with greedy search, not with num_beams.")
    sample = bool(option("do_sample"))
    copies = option("num_return_sequences") or 1
    if copies > 1 and not sample:
        raise ValueError(f"num_return_sequences={copies} would be the same image each time: pass do_sample=True.")
    sampling = OneTokenForBoth(sample, {name: option(name) for name in _WARPERS})
    kept = {name: value for name, value in options.items() if name not in (*_WARPERS, "attention_mask")}
    kept |= {"do_sample": False, "num_return_sequences": 1}  # the last processor draws, and rows are repeated here
    vocabulary, bos = VisualVocabulary.of(config), config.bos_token_id
    mask = options.get("attention_mask")
    mask = torch.ones_like(input_ids) if mask is None else mask
    input_ids, mask = input_ids.repeat_interleave(copies, 0), mask.repeat_interleave(copies, 0)
    missing = missing_span_tokens(input_ids, vocabulary)
    if not missing.any():  # the span begins in any case; so every row has a token that knows no prompt
        begin = input_ids.new_full((len(input_ids), 1), vocabulary.boi_token_id)
        input_ids, mask = torch.cat([input_ids, begin], 1), torch.cat([mask, torch.ones_like(begin)], 1)
        missing = missing_span_tokens(input_ids, vocabulary)
    elif bos is None and not missing.all():
        raise ValueError(
            "Some prompts end inside an image span and some do not: without a bos token, guide them apart."
        )
    # Codes that the span has so far, and <img>; nothing of rows whose span is yet to begin.
    length = input_ids.shape[1]
    codes = torch.where(missing > 0, vocabulary.num_query_tokens + 2 - missing, 0).unsqueeze(-1)
    place = torch.arange(length, device=input_ids.device)
    span = place >= length - codes
    first = place == length - codes - 1 if bos is not None else torch.zeros_like(span)
    alone = torch.where(first, -1 if bos is None else bos, input_ids)
    return GuidedRows(torch.cat([input_ids, alone]), torch.cat([mask, (span | first).to(mask.dtype)]), kept, sampling)


__all__ = ["CodeGuidance", "GuidedRows", "OneTokenForBoth", "guided_rows"]
