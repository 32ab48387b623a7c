"""Batches for the language-model stage: captions and codes in both directions, questions, and plain text."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from seed_hf.modeling.prompts_seed import CAPTION_PROMPT, IMAGE_PROMPT, QUESTION_PROMPT, SequenceEncoder

from .packing import PADDING, borders, pack
from .seeded import SeededCollator


DIRECTIONS = ("image_to_text", "text_to_image", "question")
# What a token with a loss belongs to; the position in this tuple is its number in `loss_kinds`.
LOSS_KINDS = ("caption", "answer", "code", "text")
IGNORE = -100


class LanguageModelCollator(SeededCollator):
    """Rows with captions and codes, or with text, to padded or packed sequences with labels.

    A row is a mapping with `codes` (32 integers) and `caption` (`str`) or `captions` (several, one is drawn), and
    maybe `questions` (pairs of question and answer, or mappings with these two keys; one is drawn); or with `text`
    alone. For each row with codes one direction is drawn, unless the row names its `direction`. `[...]` marks what is
    learned, everything else has the label -100:

        image_to_text    bos <img> codes </img> " a photo of" [" caption" eos]
        question         bos <img> codes </img> " Question: ... Short answer." [" answer" eos]
        text_to_image    bos "Generate an image caption" [<img> codes </img> eos]
        text             bos [text eos]

    Text is encoded without the added tokens, so none of it can turn into `<img>`, `</img>` or a code. Text that would
    make a sequence longer than `max_length` is cut; a cut caption, answer or text is not closed by eos.

    Args:
        tokenizer: The text tokenizer of the language model.
        config (`SeedTextConfig`): Gives the ids of the visual tokens, `num_query_tokens` and `codebook_size`.
        directions (`dict[str, float]`, *optional*): Relative frequencies of "image_to_text", "text_to_image" and
            "question"; defaults to 0.5, 0.5 and 0. Rows without questions share what is left.
        caption_prompt, image_prompt, question_prompt (`str`, *optional*): The paper's prompts by default. `{}` in the
            last stands for the question.
        max_length (`int`, *optional*): Defaults to the model's `max_position_embeddings`.
        pack_length (`int`, *optional*): Put the samples of a batch together into sequences of this length (see
            [`pack`]). It may be more than the model has positions for, which begin anew with each sample, but not less
            than `max_length`. By default each sample is a sequence, padded to the longest of the batch.
        seed (`int`, *optional*, defaults to 42): Seed of all draws.

    Returns of a call: `input_ids` and `labels` `(B, L)`, padded on the right; `loss_positions` and `loss_kinds`
    `(N,)`: for each of the N labels, in the order of the rows, where in the flattened batch the model predicts it, and
    its place in `LOSS_KINDS`. Padded batches have an `attention_mask` `(B, L)`. In packed ones L is `pack_length` and
    B the number of sequences; they have `position_ids` `(B, L)`, which begin at 0 with each sample; `sample_ids`
    `(B, L)`, the row that a token comes from, -1 for padding; and `cu_seq_lens` `(S + 1,)`, int32: where in the
    flattened batch each of the S stretches (samples and paddings) begins, and the end.

    Raises:
        ValueError: unknown or impossible directions; a `pack_length` that is shorter than `max_length`; rows without
            the needed keys; wrong number of codes, or codes outside the codebook.
    """

    def __init__(
        self,
        tokenizer,
        config,
        *,
        directions: Mapping[str, float] | None = None,
        caption_prompt: str = CAPTION_PROMPT,
        image_prompt: str = IMAGE_PROMPT,
        question_prompt: str = QUESTION_PROMPT,
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
        self.max_length = max_length or config.max_position_embeddings
        if pack_length is not None and pack_length < self.max_length:
            raise ValueError(
                f"pack_length must be at least max_length, which is {self.max_length}, got {pack_length}: no sample "
                "is cut to be packed. Raise pack_length, or set a smaller max_length (longer texts are cut to it)."
            )
        self.pack_length = pack_length
        prompts = {"caption_prompt": caption_prompt, "image_prompt": image_prompt, "question_prompt": question_prompt}
        self.sequences = SequenceEncoder(tokenizer, config, **prompts)

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        samples = [self._sequence(row) for row in rows]
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
        if "id" in rows[0]:
            tensors["row_ids"] = [row["id"] for row in rows]  # messages name them
        return tensors

    def _sequence(self, row: Mapping[str, Any]) -> tuple[list[int], int, str]:
        """(ids, position of the first learned token, kind of the learned tokens)"""
        if row.get("codes") is None:
            if row.get("text") is None:
                raise ValueError(f"A row needs codes and caption(s), or text; got the keys {sorted(row)}.")
            return self._closed("text", "text", text=row["text"])
        codes = self._checked(row["codes"])
        captions = [row["caption"]] if row.get("captions") is None else list(row["captions"])
        questions = [] if row.get("questions") is None else list(row["questions"])
        assert self.sequences.vocabulary is not None  # _checked wants it
        span = np.asarray(self.sequences.vocabulary.span(codes))
        draw = self.generator(span.tobytes(), "\n".join(captions).encode())
        weights = [weight if name != "question" or questions else 0.0 for name, weight in self.directions.items()]
        if not any(weights):
            raise ValueError("directions ask for questions alone, but a row has none.")
        direction = row.get("direction") or draw.choices(list(self.directions), weights)[0]
        if direction not in DIRECTIONS or (direction == "question" and not questions):
            raise ValueError(f"A row with {len(questions)} questions cannot have the direction {direction!r}.")
        if direction == "question":
            question, answer = _pair(questions[draw.randrange(len(questions))])
            return self._closed("question", "answer", text=answer, question=question, codes=codes)
        caption = captions[draw.randrange(len(captions))]
        if direction == "image_to_text":
            return self._closed("caption", "caption", text=caption, codes=codes)
        drawn = self.sequences.answer("draw", codes=codes)
        if len(drawn) >= self.max_length:
            raise ValueError(f"An image and eos are {len(drawn)} tokens, but max_length is {self.max_length}.")
        prompt = self.sequences.prompt("draw", text=caption)[: self.max_length - len(drawn)]
        return [*prompt, *drawn], max(len(prompt), 1), "code"

    def _closed(self, name: str, loss_kind: str, *, text: str, **given) -> tuple[list[int], int, str]:
        """A sequence of the format `name`, cut to `max_length` at the end."""
        prompt = self.sequences.prompt(name, text=text, **given)
        if len(prompt) >= self.max_length:
            raise ValueError(f"The prompt alone has {len(prompt)} tokens, but max_length is {self.max_length}.")
        ids = [*prompt, *self.sequences.answer(name, text=text)][: self.max_length]
        # Without bos nothing predicts the first token of a text.
        return ids, max(len(prompt), 1), loss_kind

    def _checked(self, codes) -> np.ndarray:
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
        return codes


def _checked_directions(directions: Mapping[str, float] | None) -> dict[str, float]:
    directions = dict(directions or {"image_to_text": 0.5, "text_to_image": 0.5})
    if unknown := sorted(set(directions) - set(DIRECTIONS)):
        raise ValueError(f"unknown directions {unknown}; known are {', '.join(DIRECTIONS)}.")
    if min(directions.values()) < 0 or not any(directions.values()):
        raise ValueError(f"directions must be frequencies, none negative and one positive, got {directions}.")
    return {name: float(directions.get(name, 0.0)) for name in DIRECTIONS}


def _pair(question) -> tuple[str, str]:
    if isinstance(question, Mapping):
        return question["question"], question["answer"]
    return tuple(question)
