"""Image spans in sequences of ids: a constraint that makes them valid, and a parser that reads any sequence.

An image span is `<img>`, exactly `num_query_tokens` visual tokens, `</img>`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from transformers.generation import LogitsProcessor

from .visual_vocabulary_seed import VisualVocabulary


GENERATION_MODES = ("text", "image", "interleaved")


class VisualSpanLogitsProcessor(LogitsProcessor):
    r"""Rules out every token that would make an image span invalid.

    The ids of a row alone decide what it may continue with. Nothing is remembered between calls, so beams may be
    reordered and rows may be dropped. All of it is tensor operations, without a loop over rows and without waiting
    for the device. Neither the `<image>` placeholder nor an unused row of the vocabulary is ever allowed. Scores that
    are NaN stay NaN.

    Args:
        config ([`VisualVocabulary`] or a configuration such as `SeedTextConfig`): Where the visual tokens lie.
        mode (`str`): `"text"`: no visual token. `"image"`: one span, or the rest of a span that the prompt has begun,
            then the end of the sequence. `"interleaved"`: text and spans in any order.
        prompt_length (`int`): Length of the prompt, padding included.
        max_length (`int`, *optional*): Length at which generation stops. `<img>` is allowed only while a whole span
            still fits.
        eos_token_id (`int` or `list[int]`, *optional*): The end of the sequence, which mode `"image"` needs; defaults
            to that of the config.
    """

    def __init__(
        self,
        config,
        mode: str,
        *,
        prompt_length: int,
        max_length: int | None = None,
        eos_token_id: int | list[int] | torch.Tensor | None = None,
    ):
        if mode not in GENERATION_MODES:
            raise ValueError(f"mode must be one of {GENERATION_MODES}, got {mode!r}.")
        eos = getattr(config, "eos_token_id", None) if eos_token_id is None else eos_token_id
        eos = eos.flatten().tolist() if isinstance(eos, torch.Tensor) else eos
        self.eos_token_ids = [] if eos is None else [eos] if isinstance(eos, int) else list(eos)
        if mode == "image" and not self.eos_token_ids:
            raise ValueError("mode='image' ends the sequence after the span: it needs an eos_token_id.")
        self.vocabulary = VisualVocabulary.of(config)
        self.mode = mode
        self.prompt_length = prompt_length
        self.max_length = max_length
        # Whether every row is known to be inside a span that needs more codes.
        self.writes_codes = False
        self._ceilings: torch.Tensor | None = None

    def prepare(self, vocab_size: int, device: torch.device) -> "VisualSpanLogitsProcessor":
        """Computes what does not change from step to step, and returns itself.

        Args:
            vocab_size: Width of the scores.
            device: Of the scores.
        """
        self._ceilings = self._ceilings_of(vocab_size, device)
        return self

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        vocabulary, ceilings, length = self.vocabulary, self._ceilings, input_ids.shape[1]
        if ceilings is None or ceilings.shape[1] != scores.shape[-1] or ceilings.device != scores.device:
            ceilings = self._ceilings_of(scores.shape[-1], scores.device)
        if self.writes_codes:
            return _under(scores, ceilings[_TEXT + _CODE])
        if self.mode == "text":
            return _under(scores, ceilings[_TEXT])
        inside = missing_span_tokens(input_ids, vocabulary).clamp(max=_CODE)
        if self.mode == "image":
            ended = (input_ids[:, self.prompt_length :] == vocabulary.eoi_token_id).any(-1)
            between: torch.Tensor | int = ended * (_FINAL - _BEGIN) + _BEGIN
        elif self.max_length is not None and self.max_length - length < vocabulary.num_query_tokens + 2:
            between = _TEXT
        else:
            between = _TEXT_OR_BEGIN
        return _under(scores, ceilings.index_select(0, (between + inside).to(scores.device)))

    def _ceilings_of(self, vocab_size: int, device: torch.device) -> torch.Tensor:
        """Infinity for ids that may follow, minus infinity for others, `(4 * 3, vocab_size)`: for each of what may
        follow between spans, that, then what may follow inside a span, as often as there are such kinds.
        """
        ids = torch.arange(vocab_size, device=device)
        text, begin = self.vocabulary.is_text(ids), ids == self.vocabulary.boi_token_id
        final = torch.zeros_like(text)
        for eos in self.eos_token_ids:
            final = final | (ids == eos)
        code, end = self.vocabulary.is_code(ids), ids == self.vocabulary.eoi_token_id
        rows = [row for between in (text, text | begin, begin, final) for row in (between, end, code)]
        return torch.where(torch.stack(rows), torch.inf, -torch.inf)


# Rows of the table above: what may follow between spans, and how many rows further on inside a span. There the number
# of missing tokens says it: one is `</img>`, more are codes.
_TEXT, _TEXT_OR_BEGIN, _BEGIN, _FINAL = 0, 3, 6, 9
_CODE = 2


def missing_span_tokens(input_ids: torch.Tensor, config) -> torch.Tensor:
    """How many tokens each row `(batch, length)` still needs to finish its image span, `</img>` included: `(batch,)`.

    Zero for rows that do not end inside a span, one for rows whose codes are complete (or too many). `config` is a
    [`VisualVocabulary`] or a configuration.
    """
    vocabulary = VisualVocabulary.of(config)
    if input_ids.shape[1] == 0:  # the prompt was embeddings
        return input_ids.new_zeros(len(input_ids))
    length = input_ids.shape[1]
    places = torch.arange(length, device=input_ids.device)
    before = places.masked_fill(vocabulary.is_code(input_ids), 0).amax(-1, keepdim=True)  # the codes at the end
    opened = input_ids.gather(-1, before) == vocabulary.boi_token_id
    missing = (before + (vocabulary.num_query_tokens + 2 - length)).clamp(min=1)
    return (missing * opened).squeeze(-1)


def _under(scores: torch.Tensor, ceiling: torch.Tensor) -> torch.Tensor:
    """Scores with the ids ruled out whose ceiling is minus infinity; that of the others is infinity.

    If another processor has ruled out all others, these are allowed again: a row without any allowed id cannot be
    sampled from. Minima and maxima of floats are three times as fast on a CPU as a choice by a mask.
    """
    ceiling = ceiling.to(scores.dtype)
    kept = torch.minimum(scores, ceiling)
    stuck = kept.amax(-1, keepdim=True) == -torch.inf
    least = torch.where(stuck, 0.0, -torch.inf).to(scores.dtype)
    return torch.maximum(kept, torch.minimum(ceiling, least))


@dataclass
class TextSegment:
    """Text ids, special tokens such as eos included. `SeedProcessor` sets `text`."""

    position: int
    ids: list[int] = field(repr=False)
    text: str | None = None
    type: ClassVar[str] = "text"


@dataclass
class CodeSegment:
    """A valid image span. `ids` include `<img>` and `</img>`; `codes` are in [0, codebook_size)."""

    position: int
    ids: list[int] = field(repr=False)
    codes: list[int]
    type: ClassVar[str] = "image"


@dataclass
class Defect:
    """A part of a sequence that is neither text nor a valid image span. Kinds:

    - `"wrong_length"`: `<img>`, codes, `</img>`, but not `num_query_tokens` codes
    - `"broken_span"`: `<img>` and codes, then something else instead of `</img>`
    - `"unfinished_span"`: the sequence ends inside a span
    - `"stray_codes"`: codes without `<img>` before them
    - `"stray_end"`: `</img>` without a span
    - `"unfilled_image"`: `<image>` placeholders, with `<img>` and `</img>` if they are around them
    - `"unknown_ids"`: ids outside the vocabulary
    """

    position: int
    ids: list[int] = field(repr=False)
    kind: str
    type: ClassVar[str] = "defect"


@dataclass
class ParsedSequence:
    """The parts of a sequence, in order. They hold every id exactly once."""

    parts: list[TextSegment | CodeSegment | Defect]

    @property
    def segments(self) -> list[TextSegment | CodeSegment]:
        return [part for part in self.parts if not isinstance(part, Defect)]

    @property
    def defects(self) -> list[Defect]:
        return [part for part in self.parts if isinstance(part, Defect)]


def parse_segments(ids: Iterable[int] | torch.Tensor, config) -> ParsedSequence:
    """Reads one sequence of ids as text, image spans and defects. Any sequence of integers is accepted.

    Args:
        ids: One sequence, a list or a tensor of one dimension.
        config ([`VisualVocabulary`] or a configuration): Where the visual tokens lie.
    """
    vocabulary = VisualVocabulary.of(config)
    ids = ids.flatten().tolist() if isinstance(ids, torch.Tensor) else [int(i) for i in ids]
    kinds = [_kind(i, vocabulary) for i in ids]
    parts: list[TextSegment | CodeSegment | Defect] = []
    start = 0
    while start < len(ids):
        stop = _run(kinds, start)
        if kinds[start] == "text":
            parts.append(TextSegment(start, ids[start:stop]))
        elif kinds[start] != "begin":
            defect = {"code": "stray_codes", "end": "stray_end", "image": "unfilled_image"}
            parts.append(Defect(start, ids[start:stop], defect.get(kinds[start], "unknown_ids")))
        else:
            stop, part = _read_span(ids, kinds, start, vocabulary)
            parts.append(part)
        start = stop
    return ParsedSequence(parts)


def _read_span(
    ids: list[int], kinds: list[str], start: int, vocabulary: VisualVocabulary
) -> tuple[int, CodeSegment | Defect]:
    """The part that begins with the `<img>` at `start`, and where it stops."""
    inner = start + 1
    stop = _run(kinds, inner) if kinds[inner : inner + 1] in (["code"], ["image"]) else inner
    filled = kinds[inner : inner + 1] != ["image"]
    closed = kinds[stop : stop + 1] == ["end"]
    if closed:
        stop += 1
    span = ids[start:stop]
    if not filled:
        return stop, Defect(start, span, "unfilled_image")
    if not closed:
        return stop, Defect(start, span, "unfinished_span" if stop == len(ids) else "broken_span")
    if len(span) != vocabulary.num_query_tokens + 2:
        return stop, Defect(start, span, "wrong_length")
    return stop, CodeSegment(start, span, [i - vocabulary.visual_token_offset for i in span[1:-1]])


def _run(kinds: list[str], start: int) -> int:
    """Where the run of equal kinds that begins at `start` stops; `<img>` and `</img>` are runs of their own."""
    stop = start + 1
    while stop < len(kinds) and kinds[stop] == kinds[start] and kinds[start] not in ("begin", "end"):
        stop += 1
    return stop


def _kind(token: int, vocabulary: VisualVocabulary) -> str:
    if vocabulary.is_text(token):
        return "text"
    if vocabulary.is_code(token):
        return "code"
    named = {vocabulary.boi_token_id: "begin", vocabulary.eoi_token_id: "end", vocabulary.image_token_id: "image"}
    return named.get(token, "unknown")


__all__ = [
    "CodeSegment",
    "Defect",
    "GENERATION_MODES",
    "ParsedSequence",
    "TextSegment",
    "VisualSpanLogitsProcessor",
    "missing_span_tokens",
    "parse_segments",
]
