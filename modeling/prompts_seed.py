"""The formats of a sequence, each written once: the processor, the trainers and the evaluation read them here.

A format is a sequence of pieces: text, and marks for bos, an image and eos. Each text piece is encoded separately.
The default format and its prompts are those of the SEED paper (arXiv 2307.08041, section 2.2).
"""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from .chat_templates_seed import LLAMA2_CHAT, PLAIN_CHAT, SEED_CHAT, VICUNA_CHAT
from .plain_text_seed import HOW_TO_ADD_WORDS, check_text_ids, plain_text_encoder
from .visual_tokens_seed import BOI_TOKEN, EOI_TOKEN, IMAGE_TOKEN, code_token
from .visual_vocabulary_seed import VisualVocabulary


CAPTION_PROMPT = "a photo of"
IMAGE_PROMPT = "Generate an image"
QUESTION_PROMPT = "Question: {} Short answer."


class Mark(Enum):
    """A piece of a sequence that is not text."""

    BOS = "bos"  # left out where the text tokenizer has none
    IMAGE = "image"  # <img>, codes or placeholders, </img>
    BEGIN = "begin"  # <img> alone: the model goes on with an image
    EOS = "eos"


@dataclass(frozen=True)
class SequenceFormat:
    """What is given (`prompt`) and what is generated and learned (`answer`), as text templates and marks.

    In the templates, `{caption_prompt}` and `{image_prompt}` stand for these prompts, `{question}` for the question
    prompt with the question in it, `{text}` for the caption, answer or text.
    """

    prompt: tuple[str | Mark, ...]
    answer: tuple[str | Mark, ...]


@dataclass(frozen=True)
class TurnFormat:
    """How the turns of a conversation are written for training. Question and answer are encoded separately.

    Args:
        ask: What stands before and after the content of a question.
        later: What begins every turn but the first.
        system: What stands before and after the system text.
        questions: Whether texts are written as in the other sequences of the format: about an image as a question, an
            image alone as what asks for a caption, and every text but the first with a space before it.
    """

    ask: tuple[str, str] = ("", "")
    later: str = ""
    system: tuple[str, str] = ("", "")
    questions: bool = False


@dataclass(frozen=True)
class PromptFormat:
    """How the sequences of a language model are written.

    Args:
        caption, question, draw, text: What to write for each.
        chat: Jinja template of a chat, with `<image>` where an image stands and without bos.
        turns: How a conversation is written for training.
        caption_prompt, image_prompt, question_prompt: The default prompts; `{}` in the last stands for the question.
        strips: Whether a text loses its white space where it touches an image, as in the tokenizer that the authors
            used for SEED-LLaMA.
    """

    caption: SequenceFormat
    question: SequenceFormat
    draw: SequenceFormat
    chat: str
    turns: TurnFormat
    caption_prompt: str = CAPTION_PROMPT
    image_prompt: str = IMAGE_PROMPT
    question_prompt: str = QUESTION_PROMPT
    strips: bool = False
    text: SequenceFormat = SequenceFormat((Mark.BOS,), ("{text}", Mark.EOS))

    def sequence(self, name: str) -> SequenceFormat:
        """One of "caption", "question", "draw" and "text"."""
        if name not in SEQUENCES:
            raise ValueError(f"A sequence is one of {', '.join(SEQUENCES)}; got {name!r}.")
        return getattr(self, name)


SEQUENCES = ("caption", "question", "draw", "text")
_ANSWER, _DRAWN = ("{text}", Mark.EOS), (Mark.IMAGE, Mark.EOS)

# What is known of SEED-LLaMA's prompts: its published scripts and demo, and its pretraining data.
FORMATS = {
    # SEED-OPT, paper section 2.2
    "seed": PromptFormat(
        caption=SequenceFormat((Mark.BOS, Mark.IMAGE, " {caption_prompt}"), (" {text}", Mark.EOS)),
        question=SequenceFormat((Mark.BOS, Mark.IMAGE, " {question}"), (" {text}", Mark.EOS)),
        draw=SequenceFormat((Mark.BOS, "{image_prompt} {text}"), _DRAWN),
        chat=SEED_CHAT,
        turns=TurnFormat(questions=True),
    ),
    # SEED-LLaMA 8B after instruction tuning
    "vicuna": PromptFormat(
        caption=SequenceFormat((Mark.BOS, "USER: ", Mark.IMAGE, "{caption_prompt}\nASSISTANT:"), _ANSWER),
        question=SequenceFormat((Mark.BOS, "USER: ", Mark.IMAGE, "{question}\nASSISTANT:"), _ANSWER),
        draw=SequenceFormat((Mark.BOS, "USER: {image_prompt} {text}\nASSISTANT:"), _DRAWN),
        chat=VICUNA_CHAT,
        turns=TurnFormat(("USER: ", "\nASSISTANT:"), later="\n", system=("", "\n")),
        caption_prompt="Please describe this image in one sentence.",
        image_prompt="Can you generate an image of",
        question_prompt="{}",
        strips=True,
    ),
    # SEED-LLaMA 14B after instruction tuning
    "llama2": PromptFormat(
        caption=SequenceFormat((Mark.BOS, "[INST] ", Mark.IMAGE, "{caption_prompt} [/INST]\n"), _ANSWER),
        question=SequenceFormat((Mark.BOS, "[INST] ", Mark.IMAGE, "{question} [/INST]\n"), _ANSWER),
        draw=SequenceFormat((Mark.BOS, "[INST] {image_prompt} {text} [/INST]\n"), _DRAWN),
        chat=LLAMA2_CHAT,
        turns=TurnFormat(("[INST] ", " [/INST]\n"), later="\n", system=("<<SYS>>\n", "\n<</SYS>>\n\n")),
        caption_prompt="Please describe this image in one sentence.",
        image_prompt="Can you generate an image of",
        question_prompt="{}",
        strips=True,
    ),
    # Both before instruction tuning: captions without a prompt
    "plain": PromptFormat(
        caption=SequenceFormat((Mark.BOS, Mark.IMAGE, "{caption_prompt}"), _ANSWER),
        question=SequenceFormat((Mark.BOS, Mark.IMAGE, "{question}"), _ANSWER),
        draw=SequenceFormat((Mark.BOS, "{image_prompt}{text}"), _DRAWN),
        chat=PLAIN_CHAT,
        turns=TurnFormat(),
        caption_prompt="",
        image_prompt="",
        question_prompt="Question: {}\nAnswer:",
        strips=True,
    ),
}


def find_format(name: str) -> PromptFormat:
    """A format by its name.

    Args:
        name: One of `FORMATS`.

    Raises:
        ValueError: There is no such format.
    """
    if not isinstance(name, str) or name not in FORMATS:
        raise ValueError(f"prompt_format must be one of {', '.join(FORMATS)}; got {name!r}.")
    return FORMATS[name]


def check_question_prompt(question_prompt: str) -> None:
    """Raises `ValueError` if the prompt has no `{}` for the question."""
    if not isinstance(question_prompt, str) or "{}" not in question_prompt:
        raise ValueError(f"question_prompt needs {{}} where the question goes, got {question_prompt!r}.")


class SequenceEncoder:
    r"""Pieces of a sequence to ids. Text stays text: it is encoded without added and special tokens.

    Args:
        tokenizer (`PreTrainedTokenizerBase`): The text tokenizer.
        vocabulary ([`VisualVocabulary`] or a configuration): Where the visual tokens lie. The configuration of a plain
            language model has none; its sequences cannot have images.
        prompt_format (`str`, *optional*): One of `FORMATS`. Default: that of the configuration, else "seed".
        caption_prompt, image_prompt, question_prompt (`str`, *optional*): Those of the format by default.

    Raises:
        ValueError: An unknown format, or `question_prompt` without `{}`; a tokenizer whose text can become visual
            tokens, or that has words for which the language model has no rows.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        vocabulary,
        *,
        prompt_format: str | None = None,
        caption_prompt: str | None = None,
        image_prompt: str | None = None,
        question_prompt: str | None = None,
    ):
        own = getattr(vocabulary, "prompt_format", "seed")
        self.prompt_format = own if prompt_format is None else prompt_format
        self.question_prompt = self.format.question_prompt if question_prompt is None else question_prompt
        check_question_prompt(self.question_prompt)
        self.vocabulary = VisualVocabulary.of(vocabulary) if hasattr(vocabulary, "visual_token_offset") else None
        self.encode = plain_text_encoder(tokenizer)
        if self.vocabulary is not None:
            check_text_ids(tokenizer, self.encode.vocabulary(), self.vocabulary)
        self.tokenizer, self._entries = tokenizer, len(tokenizer)
        self.bos, self.eos = tokenizer.bos_token_id, tokenizer.eos_token_id
        self.prompts = {
            "caption_prompt": self.format.caption_prompt if caption_prompt is None else caption_prompt,
            "image_prompt": self.format.image_prompt if image_prompt is None else image_prompt,
        }

    @property
    def format(self) -> PromptFormat:
        """The format itself, looked up in every call: a library that loads this file twice has its marks twice."""
        return find_format(self.prompt_format)

    def prompt(self, name: str, *, codes: Iterable | None = None, text: str = "", question: str = "") -> list[int]:
        """Ids of the given part of a sequence; images are placeholders unless `codes` are given."""
        sequence = self.format.sequence(name)
        if self.format.strips and sequence.answer[0] is Mark.IMAGE and str(sequence.prompt[-1]).endswith("{text}"):
            text = text.rstrip()  # it touches the image
        return self.ids(self._filled(sequence.prompt, text, question), codes)

    def answer(self, name: str, *, codes: Iterable | None = None, text: str = "") -> list[int]:
        """Ids of the learned part of a sequence."""
        sequence = self.format.sequence(name)
        given = [piece for piece in self._filled(sequence.prompt, "", "") if piece]
        if self.format.strips and given[-1] is Mark.IMAGE and sequence.answer[0] == "{text}":
            text = text.lstrip()  # it touches the image
        return self.ids(self._filled(sequence.answer, text, ""), codes)

    def turns(self, messages: Iterable[tuple[str, Sequence[str | list[int]]]]) -> list[tuple[list[int], list[int]]]:
        """Ids of what is given and of what is learned in each turn of a conversation; without the eos at its end.

        Args:
            messages: Role ("system", "user" or "assistant") and content of each: texts, and lists of codes. They are
                a question and an answer a turn; a system text may stand before the first.
        """
        turns: list[tuple[list[int], list[int]]] = []
        given: list = [Mark.BOS]
        seen, begun = False, False  # whether there is an image so far, and anything at all
        for role, content in messages:
            seen = seen or any(not isinstance(part, str) for part in content)
            said = self._said(role, content, seen, begun, later=bool(turns))
            begun = True
            if role == "assistant":
                turns.append((self.ids(joined_texts(given)), self.ids(said)))
                given = []
            else:
                given += said
        return turns

    def _said(self, role: str, content: Sequence, seen: bool, begun: bool, later: bool) -> list:
        """The pieces of a message."""
        turns = self.format.turns
        if turns.questions:
            return self._said_plainly(role, content, seen, begun)
        if role == "system":
            pieces = [turns.system[0], *content, turns.system[1]]
        elif role == "user":
            pieces = [turns.later * later + turns.ask[0], *content, turns.ask[1]]
        else:
            pieces = list(content)
        return joined_texts(pieces)

    def _said_plainly(self, role: str, content: Sequence, seen: bool, begun: bool) -> list:
        """As the chat template of SEED-OPT writes a message."""
        if role == "assistant":
            return [f" {piece}" if isinstance(piece, str) else piece for piece in content]
        images = [piece for piece in content if not isinstance(piece, str)]
        text = " ".join(piece for piece in content if isinstance(piece, str))
        if not text:
            words = self._filled(self.format.caption.prompt[-1:], "", "")
        elif seen:
            words = self._filled(self.format.question.prompt[-1:], "", text)
        else:
            words = [f" {text}" if begun else text]
        return [*images, *words]

    def ids(self, pieces: Sequence[str | Mark | list[int] | int], codes: Iterable | None = None) -> list[int]:
        """Ids of texts, marks and images in order.

        Args:
            pieces: Texts, each encoded by itself; marks; lists of codes, each of them an image; and single ids.
            codes: Of every `Mark.IMAGE`; placeholders by default. Lists of codes are images that follow each other.
        """
        if (entries := len(self.tokenizer)) != self._entries:
            raise ValueError(f"The text tokenizer had {self._entries} entries and has {entries}. {HOW_TO_ADD_WORDS}")
        codes = None if codes is None else list(codes)
        images: list[Any] = codes if codes and hasattr(codes[0], "__len__") else [codes]
        ids: list[int] = []
        for number, piece in enumerate(pieces):
            if piece is Mark.BOS:
                ids += [] if self.bos is None else [self.bos]
            elif piece is Mark.EOS:
                ids.append(self.eos)
            elif isinstance(piece, int):
                ids.append(piece)
            elif not isinstance(piece, str):
                if self.vocabulary is None:
                    raise ValueError("A plain language model has no visual tokens: its sequences cannot have images.")
                if piece is Mark.BEGIN:
                    ids.append(self.vocabulary.boi_token_id)
                else:
                    for image in images if piece is Mark.IMAGE else [piece]:
                        ids += self.vocabulary.span(image)
            else:
                piece = piece[slice(*self._encoded(pieces, number))]
                ids += self.encode(piece) if piece else []
        return ids

    def offsets(self, pieces: Sequence[str | Mark | list[int]]) -> list[tuple[int, int]]:
        """For each of the `ids`, its first character and the one behind its last, in the text that the pieces spell.

        There an image is its `names` in a row; bos and other marks have no characters.

        Args:
            pieces: As of `ids`.
        """
        found, place = [], 0
        for number, piece in enumerate(pieces):
            if isinstance(piece, str):
                start, end = self._encoded(pieces, number)
                found += [(place + start + a, place + start + b) for a, b in self.encode.offsets(piece[start:end])]
                place += len(piece)
            elif piece is Mark.IMAGE or not isinstance(piece, Mark):
                for name in self.names(None if piece is Mark.IMAGE else piece):
                    found.append((place, place + len(name)))
                    place += len(name)
            else:
                found += [(0, 0)] * len(self.ids([piece]))
        return found

    def names(self, codes: Iterable[int] | None = None) -> list[str]:
        """The names of the tokens of an image.

        Args:
            codes: Of the image; placeholders by default.
        """
        assert self.vocabulary is not None  # `ids` refuses images without
        inner = [IMAGE_TOKEN] * self.vocabulary.num_query_tokens if codes is None else map(code_token, codes)
        return [BOI_TOKEN, *inner, EOI_TOKEN]

    def _encoded(self, pieces: Sequence, number: int) -> tuple[int, int]:
        """Where the part of a text piece that is encoded begins and ends."""
        piece, start, end = pieces[number], 0, len(pieces[number])
        if self.format.strips:
            start = end - len(piece.lstrip()) if _is_image(pieces, number - 1) else 0
            end = max(start, len(piece.rstrip())) if _is_image(pieces, number + 1) else end
        return start, end

    def _filled(self, pieces: tuple[str | Mark, ...], text: str, question: str) -> list[str | Mark]:
        values = {**self.prompts, "text": text, "question": self.question_prompt.replace("{}", question, 1)}
        return [piece if isinstance(piece, Mark) else piece.format(**values) for piece in pieces]


def joined_texts(pieces: Iterable) -> list:
    """Pieces of a sequence with texts that follow each other as one, which is encoded as a whole.

    Args:
        pieces: As for [`SequenceEncoder.ids`].
    """
    joined: list = []
    for piece in pieces:
        if joined and isinstance(piece, str) and isinstance(joined[-1], str):
            joined[-1] += piece
        else:
            joined.append(piece)
    return joined


def _is_image(pieces: Sequence, number: int) -> bool:
    piece = pieces[number] if 0 <= number < len(pieces) else None
    return piece in (Mark.IMAGE, Mark.BEGIN) or isinstance(piece, list)


def written_chat_template(
    caption_prompt: str | None = None, question_prompt: str | None = None, prompt_format: str = "seed"
) -> str:
    """The Jinja template that writes a chat in a format.

    Args:
        caption_prompt, question_prompt: The prompts to write into it; those of the format by default.
        prompt_format: One of `FORMATS`.

    Raises:
        ValueError: An unknown format, or `question_prompt` without `{}`.
    """
    chosen = find_format(prompt_format)
    caption_prompt = chosen.caption_prompt if caption_prompt is None else caption_prompt
    question_prompt = chosen.question_prompt if question_prompt is None else question_prompt
    check_question_prompt(question_prompt)
    if chosen.strips:  # in a chat of SEED-LLaMA the turn says what is asked
        return chosen.chat
    caption = str(chosen.caption.prompt[-1]).format(caption_prompt=caption_prompt)
    before, after = str(chosen.question.prompt[-1]).format(question=question_prompt).split("{}", 1)
    texts = {"QUESTION_BEFORE": before, "QUESTION_AFTER": after, "CAPTION": caption}
    quoted = {name: json.dumps(text, ensure_ascii=False)[1:-1] for name, text in texts.items()}
    return re.sub("|".join(texts), lambda found: quoted[found[0]], chosen.chat)


__all__ = [
    "CAPTION_PROMPT",
    "FORMATS",
    "IMAGE_PROMPT",
    "Mark",
    "PromptFormat",
    "QUESTION_PROMPT",
    "SequenceEncoder",
    "SequenceFormat",
    "TurnFormat",
    "written_chat_template",
    "check_question_prompt",
    "find_format",
    "joined_texts",
    "plain_text_encoder",
]
