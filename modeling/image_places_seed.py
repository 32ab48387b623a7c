"""Where images belong in texts: the pieces around them, and their numbers."""

import re
from collections.abc import Iterator
from numbers import Integral

from .prompts_seed import Mark
from .visual_tokens_seed import IMAGE_TOKEN
from .visual_vocabulary_seed import VisualVocabulary


# The characters that transformers puts around a token which a user typed into a chat: `mark_control_tokens`.
_TYPED = re.compile("\U000f0000(.*?)\U000f0001", re.DOTALL)


def split_at_images(text: str, has_typed_tokens: bool = False) -> list[str]:
    """The pieces of a text around each `<image>`.

    Args:
        text: Of one row.
        has_typed_tokens: Whether transformers has marked the tokens that a user typed. These stay text.
    """
    if not has_typed_tokens:
        return text.split(IMAGE_TOKEN)
    pieces, last = [""], 0
    for typed in [*_TYPED.finditer(text), None]:
        first, *others = text[last : typed.start() if typed else len(text)].split(IMAGE_TOKEN)
        pieces = [*pieces[:-1], pieces[-1] + first, *others]
        if typed:
            pieces[-1] += typed[1]
            last = typed.end()
    return pieces


def check_numbers(counts: list[int], images, flat: list, codes) -> None:
    """Raises `ValueError` unless every `<image>` of the texts has an image or codes.

    Args:
        counts: How many `<image>` each text has.
        images: As they were given, maybe a row for each text.
        flat: The same in one list.
        codes: Of the images, instead of them; or a list that has `None` for each of `flat`.
    """
    if isinstance(codes, (list, tuple)):
        number, missing = len(codes), sum(each is None for each in codes)
        if missing != len(flat):
            raise ValueError(f"codes has None for {missing} images, but {len(flat)} images were given.")
    else:
        number = len(flat) if codes is None else len(codes)
    if sum(counts) != number:
        raise ValueError(
            f"The number of {IMAGE_TOKEN} tokens in the prompts should be the same as the number of images: "
            f"the text has {IMAGE_TOKEN} {sum(counts)} times, but {number} images were given. "
            f"Write {IMAGE_TOKEN} once where each image belongs."
        )
    nested = isinstance(images, (list, tuple)) and images and all(isinstance(row, (list, tuple)) for row in images)
    if nested and codes is None and [len(row) for row in images] != counts:
        raise ValueError(
            f"The texts have {counts} times {IMAGE_TOKEN}, but the rows of images {[len(row) for row in images]}. "
            "Give one row of images for each text, and in it one image for each place."
        )


def with_images(text: list[str], spans: Iterator, vocabulary: VisualVocabulary) -> list[str | Mark | list[int]]:
    """The pieces of a text with an image between each two.

    Args:
        text: Its pieces.
        spans: Has the codes of the next image, or `None` for placeholders.
        vocabulary: Says how many codes there are, and how many an image has.

    Raises:
        ValueError: Codes of another number, type or range.
    """
    first, *others = text
    pieces: list[str | Mark | list[int]] = [first]
    for piece in others:
        codes = next(spans)
        pieces += [Mark.IMAGE if codes is None else _checked(codes, vocabulary), piece]
    return pieces


def _checked(codes, vocabulary: VisualVocabulary) -> list[int]:
    values = codes.tolist() if hasattr(codes, "tolist") else list(codes)
    size, count = vocabulary.codebook_size, vocabulary.num_query_tokens
    whole = all(isinstance(code, Integral) and not isinstance(code, bool) for code in values)
    if len(values) != count or not whole or not all(0 <= code < size for code in values):
        raise ValueError(f"The codes of an image are {count} integers in 0..{size - 1}, got {values!r:.80}.")
    return list(map(int, values))


__all__ = ["check_numbers", "split_at_images", "with_images"]
