"""Where the visual tokens lie in a language model's vocabulary.

Every id that is not visual is text. The order of codes and marks is data: SEED-OPT has `<img>`, `</img>`, then the
codes; SEED-LLaMA has the codes first and no row for the placeholder.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True)
class VisualVocabulary:
    r"""The ids of the visual tokens, checked. Configurations store these fields under the same names.

    Args:
        boi_token_id (`int`): `<img>`, begins an image span.
        eoi_token_id (`int`): `</img>`, ends it.
        visual_token_offset (`int`): The id of code 0. The codes have consecutive ids.
        codebook_size (`int`): Number of visual codes.
        num_query_tokens (`int`): Codes in an image span.
        image_token_id (`int`): The `<image>` placeholder, one for each code that is yet to be filled in. It stands in
            prompts only. It may lie beyond the rows of the language model: the model never sees it.
        text_vocab_size (`int`, *optional*): Text ids are below this number. Default: `vocab_size`.
        vocab_size (`int`, *optional*): Rows of the language model, or entries of the text tokenizer.

    Raises:
        ValueError: An id is negative or has two meanings, a visual token lies beyond `vocab_size`, or neither
            `text_vocab_size` nor `vocab_size` is given.
    """

    boi_token_id: int
    eoi_token_id: int
    visual_token_offset: int
    codebook_size: int
    num_query_tokens: int
    image_token_id: int
    text_vocab_size: int | None = None
    vocab_size: int | None = None

    def __post_init__(self):
        for name in ("codebook_size", "num_query_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if self.text_vocab_size is None and self.vocab_size is None:
            raise ValueError("Give text_vocab_size or vocab_size: without both, no id is known to be text.")
        codes = range(self.visual_token_offset, self.visual_token_offset + self.codebook_size)
        marks = {name: getattr(self, name) for name in ("boi_token_id", "eoi_token_id", "image_token_id")}
        for name, value in {**marks, "visual_token_offset": self.visual_token_offset}.items():
            if value < 0:
                raise ValueError(f"{name} must not be negative, got {value}.")
        for name, value in marks.items():
            if value in codes:
                raise ValueError(f"{name}={value} is also a visual token: these are {codes[0]} .. {codes[-1]}.")
        if len(set(marks.values())) < len(marks):
            raise ValueError(f"<img>, </img> and the placeholder must have three different ids, got {marks}.")
        needed = max(self.boi_token_id, self.eoi_token_id, codes[-1]) + 1
        if self.vocab_size is not None and self.vocab_size < needed:
            raise ValueError(f"vocab_size={self.vocab_size} has no room for the visual tokens, which need {needed}.")

    @classmethod
    def of(cls, config) -> "VisualVocabulary":
        """The layout that a configuration stores; a `VisualVocabulary` itself is returned as it is."""
        if isinstance(config, cls):
            return config
        return cls(**{field.name: getattr(config, field.name) for field in fields(cls)})

    # The next two take an integer and return a bool, or a tensor and return a tensor of bools.

    def is_code(self, ids: Any) -> Any:
        """Whether ids are visual tokens, the codes of an image."""
        return (ids >= self.visual_token_offset) & (ids < self.visual_token_offset + self.codebook_size)

    def is_text(self, ids: Any) -> Any:
        """Whether ids are text, special tokens such as eos included."""
        end = self.vocab_size if self.text_vocab_size is None else self.text_vocab_size
        offset = self.visual_token_offset
        text = (ids >= 0) & (ids < end) & ((ids < offset) | (ids >= offset + self.codebook_size))
        return text & (ids != self.boi_token_id) & (ids != self.eoi_token_id) & (ids != self.image_token_id)

    def span(self, codes: Iterable[int] | None = None) -> list[int]:
        """Ids of an image span of these codes; without codes, of placeholders."""
        if codes is None:
            inner = [self.image_token_id] * self.num_query_tokens
        else:
            inner = [self.visual_token_offset + int(code) for code in codes]
        return [self.boi_token_id, *inner, self.eoi_token_id]

    def rows(self) -> list[int]:
        """The rows of the language model that belong to visual tokens: both marks and all codes, ascending."""
        codes = range(self.visual_token_offset, self.visual_token_offset + self.codebook_size)
        return sorted([self.boi_token_id, self.eoi_token_id, *codes])

    def differences(self, other) -> list[str]:
        """The names of the ids and sizes in which another layout, or the layout of a configuration, differs."""
        names = [field.name for field in fields(self) if field.name not in ("text_vocab_size", "vocab_size")]
        return [name for name in names if getattr(self, name) != getattr(other, name)]


@contextmanager
def placeholder_hidden(config) -> Iterator[None]:
    """In this block, a configuration has no placeholder: transformers would warn of one beyond the rows."""
    placeholder, config.image_token_id = config.image_token_id, None
    try:
        yield
    finally:
        config.image_token_id = placeholder


def visual_vocabulary(text_vocab_size: int, codebook_size: int) -> dict[str, int]:
    """The default layout: the ids that follow V text tokens when K codes are added to a language model.

    Returns:
        `boi_token_id` (V), `eoi_token_id` (V+1), `visual_token_offset` (V+2), `image_token_id` (V+2+K) and
        `vocab_size`, the number of rows that holds them all, a multiple of 64.
    """
    image_token_id = text_vocab_size + 2 + codebook_size
    return {
        "boi_token_id": text_vocab_size,
        "eoi_token_id": text_vocab_size + 1,
        "visual_token_offset": text_vocab_size + 2,
        "image_token_id": image_token_id,
        "vocab_size": -(-(image_token_id + 1) // 64) * 64,
    }


def check_rows(config: Any, rows: int | None) -> None:
    """Raises `ValueError` if a matrix of so many rows has none for some visual token.

    Args:
        config: Of a language model.
        rows: `None` if the matrix stays as it is.
    """
    needed = max(config.text_vocab_size, *(row + 1 for row in VisualVocabulary.of(config).rows()))
    if config.image_token_id < config.vocab_size:
        needed = max(needed, config.image_token_id + 1)
    if rows is not None and rows < needed:
        raise ValueError(
            f"{rows} rows are too few: {config.text_vocab_size} text tokens and {config.codebook_size} codes with "
            f"their marks need {needed}. to_plain() gives a model whose rows may be cut."
        )


def fill_layout(config: Any) -> None:
    """Sets the ids of the visual tokens, and `vocab_size`, that a configuration leaves open, and checks all of them.

    Args:
        config: Of a language model.

    Raises:
        ValueError: Some ids are given and not those of the default layout, an id has two meanings, or `vocab_size` has
            no room for the visual tokens.
    """
    default = visual_vocabulary(config.text_vocab_size, config.codebook_size)
    padded = default.pop("vocab_size")
    given = {name: getattr(config, name) for name in default}
    # All but one as in the table: the file was edited, the codebook's size for instance. It is no other layout.
    edited = sum(given[name] == default[name] for name in default) == len(default) - 1
    if None in given.values() or edited:
        for name, value in default.items():
            if given[name] is not None and given[name] != value:
                raise ValueError(
                    f"{name} must be {value} with text_vocab_size={config.text_vocab_size} and "
                    f"codebook_size={config.codebook_size}, got {given[name]}. Leave it out: it is derived from "
                    f"these two. A layout of another order gives all of {', '.join(default)}."
                )
            setattr(config, name, value)
        needed = default["image_token_id"] + 1
    else:
        ends = {**given, "visual_token_offset": given["visual_token_offset"] + config.codebook_size - 1}
        del ends["image_token_id"]  # it may lie beyond the rows
        padded = needed = max(config.text_vocab_size, *(last + 1 for last in ends.values()))
    if config.vocab_size is not None and config.vocab_size < needed:
        raise ValueError(
            f"vocab_size={config.vocab_size} is too small: {config.text_vocab_size} text tokens and "
            f"{config.codebook_size} codes with their marks need {needed}. Leave it out to have {padded}."
        )
    config.vocab_size = padded if config.vocab_size is None else config.vocab_size
    VisualVocabulary.of(config)  # checks the layout


__all__ = ["VisualVocabulary", "check_rows", "fill_layout", "placeholder_hidden", "visual_vocabulary"]
