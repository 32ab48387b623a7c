"""Batches for the language-model stage: captions and codes in both directions, questions, documents, plain text."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from seed_hf.data.sources.messages import pieces_of, read_parts
from seed_hf.data.sources.text import question_pairs, text_of
from seed_hf.modeling.prompts_seed import Mark, SequenceEncoder, joined_texts

from .row_values import captions_of, naming_the_row, row_names
from .samples import LOSS_KINDS, Sample, batch_of
from .seeded import SeededCollator


logger = logging.getLogger(__name__)

DIRECTIONS = ("image_to_text", "text_to_image", "question")
CUTS = ("whole", "tokens")
LOSSES = ("answers", "all")


class LanguageModelCollator(SeededCollator):
    """Rows with captions and codes, documents, or texts, to padded or packed sequences with labels.

    A row is a mapping with `text`, with `document` (texts and images in order, as parts of the types "text" and
    "image"), or with `codes` (32 integers; several times 32 for images that follow each other) and `caption` (`str`)
    or `captions` (several, one is drawn). A row with codes may have `questions`: pairs of question and answer, or
    mappings with these two keys; one is drawn. It may name its `direction`; otherwise a direction is drawn. Only the
    tokens in `[...]` are learned; all others have the label -100. With SEED-OPT's `prompt_format`:

        image_to_text    bos <img> codes </img> " a photo of" [" caption" eos]
        question         bos <img> codes </img> " Question: ... Short answer." [" answer" eos]
        text_to_image    bos "Generate an image caption" [<img> codes </img> eos]
        document         bos ["text" <img> codes </img> "text" ... eos]
        text             bos [text eos]

    Text is encoded without the added tokens, so it cannot become `<img>`, `</img>` or a code. Sequences longer than
    `max_length` are cut, and the first is logged; a caption, answer, document or text that was cut has no eos.

    A row may have its own `direction`, `loss_on`, `max_length` and `swap_images`.

    Args:
        tokenizer: The text tokenizer of the language model.
        config (`SeedTextConfig`): Gives the ids of the visual tokens, `num_query_tokens` and `codebook_size`.
        directions (`dict[str, float]`, *optional*): Relative frequencies of "image_to_text", "text_to_image" and
            "question"; defaults to 0.5, 0.5 and 0. A row without questions has one of the other two.
        caption_prompt, image_prompt, question_prompt (`str`, *optional*): Those of the model's `prompt_format` by
            default, for SEED-OPT the paper's. `{}` in the last stands for the question.
        loss_on (`str`, *optional*, defaults to "answers"): What is learned: "answers", the tokens in `[...]`, or
            "all" tokens, as in the pretraining of SEED-LLaMA.
        max_images (`int`, *optional*): A document ends before the next image, or after the next text, once it has so
            many.
        swap_images (`float`, *optional*, defaults to 0.0): How often a document's images change places with what
            follows each, so that its texts come first.
        special_tokens (`bool`, *optional*, defaults to `False`): Whether the names of bos, eos and unk in a `text`
            are these tokens, as in the authors' data. Visual tokens are never spelled. Where unk is padding too, it is
            not learned.
        cut (`str`, *optional*, defaults to "whole"): How a sequence is cut: "whole" cuts a caption or text and never
            an image; "tokens" cuts after `max_length` tokens whatever is there, as the authors' code does.
        max_length (`int`, *optional*): Defaults to the model's `max_position_embeddings`.
        pack_length (`int`, *optional*): Pack the samples of a batch into sequences of this length (see [`pack`]). It
            must be at least `max_length`, and may exceed the model's number of positions, which start again at 0 with
            each sample. By default each sample is a sequence, padded to the longest of the batch.
        seed (`int`, *optional*, defaults to 42): Seed of all draws.

    A call returns:

    - `input_ids` and `labels` `(B, L)`, padded on the right.
    - `loss_positions` and `loss_kinds` `(N,)`: for each of the N learned tokens, in the order of the rows, the
      position in the flattened batch that predicts it, and its index in `LOSS_KINDS`.
    - `attention_mask` `(B, L)`, in padded batches only.
    - In packed batches, where L is `pack_length` and B the number of sequences: `position_ids` `(B, L)`, which start
      at 0 with each sample; `sample_ids` `(B, L)`, the row of each token, -1 for padding; and `cu_seq_lens`
      `(S + 1,)`, int32, the first positions in the flattened batch of the S stretches (samples and paddings), and the
      end.
    - `row_ids`, the file and number of each row, or else its `id`, if they have some.

    Raises:
        ValueError: Unknown or impossible settings; `pack_length` is less than `max_length`. Or a row, which is
            named, lacks the needed keys, has something else than text, a wrong number of codes, or codes outside the
            codebook.
    """

    def __init__(
        self,
        tokenizer,
        config,
        *,
        directions: Mapping[str, float] | None = None,
        caption_prompt: str | None = None,
        image_prompt: str | None = None,
        question_prompt: str | None = None,
        loss_on: str = "answers",
        max_images: int | None = None,
        swap_images: float = 0.0,
        special_tokens: bool = False,
        cut: str = "whole",
        max_length: int | None = None,
        pack_length: int | None = None,
        seed: int = 42,
    ):
        super().__init__(seed)
        self.directions = _checked_directions(directions)
        self.loss_on = _one_of("loss_on", loss_on, LOSSES)
        self.cut = _one_of("cut", cut, CUTS)
        if max_images is not None and max_images < 1:
            raise ValueError(f"max_images must be at least 1, got {max_images}.")
        self.max_images, self.swap_images = max_images, _share("swap_images", swap_images)
        if tokenizer.eos_token_id is None:
            raise ValueError(
                "The tokenizer has no eos token, and every sequence ends with one. Set tokenizer.eos_token."
            )
        self.pad = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        self.names = _special_names(tokenizer) if special_tokens else {}
        positions: int = getattr(config, "max_position_embeddings", max_length or 0)  # a layout alone has none
        self.max_length = max_length or positions
        if self.max_length > positions:
            raise ValueError(f"max_length must be at most the model's {positions} positions, got {self.max_length}.")
        if pack_length is not None and pack_length < self.max_length:
            raise ValueError(
                f"pack_length must be at least max_length, which is {self.max_length}, got {pack_length}: no sample "
                "is cut to be packed. Raise pack_length, or set a smaller max_length (longer texts are cut to it)."
            )
        self.pack_length = pack_length
        prompts = {"caption_prompt": caption_prompt, "image_prompt": image_prompt, "question_prompt": question_prompt}
        self.sequences = SequenceEncoder(tokenizer, config, **prompts)
        self._said_cut = False

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        samples = []
        for place in range(len(rows)):
            with naming_the_row(rows, place):
                samples.append(self.sample(rows[place]))
        return batch_of(samples, self.pad, self.pack_length) | row_names(rows)

    def sample(self, row: Mapping[str, Any]) -> Sample:
        """The sequence of a row.

        Args:
            row: As the class describes it.

        Raises:
            ValueError: It is not as described.
        """
        if row.get("document") is not None:
            return self._document(row)
        if row.get("codes") is None:
            if row.get("text") is None:
                raise ValueError(f"A row needs codes and caption(s), document or text; got the keys {sorted(row)}.")
            return self._text(row)
        direction, given = self._chosen(row)
        if direction == "text_to_image":
            return self._drawn(row, **given)
        name, kind = ("question", "answer") if direction == "question" else ("caption", "caption")
        return self._closed(row, name, kind, **given)

    def turns_that_fit(self, row: Mapping[str, Any]) -> tuple[int, int]:
        """How many turns of a row are kept, and how many it has: one, but for conversations.

        Args:
            row: As the class describes it. Of documents everything is checked.

        Raises:
            ValueError: It is not as described, or its first turn does not fit into `max_length`.
        """
        if row.get("document") is not None:
            self.sample(row)
        return 1, 1

    def _chosen(self, row: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """The direction of a row with codes, and what it says in that direction: text, question, codes."""
        codes = self.codes_of(row["codes"])
        captions, questions = captions_of(row), question_pairs(row.get("questions")) or []
        span = self.sequences.ids([Mark.IMAGE], codes)
        draw = self.generator(np.asarray(span).tobytes(), "\n".join(captions).encode())
        weights = [weight if name != "question" or questions else 0.0 for name, weight in self.directions.items()]
        if not any(weights):
            raise ValueError("directions ask for questions alone, but a row has none.")
        direction = row.get("direction") or draw.choices(list(self.directions), weights)[0]
        if direction not in DIRECTIONS or (direction == "question" and not questions):
            raise ValueError(f"A row with {len(questions)} questions cannot have the direction {direction!r}.")
        if direction == "question":
            question, answer = questions[draw.randrange(len(questions))]
            return direction, {"text": answer, "question": question, "codes": codes}
        return direction, {"text": captions[draw.randrange(len(captions))], "codes": codes}

    def _drawn(self, row: Mapping[str, Any], *, text: str, codes: Sequence) -> Sample:
        """Text to image. The caption is cut, and never the image."""
        image, prompt = self.sequences.answer("draw", codes=codes), self.sequences.prompt("draw", text=text)
        length = self._length(row)
        if self.cut == "whole":
            if len(image) >= length:
                raise ValueError(f"An image and eos are {len(image)} tokens, but max_length is {length}.")
            self._say_cut(len(prompt) + len(image), length)
            prompt = prompt[: length - len(image)]
        sample = Sample().add(prompt, self._of_given(row, "caption"))
        return self._fitted(self._begun(row, sample.add(image, "code")), length)

    def _closed(self, row: Mapping[str, Any], name: str, kind: str, *, text: str, **given) -> Sample:
        """A sequence of the format `name`, cut to `max_length` at the end."""
        prompt, length = self.sequences.prompt(name, text=text, **given), self._length(row)
        if len(prompt) >= length:
            raise ValueError(f"The prompt alone has {len(prompt)} tokens, but max_length is {length}.")
        sample = Sample().add(prompt, self._of_given(row, kind), self.is_code)
        return self._fitted(self._begun(row, sample.add(self.sequences.answer(name, text=text), kind)), length)

    def _text(self, row: Mapping[str, Any]) -> Sample:
        text = text_of(row["text"], "text")
        if not self.names:
            return self._closed(row, "text", "text", text=text)
        split = re.split(f"({'|'.join(map(re.escape, self.names))})", text)
        pieces: list = [self.names.get(piece, piece) for piece in split if piece]
        sample = Sample().add(self.sequences.prompt("text"), self._of_given(row, "text"))
        for token in self.sequences.ids([*pieces, Mark.EOS]):
            sample.add([token], None if token == self.pad != self.sequences.eos else "text")
        return self._fitted(self._begun(row, sample), self._length(row))

    def _fitted(self, sample: Sample, length: int) -> Sample:
        self._say_cut(len(sample.ids), length)
        return sample.cut(length)

    def _say_cut(self, tokens: int, length: int) -> None:
        """Log the first sequence that is cut, once: its end is never learned."""
        if tokens > length and not self._said_cut:
            self._said_cut = True
            logger.warning("A sequence of %d tokens is cut to %d (max_length), as all longer ones.", tokens, length)

    def _document(self, row: Mapping[str, Any]) -> Sample:
        """An interleaved document. All of it is learned."""
        pieces = pieces_of(read_parts(row["document"]), "document")
        for piece in pieces:
            if not isinstance(piece, str):
                self.codes_of(piece, images=1)
        share = self._own(row, "swap_images")
        if self.generator(repr(pieces).encode()).random() < _share("swap_images", share):
            pieces = _swapped(pieces)
        pieces = joined_texts(_with_images(pieces, self.max_images))
        sample = Sample().add(self.sequences.ids([Mark.BOS]), self._of_given(row, "text"))
        sample = self._begun(row, sample.add(self.sequences.ids([*pieces, Mark.EOS]), "text", self.is_code))
        sample = sample.cut(self.end_of(sample.ids, self._length(row)))
        if not sample.is_learned:
            raise ValueError(f"The first image of the document does not fit: max_length is {self._length(row)}.")
        return sample

    def end_of(self, ids: Sequence[int], length: int) -> int:
        """Where to cut a sequence: after `length` tokens, or before the image that is there.

        Args:
            ids: Of the whole sequence.
            length: In tokens.
        """
        config = self.sequences.vocabulary
        if self.cut == "tokens" or len(ids) <= length or config is None:
            return length
        span = config.num_query_tokens + 2
        begun = [place for place in range(max(0, length - span + 1), length) if ids[place] == config.boi_token_id]
        return begun[-1] if begun else length

    def codes_of(self, codes, images: int | None = None) -> list[list[int]]:
        """The codes of each image of a row.

        Args:
            codes: Of one image, or of several that follow each other.
            images: How many there must be.

        Raises:
            ValueError: It is another number of codes, or they lie outside the codebook.
        """
        codes, config = np.asarray(codes), self.sequences.vocabulary
        if config is None:
            raise ValueError("A plain language model has no visual tokens: its rows must be text alone.")
        count = config.num_query_tokens
        whole = codes.ndim == 1 and len(codes) and len(codes) % count == 0 and images in (None, len(codes) // count)
        if not whole or not np.issubdtype(codes.dtype, np.integer):
            raise ValueError(f"codes must be {count} integers, got shape {codes.shape} of {codes.dtype}.")
        if codes.min() < 0 or codes.max() >= config.codebook_size:
            raise ValueError(
                f"codes must lie in 0..{config.codebook_size - 1}, got {codes.min()}..{codes.max()}. Were they made "
                "by another tokenizer?"
            )
        return codes.reshape(-1, count).tolist()

    def is_code(self, token: int) -> bool:
        """Whether a token is a code, `<img>` or `</img>`.

        Args:
            token: Its id.
        """
        config = self.sequences.vocabulary
        if config is None:
            return False
        return token in (config.boi_token_id, config.eoi_token_id) or bool(config.is_code(token))

    def _own(self, row: Mapping[str, Any], name: str) -> Any:
        """A setting of the row, or else of the collator."""
        return getattr(self, name) if row.get(name) is None else row[name]

    def _length(self, row: Mapping[str, Any]) -> int:
        own = self._own(row, "max_length")
        if not isinstance(own, int) or not 0 < own <= self.max_length:
            raise ValueError(f"max_length of a row must lie in 1..{self.max_length}, got {own!r}.")
        return own

    def _of_given(self, row: Mapping[str, Any], kind: str) -> str | None:
        return kind if _one_of("loss_on", self._own(row, "loss_on"), LOSSES) == "all" else None

    def _begun(self, row: Mapping[str, Any], sample: Sample) -> Sample:
        """Nothing predicts the first token. Its label says so, but for `loss_on="all"`, as in the authors' data."""
        if self._of_given(row, "text") is None:
            sample.kinds[:1] = Sample().add(sample.ids[:1]).kinds
        return sample


def _special_names(tokenizer) -> dict[str, int]:
    names = {name: getattr(tokenizer, f"{name}_token") for name in ("bos", "eos", "unk")}
    return {text: getattr(tokenizer, f"{name}_token_id") for name, text in names.items() if text is not None}


def _swapped(pieces: list) -> list:
    """Each image and what follows it in each other's place."""
    pieces, place = list(pieces), 0
    while place < len(pieces) - 1:
        if not isinstance(pieces[place], str):
            pieces[place : place + 2] = pieces[place + 1], pieces[place]
            place += 1
        place += 1
    return pieces


def _with_images(pieces: list, limit: int | None) -> list:
    kept, images = [], 0
    for piece in pieces:
        full = limit is not None and images >= limit
        if full and not isinstance(piece, str):
            break
        kept.append(piece)
        images += not isinstance(piece, str)
        if full:
            break
    return kept


def _one_of(name: str, value: Any, allowed: Sequence[str]) -> str:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}; got {value!r}.")
    return value


def _share(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise ValueError(f"{name} must be a frequency from 0 to 1, got {value!r}.")
    return float(value)


def _checked_directions(directions: Mapping[str, float] | None) -> dict[str, float]:
    directions = dict(directions or {"image_to_text": 0.5, "text_to_image": 0.5})
    if unknown := sorted(set(directions) - set(DIRECTIONS)):
        raise ValueError(f"unknown directions {unknown}; known are {', '.join(DIRECTIONS)}.")
    if min(directions.values()) < 0 or not any(directions.values()):
        raise ValueError(f"directions must be frequencies, none negative and one positive, got {directions}.")
    return {name: float(directions.get(name, 0.0)) for name in DIRECTIONS}


__all__ = ["DIRECTIONS", "LOSS_KINDS", "LanguageModelCollator"]
