"""The formats of a sequence, each written once: the processor, the trainers and the evaluation read them here.

A format is a sequence of pieces: text, and marks for bos, an image and eos. Each text piece is encoded separately.
The default format and its prompts are those of the SEED paper (arXiv 2307.08041, section 2.2).
"""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from .chat_templates_seed import LLAMA2_CHAT, PLAIN_CHAT, SEED_CHAT, VICUNA_CHAT
from .plain_text_seed import HOW_TO_ADD_WORDS, check_text_ids, plain_text_encoder
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
class PromptFormat:
    """How the sequences of a language model are written.

    Args:
        caption, question, draw, text: What to write for each.
        chat: Jinja template of a chat, with `<image>` where an image stands and without bos.
        caption_prompt, image_prompt, question_prompt: The default prompts; `{}` in the last stands for the question.
        strips: Whether a text loses its white space where it touches an image, as in the tokenizer that the authors
            used for SEED-LLaMA.
    """

    caption: SequenceFormat
    question: SequenceFormat
    draw: SequenceFormat
    chat: str
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
    ),
    # SEED-LLaMA 8B after instruction tuning
    "vicuna": PromptFormat(
        caption=SequenceFormat((Mark.BOS, "USER: ", Mark.IMAGE, "{caption_prompt}\nASSISTANT:"), _ANSWER),
        question=SequenceFormat((Mark.BOS, "USER: ", Mark.IMAGE, "{question}\nASSISTANT:"), _ANSWER),
        draw=SequenceFormat((Mark.BOS, "USER: {image_prompt} {text}\nASSISTANT:"), _DRAWN),
        chat=VICUNA_CHAT,
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

    def prompt(
        self, name: str, *, codes: Iterable[int] | None = None, text: str = "", question: str = ""
    ) -> list[int]:
        """Ids of the given part of a sequence; images are placeholders unless `codes` are given."""
        return self.ids(self._filled(self.format.sequence(name).prompt, text, question), codes)

    def answer(self, name: str, *, codes: Iterable[int] | None = None, text: str = "") -> list[int]:
        """Ids of the learned part of a sequence."""
        return self.ids(self._filled(self.format.sequence(name).answer, text, ""), codes)

    def ids(self, pieces: Sequence[str | Mark | list[int]], codes: Iterable[int] | None = None) -> list[int]:
        """Ids of texts, marks and images in order.

        Args:
            pieces: Texts, each encoded by itself; marks; and lists of codes, each of them an image.
            codes: Of every `Mark.IMAGE`; placeholders by default.
        """
        if (entries := len(self.tokenizer)) != self._entries:
            raise ValueError(f"The text tokenizer had {self._entries} entries and has {entries}. {HOW_TO_ADD_WORDS}")
        codes = None if codes is None else list(codes)
        ids = []
        for number, piece in enumerate(pieces):
            if piece is Mark.BOS:
                ids += [] if self.bos is None else [self.bos]
            elif piece is Mark.EOS:
                ids.append(self.eos)
            elif not isinstance(piece, str):
                if self.vocabulary is None:
                    raise ValueError("A plain language model has no visual tokens: its sequences cannot have images.")
                if piece is Mark.BEGIN:
                    ids.append(self.vocabulary.boi_token_id)
                else:
                    ids += self.vocabulary.span(codes if piece is Mark.IMAGE else piece)
            else:
                if self.format.strips:
                    piece = piece.lstrip() if _is_image(pieces, number - 1) else piece
                    piece = piece.rstrip() if _is_image(pieces, number + 1) else piece
                ids += self.encode(piece) if piece else []
        return ids

    def _filled(self, pieces: tuple[str | Mark, ...], text: str, question: str) -> list[str | Mark]:
        values = {**self.prompts, "text": text, "question": self.question_prompt.replace("{}", question, 1)}
        return [piece if isinstance(piece, Mark) else piece.format(**values) for piece in pieces]


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
    return re.sub("|".join(texts), lambda found: json.dumps(texts[found[0]])[1:-1], chosen.chat)


__all__ = [
    "CAPTION_PROMPT",
    "FORMATS",
    "IMAGE_PROMPT",
    "Mark",
    "PromptFormat",
    "QUESTION_PROMPT",
    "SequenceEncoder",
    "SequenceFormat",
    "written_chat_template",
    "check_question_prompt",
    "find_format",
    "plain_text_encoder",
]
