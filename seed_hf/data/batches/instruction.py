"""Batches for the instruction stage: conversations of text and images, of which the answers are learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from seed_hf.data.sources.messages import pieces_of, read_messages
from seed_hf.data.sources.text import question_pairs
from seed_hf.modeling.prompts_seed import Mark

from .language_model import LanguageModelCollator
from .requests import asking, describing, drawing, read_requests, shipped_requests
from .row_values import captions_of
from .samples import Sample


_OF_A_MESSAGE = 40  # tokens that a format may add to a message, at most


class InstructionCollator(LanguageModelCollator):
    """Conversations to padded or packed sequences, in which the answers and the eos at the end are learned.

    A row is a mapping with `messages`: a list of messages with `role` ("user" and "assistant" in turn, maybe after a
    "system" text) and `content` (text, or parts of the types "text" and "image" as
    [`SeedProcessor.apply_chat_template`] takes them; images by their `codes`). An answer may have images: the model
    learns to draw them. With the format of SEED-LLaMA (`prompt_format="vicuna"`), and `[...]` for what is learned:

        bos "USER: " <img> codes </img> "question" "\\nASSISTANT:" ["answer"]
            "\\nUSER: " "question" "\\nASSISTANT:" ["answer" <img> codes </img> eos]

    Each question and each answer is encoded by itself, as in the authors' data. A conversation longer than
    `max_length` is cut at the end of a turn, with an eos there; `cut="tokens"` cuts after `max_length` tokens instead.

    All other rows of a [`LanguageModelCollator`] are taken too. Those with codes become conversations of one turn: a
    request for the image ("text_to_image"), a question what it shows ("image_to_text"), or one of its `questions`.
    How these are worded is drawn from `requests.json` in this folder, or from a file of your own; where a wording
    makes the conversation too long, the shortest is taken.

    Args:
        tokenizer, config: As for [`LanguageModelCollator`].
        requests (`str` or `Path`, *optional*): A JSON file with other wordings.
        settings: All others of [`LanguageModelCollator`] but the prompts, which conversations do not have.

    Raises:
        ValueError: As for [`LanguageModelCollator`]. Or a conversation is not as described, or its first turn alone
            is longer than `max_length`.
    """

    def __init__(self, tokenizer, config, *, requests: str | Path | None = None, **settings):
        if given := sorted({"caption_prompt", "image_prompt", "question_prompt"} & settings.keys()):
            raise ValueError(f"{given[0]} is not used: in a conversation the turn says what is asked.")
        super().__init__(tokenizer, config, **settings)
        self.requests = shipped_requests() if requests is None else read_requests(requests)
        tokens = lambda text: len(self.sequences.encode(text))  # noqa: E731
        shortest = min(
            self.requests["draw"], key=lambda wording: tokens(wording["request"]) + tokens(wording["answer"])
        )
        self.shortest = {"draw": [shortest], "describe": [min(self.requests["describe"], key=tokens)]}

    def sample(self, row: Mapping[str, Any]) -> Sample:
        if row.get("messages") is not None:
            return self._conversation(row, self.said(row))
        if row.get("document") is not None or row.get("codes") is None:
            return super().sample(row)
        direction, given = self._chosen(row)
        if direction == "question":
            return self._conversation(row, asking(given["question"], given["text"], given["codes"]))
        write = drawing if direction == "text_to_image" else describing
        span = self.sequences.ids([Mark.IMAGE], given["codes"])
        draw = self.generator(b"request", np.asarray(span).tobytes(), given["text"].encode())
        said = write(given["text"], given["codes"], draw, self.requests)
        if self.cut == "whole" and not self._fits(said, self._length(row)):
            said = write(given["text"], given["codes"], draw, self.shortest)
        return self._conversation(row, said)

    def said(self, row: Mapping[str, Any]) -> list[tuple[str, list[str | list[int]]]]:
        """Role and content, texts and codes, of each message of a row.

        Args:
            row: With `messages`, and maybe `images`.

        Raises:
            ValueError: It is no conversation, or an image has no codes, or wrong ones.
        """
        read = read_messages(row["messages"], row.get("images"))
        said = [
            (message["role"], pieces_of(message["content"], f"messages[{number}]"))
            for number, message in enumerate(read)
        ]
        for _, content in said:
            for piece in content:
                if not isinstance(piece, str):
                    self.codes_of(piece, images=1)
        return said

    def turns_that_fit(self, row: Mapping[str, Any]) -> tuple[int, int]:
        if row.get("messages") is not None:
            saids = [self.said(row)]
        elif row.get("document") is not None or row.get("codes") is None:
            return super().turns_that_fit(row)
        else:
            saids = self._shortest(row)
        length, found = self._length(row), [(1, 1)]
        for said in saids:
            turns = sum(role == "assistant" for role, _ in said)
            whole = self.cut == "tokens" or self._surely_fits(said, length)
            found.append((turns if whole else self._kept(self.sequences.turns(said), length), turns))
        return min(found[1:] or found)

    def _shortest(self, row: Mapping[str, Any]) -> list[list[tuple[str, list[Any]]]]:
        """The conversations that a row with codes can become, each in the shortest wording, which is taken if no other
        fits."""
        codes, saids = self.codes_of(row["codes"]), []
        frequent = {name for name, weight in self.directions.items() if weight > 0}
        wanted = {row["direction"]} if row.get("direction") else frequent
        for caption in captions_of(row):
            for direction, write in (("text_to_image", drawing), ("image_to_text", describing)):
                if direction in wanted:
                    saids.append(write(caption, codes, Random(0), self.shortest))
        if "question" in wanted:
            saids += [asking(*pair, codes) for pair in question_pairs(row.get("questions")) or []]
        return saids

    def _fits(self, said: Sequence[tuple[str, Sequence[str | list[int]]]], length: int) -> bool:
        if self._surely_fits(said, length):
            return True
        return sum(len(part) for turn in self.sequences.turns(said) for part in turn) < length

    def _surely_fits(self, said: Sequence[tuple[str, Sequence[str | list[int]]]], length: int) -> bool:
        """Whether a conversation fits even if every character were a token. Others are encoded to see."""
        pieces = [piece for _, content in said for piece in content]
        texts = [piece for piece in pieces if isinstance(piece, str)]
        each = _OF_A_MESSAGE + len(self.sequences.question_prompt)
        images = (len(pieces) - len(texts)) * (len(self.sequences.ids([Mark.IMAGE])) + 1)
        return all(map(str.isascii, texts)) and sum(map(len, texts)) + images + each * len(said) <= length

    def _conversation(self, row: Mapping[str, Any], said: Sequence[tuple[str, Sequence[str | list[int]]]]) -> Sample:
        turns, length = self.sequences.turns(said), self._length(row)
        sample = Sample()
        for given, answer in turns[: self._kept(turns, length)]:
            sample.add(given, self._of_given(row, "text"), self.is_code).add(answer, "answer", self.is_code)
        return self._begun(row, sample.add([self.sequences.eos], "answer")).cut(length)

    def _kept(self, turns: Sequence[tuple[list[int], list[int]]], length: int) -> int:
        used, first = 1, 0  # the eos
        for number, (given, answer) in enumerate(turns):
            used += len(given) + len(answer)
            first = first or used
            if used > length and self.cut == "whole":
                if not number:
                    raise ValueError(
                        f"The first turn alone has {first} tokens with its eos, but max_length is {length}. A "
                        "conversation is cut at the end of a turn: shorten this one, or raise max_length."
                    )
                return number
        return len(turns)
