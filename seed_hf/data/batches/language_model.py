"""Batches for the language-model stage: captions and codes in both directions, questions, and plain text."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from seed_hf.data.sources.text import question_pairs, text_of
from seed_hf.modeling.prompts_seed import SequenceEncoder

from .packing import PADDING, borders, pack
from .row_values import captions_of, naming_the_row, row_names
from .seeded import SeededCollator


DIRECTIONS = ("image_to_text", "text_to_image", "question")
# What a learned token belongs to; `loss_kinds` has its index in this tuple.
LOSS_KINDS = ("caption", "answer", "code", "text")
IGNORE = -100


class LanguageModelCollator(SeededCollator):
    """Rows with captions and codes, or with text, to padded or packed sequences with labels.

    A row is a mapping with `text`, or with `codes` (32 integers) and `caption` (`str`) or `captions` (several, one is
    drawn). A row with codes may have `questions`: pairs of question and answer, or mappings with these two keys; one
    is drawn. It may name its `direction`; otherwise a direction is drawn. Only the tokens in `[...]` are learned;
    all others have the label -100. With SEED-OPT's `prompt_format`:

        image_to_text    bos <img> codes </img> " a photo of" [" caption" eos]
        question         bos <img> codes </img> " Question: ... Short answer." [" answer" eos]
        text_to_image    bos "Generate an image caption" [<img> codes </img> eos]
        text             bos [text eos]

    Text is encoded without the added tokens, so it cannot become `<img>`, `</img>` or a code. Sequences longer than
    `max_length` are cut; a caption, answer or text that was cut has no eos.

    Args:
        tokenizer: The text tokenizer of the language model.
        config (`SeedTextConfig`): Gives the ids of the visual tokens, `num_query_tokens` and `codebook_size`.
        directions (`dict[str, float]`, *optional*): Relative frequencies of "image_to_text", "text_to_image" and
            "question"; defaults to 0.5, 0.5 and 0. A row without questions has one of the other two.
        caption_prompt, image_prompt, question_prompt (`str`, *optional*): Those of the model's `prompt_format` by
            default, for SEED-OPT the paper's. `{}` in the last stands for the question.
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
    - `row_ids`, the rows' `id`, if they have one.

    Raises:
        ValueError: Unknown or impossible directions; `pack_length` is less than `max_length`. Or a row, which is
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
        max_length: int | None = None,
        pack_length: int | None = None,
        seed: int = 42,
    ):
        super().__init__(seed)
        self.directions = _checked_directions(directions)
        if tokenizer.eos_token_id is None:
            raise ValueError(
                "The tokenizer has no eos token, and every sequence ends with one. Set tokenizer.eos_token."
            )
        self.pad = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
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

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        samples = []
        for place in range(len(rows)):
            with naming_the_row(rows, place):
                samples.append(self._sequence(rows[place]))
        lengths = [len(ids) for ids, _, _ in samples]
        if self.pack_length is None:
            places, shape = [(row, 0) for row in range(len(rows))], (len(rows), max(lengths))
        else:
            places = pack(lengths, self.pack_length)
            shape = (1 + max(sequence for sequence, _ in places), self.pack_length)
        input_ids = np.full(shape, self.pad, dtype=np.int64)
        labels = np.full(shape, IGNORE, dtype=np.int64)
        position_ids = np.zeros(shape, dtype=np.int64)
        sample_ids = np.full(shape, PADDING, dtype=np.int64)
        positions, kinds = [], []
        for row, ((ids, learned_from, kind), (sequence, start)) in enumerate(zip(samples, places)):
            end = start + len(ids)
            input_ids[sequence, start:end] = ids
            labels[sequence, start + learned_from : end] = ids[learned_from:]
            position_ids[sequence, start:end] = np.arange(len(ids))
            sample_ids[sequence, start:end] = row
            positions.append(np.arange(start + learned_from - 1, end - 1) + sequence * shape[1])
            kinds.append(np.full(len(ids) - learned_from, LOSS_KINDS.index(kind)))
        batch = {
            "input_ids": input_ids,
            "labels": labels,
            "loss_positions": np.concatenate(positions),
            "loss_kinds": np.concatenate(kinds),
        }
        if self.pack_length is None:
            batch["attention_mask"] = (sample_ids != PADDING).astype(np.int64)
        else:
            batch |= {"position_ids": position_ids, "sample_ids": sample_ids, "cu_seq_lens": borders(sample_ids)}
        tensors: dict[str, Any] = {name: torch.from_numpy(array) for name, array in batch.items()}
        return tensors | row_names(rows)

    def _sequence(self, row: Mapping[str, Any]) -> tuple[list[int], int, str]:
        """(ids, position of the first learned token, one of `LOSS_KINDS`)"""
        if row.get("codes") is None:
            if row.get("text") is None:
                raise ValueError(f"A row needs codes and caption(s), or text; got the keys {sorted(row)}.")
            return self._closed("text", "text", text=text_of(row["text"], "text"))
        codes, span = self._checked(row["codes"])
        captions, questions = captions_of(row), question_pairs(row.get("questions")) or []
        draw = self.generator(np.asarray(span).tobytes(), "\n".join(captions).encode())
        weights = [weight if name != "question" or questions else 0.0 for name, weight in self.directions.items()]
        if not any(weights):
            raise ValueError("directions ask for questions alone, but a row has none.")
        direction = row.get("direction") or draw.choices(list(self.directions), weights)[0]
        if direction not in DIRECTIONS or (direction == "question" and not questions):
            raise ValueError(f"A row with {len(questions)} questions cannot have the direction {direction!r}.")
        if direction == "question":
            question, answer = questions[draw.randrange(len(questions))]
            return self._closed("question", "answer", text=answer, question=question, codes=codes)
        caption = captions[draw.randrange(len(captions))]
        if direction == "image_to_text":
            return self._closed("caption", "caption", text=caption, codes=codes)
        image = self.sequences.answer("draw", codes=codes)
        if len(image) >= self.max_length:
            raise ValueError(f"An image and eos are {len(image)} tokens, but max_length is {self.max_length}.")
        prompt = self.sequences.prompt("draw", text=caption)[: self.max_length - len(image)]
        return [*prompt, *image], max(len(prompt), 1), "code"

    def _closed(self, name: str, loss_kind: str, *, text: str, **given) -> tuple[list[int], int, str]:
        """A sequence of the format `name`, cut to `max_length` at the end."""
        prompt = self.sequences.prompt(name, text=text, **given)
        if len(prompt) >= self.max_length:
            raise ValueError(f"The prompt alone has {len(prompt)} tokens, but max_length is {self.max_length}.")
        ids = [*prompt, *self.sequences.answer(name, text=text)][: self.max_length]
        # Without bos nothing predicts the first token of a text.
        return ids, max(len(prompt), 1), loss_kind

    def _checked(self, codes) -> tuple[np.ndarray, list[int]]:
        """(the codes, their image span)"""
        codes, config = np.asarray(codes), self.sequences.vocabulary
        if config is None:
            raise ValueError("A plain language model has no visual tokens: its rows must be text alone.")
        if codes.shape != (config.num_query_tokens,) or not np.issubdtype(codes.dtype, np.integer):
            raise ValueError(
                f"codes must be {config.num_query_tokens} integers, got shape {codes.shape} of {codes.dtype}."
            )
        if codes.min() < 0 or codes.max() >= config.codebook_size:
            raise ValueError(
                f"codes must lie in 0..{config.codebook_size - 1}, got {codes.min()}..{codes.max()}. Were they made "
                "by another tokenizer?"
            )
        return codes, config.span(codes)


def _checked_directions(directions: Mapping[str, float] | None) -> dict[str, float]:
    directions = dict(directions or {"image_to_text": 0.5, "text_to_image": 0.5})
    if unknown := sorted(set(directions) - set(DIRECTIONS)):
        raise ValueError(f"unknown directions {unknown}; known are {', '.join(DIRECTIONS)}.")
    if min(directions.values()) < 0 or not any(directions.values()):
        raise ValueError(f"directions must be frequencies, none negative and one positive, got {directions}.")
    return {name: float(directions.get(name, 0.0)) for name in DIRECTIONS}
