"""Batches for the instruction stage: conversations of text and images, of which the answers are learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from seed_hf.data.sources.messages import pieces_of, read_messages
from seed_hf.modeling.prompts_seed import Mark

from .language_model import LanguageModelCollator
from .requests import asking, describing, drawing, read_requests, shipped_requests
from .samples import Sample


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
    How these are worded is drawn from `requests.json` in this folder, or from a file of your own.

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
        return self._conversation(row, write(given["text"], given["codes"], draw, self.requests))

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
        """How many turns of a conversation are kept, and how many it has.

        Args:
            row: With `messages`.

        Raises:
            ValueError: It is no conversation, or none of its turns fits into `max_length`.
        """
        turns = self.sequences.turns(self.said(row))
        return self._kept(turns, self._length(row)), len(turns)

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
