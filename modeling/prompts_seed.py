"""The formats of a sequence, each written once: the processor, the trainers and the evaluation read them here.

A format is a sequence of pieces: text, and marks for bos, an image and eos. Each text piece is encoded separately.
The default prompts are those of the SEED paper (arXiv 2307.08041, section 2.2).
"""

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum

from tokenizers import Tokenizer
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from .visual_vocabulary_seed import VisualVocabulary


CAPTION_PROMPT = "a photo of"
IMAGE_PROMPT = "Generate an image"
QUESTION_PROMPT = "Question: {} Short answer."


class Mark(Enum):
    """A piece of a sequence that is not text."""

    BOS = "bos"  # left out where the text tokenizer has none
    IMAGE = "image"  # <img>, codes or placeholders, </img>
    EOS = "eos"


@dataclass(frozen=True)
class SequenceFormat:
    """What is given (`prompt`) and what is generated and learned (`answer`), as text templates and marks.

    In the templates, `{caption_prompt}` and `{image_prompt}` stand for these prompts, `{question}` for the question
    prompt with the question in it, `{text}` for the caption, answer or text.
    """

    prompt: tuple[str | Mark, ...]
    answer: tuple[str | Mark, ...]


FORMATS = {
    "caption": SequenceFormat((Mark.BOS, Mark.IMAGE, " {caption_prompt}"), (" {text}", Mark.EOS)),
    "question": SequenceFormat((Mark.BOS, Mark.IMAGE, " {question}"), (" {text}", Mark.EOS)),
    "draw": SequenceFormat((Mark.BOS, "{image_prompt} {text}"), (Mark.IMAGE, Mark.EOS)),
    "text": SequenceFormat((Mark.BOS,), ("{text}", Mark.EOS)),
}


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
        caption_prompt, image_prompt, question_prompt (`str`, *optional*): The paper's prompts by default.

    Raises:
        ValueError: `question_prompt` without `{}`.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        vocabulary,
        *,
        caption_prompt: str = CAPTION_PROMPT,
        image_prompt: str = IMAGE_PROMPT,
        question_prompt: str = QUESTION_PROMPT,
    ):
        check_question_prompt(question_prompt)
        self.vocabulary = VisualVocabulary.of(vocabulary) if hasattr(vocabulary, "visual_token_offset") else None
        self.encode = plain_text_encoder(tokenizer)
        self.bos, self.eos = tokenizer.bos_token_id, tokenizer.eos_token_id
        self.prompts = {"caption_prompt": caption_prompt, "image_prompt": image_prompt}
        self.question_prompt = question_prompt

    def prompt(
        self, name: str, *, codes: Iterable[int] | None = None, text: str = "", question: str = ""
    ) -> list[int]:
        """Ids of the given part of a format; images are placeholders unless `codes` are given."""
        return self.ids(self._filled(FORMATS[name].prompt, text, question), codes)

    def answer(self, name: str, *, codes: Iterable[int] | None = None, text: str = "") -> list[int]:
        """Ids of the learned part of a format."""
        return self.ids(self._filled(FORMATS[name].answer, text, ""), codes)

    def ids(self, pieces: Iterable[str | Mark], codes: Iterable[int] | None = None) -> list[int]:
        """Ids of texts and marks in order; every image has these codes, or placeholders."""
        ids = []
        for piece in pieces:
            if piece is Mark.BOS:
                ids += [] if self.bos is None else [self.bos]
            elif piece is Mark.EOS:
                ids.append(self.eos)
            elif piece is Mark.IMAGE:
                if self.vocabulary is None:
                    raise ValueError("A plain language model has no visual tokens: its sequences cannot have images.")
                ids += self.vocabulary.span(codes)
            else:
                ids += self.encode(piece)
        return ids

    def _filled(self, pieces: tuple[str | Mark, ...], text: str, question: str):
        values = {**self.prompts, "text": text, "question": self.question_prompt.replace("{}", question, 1)}
        return [piece if isinstance(piece, Mark) else piece.format(**values) for piece in pieces]


# An image followed by text is a question; an image alone asks for a caption. See SeedProcessor.
_CHAT_TEMPLATE = """\
{%- set state = namespace(image=false, asked=true, start=true) -%}
{%- for message in messages -%}
{%- set parts = message["content"] -%}
{%- if parts is string -%}
{%- set parts = [{"type": "text", "text": parts}] -%}
{%- endif -%}
{%- for part in parts -%}
{%- if part["type"] == "image" -%}
<image>
{%- set state.image = true -%}
{%- set state.asked = false -%}
{%- elif part["type"] == "text" -%}
{%- if state.image and message["role"] != "assistant" -%}
{{- "QUESTION_BEFORE" ~ part["text"] ~ "QUESTION_AFTER" -}}
{%- else -%}
{{- part["text"] if state.start else " " ~ part["text"] -}}
{%- endif -%}
{%- set state.asked = true -%}
{%- endif -%}
{%- set state.start = false -%}
{%- endfor -%}
{%- endfor -%}
{%- if add_generation_prompt and not state.asked -%}
{{- "CAPTION" -}}
{%- endif -%}
"""


def written_chat_template(caption_prompt: str = CAPTION_PROMPT, question_prompt: str = QUESTION_PROMPT) -> str:
    """The Jinja template that writes a chat in the formats above.

    Args:
        caption_prompt, question_prompt: The prompts to write into it.

    Raises:
        ValueError: `question_prompt` without `{}`.
    """
    check_question_prompt(question_prompt)
    caption = str(FORMATS["caption"].prompt[-1]).format(caption_prompt=caption_prompt)
    before, after = str(FORMATS["question"].prompt[-1]).format(question=question_prompt).split("{}", 1)
    texts = {"QUESTION_BEFORE": before, "QUESTION_AFTER": after, "CAPTION": caption}
    return re.sub("|".join(texts), lambda found: json.dumps(texts[found[0]])[1:-1], _CHAT_TEMPLATE)


def plain_text_encoder(tokenizer: PreTrainedTokenizerBase) -> Callable[[str], list[int]]:
    """A function from text to ids without added and special tokens: text that spells one of them stays text."""
    settings = json.loads(tokenizer.backend_tokenizer.to_str())
    settings.update(added_tokens=[], post_processor=None, truncation=None, padding=None)
    return _PlainEncoder(Tokenizer.from_str(json.dumps(settings)))


class _PlainEncoder:
    """A callable that can be copied and pickled along with the processor."""

    def __init__(self, backend: Tokenizer):
        self.backend = backend

    def __call__(self, text: str) -> list[int]:
        return self.backend.encode(text, add_special_tokens=False).ids


__all__ = [
    "CAPTION_PROMPT",
    "FORMATS",
    "IMAGE_PROMPT",
    "Mark",
    "QUESTION_PROMPT",
    "SequenceEncoder",
    "SequenceFormat",
    "written_chat_template",
    "check_question_prompt",
    "plain_text_encoder",
]
