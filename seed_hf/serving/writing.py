"""Rows of text and codes that the language model writes in one batch, each with its own end, seed and reader."""

from collections.abc import Sequence
from dataclasses import dataclass
from queue import Empty
from typing import Any

import torch
from transformers import LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer

from seed_hf.devices import generator_of
from seed_hf.modeling.generation_seed import CodeSegment, TextSegment
from seed_hf.modeling.streaming_seed import SeedStreamer
from seed_hf.modeling.token_rows_seed import padded

from .batches import Job


# What lies outside of the nucleus is this much less likely, and not impossible: a place may allow nothing else.
_OUTSIDE = 1e4


@dataclass(frozen=True)
class Row:
    """What the language model is asked to continue.

    Attributes:
        ids: Of the prompt, with the codes of its images.
        mode: `generation_mode`: "text", "image" or "interleaved".
        new_tokens: That it may write at most.
        temperature: 0 is greedy.
        top_p: Share of the probability that is sampled from.
        seed: Of the samples, which depend on nothing else: not on the other rows of a batch.
        stop: Texts that end the reply, and are not part of it.
    """

    ids: list[int]
    mode: str
    new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str, int]:
        """Rows with the same key can be written together: an image begins only where all of it fits."""
        return self.mode, 0 if self.mode == "text" else self.new_tokens


@dataclass(frozen=True)
class Written:
    """How a reply ended.

    Attributes:
        reason: "stop" or "length".
        tokens: That were written.
    """

    reason: str
    tokens: int


class Reply:
    """One row while it is written. It gives texts (`str`) and images (lists of codes) to its job.

    Args:
        job: Whose work is a [`Row`].
        processor: Of the model.
        ends: Ids that end a sequence.
    """

    def __init__(self, job: Job, processor: Any, ends: set[int]):
        self.job, self.row, self.ends = job, job.work, ends
        self.streamer = SeedStreamer(processor, skip_prompt=False)
        self.tokens, self.done, self.begun, self.held = 0, False, False, ""

    def take(self, token: int) -> None:
        """Read the next token, unless the row is done: then it is padding.

        Args:
            token: Its id.
        """
        if self.done or self.job.gone:
            return
        self.tokens += 1
        self.streamer.put(torch.tensor([token]))
        self._give_parts()
        if self.done:
            return
        if token in self.ends:
            self.end("stop")
        elif self.tokens >= self.row.new_tokens:
            self.end("length")

    def end(self, reason: str) -> None:
        """Give what is left, and the result.

        Args:
            reason: As of [`Written`].
        """
        if self.done:
            return
        self.streamer.end()
        self._give_parts()
        if not self.done:  # a stop text may have been the last
            self._say(self.held.rstrip())
            self._finish(reason)

    def _finish(self, reason: str) -> None:
        self.done = True
        self.job.finish(Written(reason, self.tokens))

    def _give_parts(self) -> None:
        while not self.done:
            try:
                part = self.streamer.queue.get_nowait()
            except Empty:
                return
            if isinstance(part, TextSegment):
                self._add(part.text or "")
            elif isinstance(part, CodeSegment):
                self._say(self.held)
                self.held = ""
                self.job.give(list(part.codes))

    def _add(self, text: str) -> None:
        self.held += text if self.begun else text.lstrip()
        self.begun = self.begun or bool(self.held)
        found = [at for stop in self.row.stop if (at := self.held.find(stop)) >= 0]
        if found:
            self._say(self.held[: min(found)].rstrip())
            self._finish("stop")
            return
        sure = self.held[: len(self.held) - self._open_end()].rstrip()  # white space may be the end
        self._say(sure)
        self.held = self.held[len(sure) :]

    def _open_end(self) -> int:
        """Characters at the end that may be the beginning of a stop text."""
        lengths = (n for stop in self.row.stop for n in range(1, len(stop)) if self.held.endswith(stop[:n]))
        return max(lengths, default=0)

    def _say(self, text: str) -> None:
        if text:
            self.job.give(text)


def write(model: Any, processor: Any, jobs: Sequence[Job]) -> None:
    """Continue rows of the same key; every row ends by itself.

    Args:
        model: A [`SeedForConditionalGeneration`].
        processor: Its processor.
        jobs: Their work are [`Row`]s.
    """
    positions = model.config.text_config.max_position_embeddings
    left = sorted(jobs, key=lambda job: len(job.work.ids))
    while left:
        # Padding counts as positions: only rows that fit beside the longest are written with it.
        batch = [left.pop(0)]
        while left and len(left[0].work.ids) + max(job.work.new_tokens for job in [*batch, left[0]]) <= positions:
            batch.append(left.pop(0))
        _write_together(model, processor, batch)


def _write_together(model: Any, processor: Any, jobs: Sequence[Job]) -> None:
    eos = model.generation_config.eos_token_id
    ends = set(eos) if isinstance(eos, (list, tuple)) else {eos}
    replies = [Reply(job, processor, ends) for job in jobs]
    rows: list[Row] = [reply.row for reply in replies]
    longest = max(len(row.ids) for row in rows)
    pad = processor.tokenizer.pad_token_id or 0  # what is masked may be any id
    ids = torch.tensor(padded([row.ids for row in rows], pad, longest))
    mask = torch.tensor(padded([[1] * len(row.ids) for row in rows], 0, longest))
    model.generate(
        input_ids=ids.to(model.device),
        attention_mask=mask.to(model.device),
        generation_mode=rows[0].mode,
        max_new_tokens=max(row.new_tokens for row in rows),
        do_sample=False,
        num_beams=1,
        logits_processor=LogitsProcessorList([SeededSampling(rows)]),
        stopping_criteria=StoppingCriteriaList([_EachEnds(replies)]),
        streamer=_Readers(replies),
    )
    for reply in replies:
        reply.end("length")  # if it has no end


class SeededSampling(LogitsProcessor):
    """Samples by adding Gumbel noise to the scores, of which greedy decoding then takes the highest.

    Every row has a generator of its own, so that its samples do not depend on the other rows. Rows of temperature 0
    are left as they are. What a reply may not hold at a place is no part of the share of `top_p`.

    Args:
        rows: Of the batch.
    """

    runs_behind_constraint = True  # of `generate`

    def __init__(self, rows: Sequence[Row]):
        self.rows = rows
        self.generators = [generator_of(row.seed) for row in rows]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if not any(row.temperature for row in self.rows):
            return scores
        scores = scores.clone()
        for number, (row, generator) in enumerate(zip(self.rows, self.generators)):
            if row.temperature:
                # Less is greedy in all but name, and ends beyond what a number can hold.
                warm = scores[number].float() / max(row.temperature, 1e-6)
                uniform = torch.rand(len(warm), generator=generator).clamp_(min=torch.finfo(torch.float32).tiny)
                noise = -torch.log(-torch.log(uniform)).to(warm.device)
                scores[number] = (warm + noise - _OUTSIDE * _outside(warm, row.top_p)).to(scores.dtype)
        return scores


def _outside(scores: torch.Tensor, top_p: float) -> torch.Tensor:
    """Where scores `(vocabulary,)` are not among the likeliest that have a share `top_p` of the probability."""
    if top_p >= 1:
        return torch.zeros_like(scores, dtype=torch.bool)
    probabilities, order = scores.softmax(-1).sort(descending=True, stable=True)
    before = probabilities.cumsum(-1) - probabilities
    return torch.zeros_like(before, dtype=torch.bool).scatter(-1, order, before >= top_p)


class _Readers(BaseStreamer):
    def __init__(self, replies: Sequence[Reply]):
        self.replies, self.at_prompt = replies, True

    def put(self, value: torch.Tensor) -> None:
        if self.at_prompt:
            self.at_prompt = False
            return
        for reply, token in zip(self.replies, value.tolist()):
            reply.take(token)

    def end(self) -> None:
        pass


class _EachEnds(StoppingCriteria):
    def __init__(self, replies: Sequence[Reply]):
        self.replies = replies

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        done = [reply.done or reply.job.gone for reply in self.replies]
        return torch.tensor(done, device=input_ids.device)


__all__ = ["Reply", "Row", "SeededSampling", "Written", "write"]
