"""How a language model writes one image span for each row: without a pass for a token that is known beforehand.

`<img>`, `</img>` and the end are fixed, so a prompt, 32 codes and the end take 32 passes, where the general loop takes
35. Rows of one prompt share the pass over it. The ids are those of the general loop, sampled ones too.
"""

from contextlib import ExitStack
from typing import Any

import torch
from transformers.cache_utils import DynamicCache
from transformers.generation import LogitsProcessorList

from .cache_name_seed import CACHE_NAMES
from .generation_seed import VisualSpanLogitsProcessor
from .guidance_seed import guided_rows
from .next_logits_seed import codes_suffice, next_logits
from .static_step_seed import can_keep_steps, one_mask_for_all, static_step


# Options of `generate` with which the general loop runs.
_GENERAL = (
    "assistant_model",
    "assistant_early_exit",
    "prompt_lookup_num_tokens",
    "penalty_alpha",
    "dola_layers",
    "constraints",
    "force_words_ids",
    "guidance_scale",  # this and the next count the tokens that they are asked about
    "watermarking_config",
    "stop_strings",
    "stopping_criteria",
    "max_time",
    "streamer",
    "synced_gpus",
    "custom_generate",
    "prefill_chunk_size",
    "return_dict_in_generate",
    "output_scores",
    "output_logits",
    "output_attentions",
    "output_hidden_states",
    *CACHE_NAMES,
    "position_ids",
    "inputs_embeds",
    "token_type_ids",
    "token_healing",
)


def writes_directly(model: Any, options: dict[str, Any], missing: torch.Tensor) -> bool:
    """Whether `SpanWriter` can write the images of a call.

    Args:
        model: The language model.
        options: Of `generate` and its generation config together.
        missing: How many tokens each prompt needs to finish the span that it has begun `(rows,)`.
    """
    set_ones = [name for name in _GENERAL if options.get(name) is not None and options[name] is not False]
    if set_ones or (options.get("num_beams") or 1) > 1:
        return False
    if options.get("use_cache") is False or options.get("cache_implementation") not in (None, "dynamic", "static"):
        return False
    if "prepare_inputs_for_generation" in model.__dict__ or not one_mask_for_all(model.config):
        return False  # the first is how peft's prompts come in
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return False  # sharded models need as many passes in every process
    eos = options.get("eos_token_id")
    ends = eos.numel() if isinstance(eos, torch.Tensor) else len(eos) if isinstance(eos, list) else eos is not None
    return ends == 1 and bool((missing == missing[:1]).all())


class SpanWriter:
    """The decoding loop for `generate(..., custom_generate=...)` in mode `"image"`.

    Args:
        constraint: That of the call, among its logits processors.
        missing: Tokens that every prompt needs to finish its span; 0 where it has begun none.
        static: Whether the cache has a fixed size, and a GPU captures the step.
        compiling: How torch compiles the step of a static cache, as [`CompileConfig`]; `None` leaves it as it is.
    """

    def __init__(self, constraint: VisualSpanLogitsProcessor, missing: int, static: bool, compiling: Any = None):
        self.constraint, self.missing, self.static, self.compiling = constraint, missing, static, compiling

    def __call__(
        self, model, input_ids, logits_processor, stopping_criteria, generation_config, **model_kwargs
    ) -> torch.Tensor:
        """Ids `(rows, length + new)`, as the general loop returns them.

        Args:
            model: The language model.
            input_ids: `(rows, length)`.
            logits_processor, stopping_criteria, generation_config, model_kwargs: As transformers prepares them.
        """
        vocabulary, each = self.constraint.vocabulary, generation_config.num_return_sequences or 1
        samples = generation_config.do_sample
        codes = self.missing - 1 if self.missing else vocabulary.num_query_tokens
        if not self.missing:
            input_ids = self._fixed(input_ids, vocabulary.boi_token_id, model, samples)
        # The rows of the output layer that are looked at, and what is ruled out among them.
        codes_alone = codes_suffice(model, logits_processor, self.constraint)
        first = vocabulary.visual_token_offset if codes_alone else 0
        others = [each for each in logits_processor if each is not self.constraint]
        processors = LogitsProcessorList(others) if codes_alone else logits_processor
        self.constraint.writes_codes = True
        with ExitStack() as in_use:
            if codes:
                step, logits = self._read(model, input_ids, each, codes, codes_alone, in_use, **model_kwargs)
            for left in range(codes, 0, -1):
                scores = processors(input_ids, logits.to(copy=True, dtype=torch.float32, device=input_ids.device))
                chosen = self._draw(scores, first, model) if samples else scores.argmax(-1) + first
                input_ids = torch.cat([input_ids, chosen[:, None]], -1)
                if left > 1:
                    logits = step(chosen)
        input_ids = self._fixed(input_ids, vocabulary.eoi_token_id, model, samples)
        if input_ids.shape[1] < generation_config.max_length:
            input_ids = self._fixed(input_ids, self.constraint.eos_token_ids[0], model, samples)
        return input_ids

    def _read(self, model, input_ids, each: int, codes: int, codes_alone: bool, in_use: ExitStack,
              attention_mask=None, code_guidance_scale=None, **others):  # fmt: skip
        """The step that follows the prompts, which is the call's own while `in_use` is open, and the logits after
        them."""
        ids, mask, scale = input_ids[::each], attention_mask, None
        if mask is not None:  # of the prompt, perhaps without <img>
            mask = torch.nn.functional.pad(mask[::each], (0, ids.shape[1] - mask.shape[1]), value=1)
        positions = (torch.ones_like(ids) if mask is None else mask.long()).cumsum(-1).sub(1).clamp(min=0)
        if code_guidance_scale is not None:
            both = guided_rows(model.config, code_guidance_scale, ids, mask, positions)
            ids, mask, positions, scale = both.input_ids, both.attention_mask, both.position_ids, both.scale
        cache = DynamicCache(config=model.config.get_text_config(decoder=True))
        logits = next_logits(model, ids, mask, positions, cache, scale, codes_alone)
        last = positions[:, -1]
        if each > 1:
            cache.batch_repeat_interleave(each)
            mask, scale = (None if value is None else value.repeat_interleave(each, 0) for value in (mask, scale))
            last, logits = last.repeat_interleave(each, 0), logits.repeat_interleave(each, 0)
        if codes > 1 and self.static and can_keep_steps(model):
            length, guided = input_ids.shape[1] + codes - 1, scale is not None
            step = static_step(model, len(last), length, guided, codes_alone, self.compiling)
            kept = in_use.enter_context(step)
            kept.begin(model, cache, mask, last, scale)
            return lambda chosen: kept(model, _both(chosen, scale)), logits
        return _Growing(model, cache, mask, last, scale, codes_alone), logits

    def _draw(self, scores: torch.Tensor, first: int, model) -> torch.Tensor:
        """Sampled ids `(rows,)`, from as many numbers as the whole vocabulary takes: a seed draws the same ids."""
        weights = scores.softmax(-1)
        if (width := model.config.vocab_size) > weights.shape[1]:
            weights = torch.nn.functional.pad(weights, (first, width - first - weights.shape[1]))
        return torch.multinomial(weights, 1).squeeze(1)

    def _fixed(self, input_ids: torch.Tensor, token: int, model, samples: bool) -> torch.Tensor:
        """The rows with a token that is known. Where others are sampled, one draw goes by as for these."""
        rows = input_ids.new_full((len(input_ids), 1), token)
        if samples:
            weights = torch.zeros(len(rows), model.config.vocab_size, device=rows.device)
            torch.multinomial(weights.scatter_(1, rows, 1.0), 1)
        return torch.cat([input_ids, rows], -1)


class _Growing:
    """The step over a cache that grows."""

    def __init__(self, model, cache, mask, last, scale, codes_alone):
        self.model, self.cache, self.scale, self.codes_alone = model, cache, scale, codes_alone
        self.positions = last[:, None]
        # Of a batch without padding every token sees all before it.
        self.seen = None if mask is None else mask[:, None, None].bool()

    def __call__(self, chosen: torch.Tensor) -> torch.Tensor:
        ids = _both(chosen, self.scale)[:, None]
        self.positions = self.positions + 1
        if self.seen is not None:
            self.seen = torch.nn.functional.pad(self.seen, (0, 1), value=True)
        return next_logits(self.model, ids, self.seen, self.positions, self.cache, self.scale, self.codes_alone)


def _both(chosen: torch.Tensor, scale: torch.Tensor | None) -> torch.Tensor:
    """Tokens of all rows: under guidance the second rows have those of the first."""
    return chosen if scale is None else chosen.repeat(2)


__all__ = ["SpanWriter", "writes_directly"]
