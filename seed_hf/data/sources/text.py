"""Text as it is stored: the one place where stored values become captions and ids.

Text is UTF-8, maybe with a byte order mark. What is no text is a [`BadText`], which says why. Readers put one in the
place of a value that they cannot decode, so that one bad value is one bad row and not the end of a file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from numbers import Integral
from typing import Any


# Control characters, line separators and halves of characters.
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class BadText(ValueError):
    """A stored value that is not the text that it should be; the message says why, in one line."""


def read_text(data: bytes, name: str) -> Any:
    """The text of a file's content; the parsed value where the name ends in "json"; or a `BadText`.

    Args:
        data: UTF-8.
        name: The file's name or ending, for the message.
    """
    try:
        text = _decoded(data, name)
        return parsed_json(text, name) if name.endswith("json") else text
    except BadText as error:
        return error


def json_objects(lines: Iterable[bytes]) -> Iterator[Mapping[str, Any] | BadText]:
    """The objects of JSON Lines; a `BadText` in the place of what is none.

    Args:
        lines: UTF-8. Empty ones are left out.
    """
    for line in lines:
        if line.strip():
            value = read_text(line, "json")
            bad = BadText("not a JSON object, in braces, as each line must be")
            yield value if isinstance(value, (dict, BadText)) else bad


def parsed_json(text: str, name: str) -> Any:
    """The value that JSON text stands for.

    Args:
        text: JSON.
        name: What the message calls it.

    Raises:
        BadText: It is not valid, nested too deep, or has a number of thousands of digits.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise BadText(f"{name}: JSON that is nested too deep") from None
    except ValueError as error:
        raise BadText(f"{name}: not valid JSON ({error})") from None


def text_of(value: Any, name: str) -> str:
    """A stored value as text, without a byte order mark.

    Args:
        value: `str`, or UTF-8 as `bytes`.
        name: What the message calls it: the column.

    Raises:
        BadText: It is anything else, or text that UTF-8 cannot hold.
    """
    if isinstance(value, BadText):
        raise value
    if isinstance(value, (bytes, bytearray, memoryview)):
        value = _decoded(bytes(value), name)
    if not isinstance(value, str):
        raise BadText(f"{name} is {described(value)}, not text")
    if "\0" in value:
        raise BadText(f"{name}: text with NUL characters, maybe UTF-16; save it as UTF-8")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            found = f"a wrong byte or half a character at place {error.start}"
            raise BadText(f"{name}: not UTF-8 text ({found})") from None
    return value.removeprefix("\ufeff")


def caption_of(value: Any, name: str = "caption") -> str | list[str] | None:
    """A stored caption as one text or as a list of texts without blank ones; `None` where there is none.

    Args:
        value: Text, or a sequence of texts.
        name: What the message calls it: the column.

    Raises:
        BadText: It is anything else; a number, for example, is not a caption.
    """
    if hasattr(value, "tolist"):
        value = value.tolist()  # an array of a dataset in NumPy's format
    if value is None:
        return None
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes, bytearray, memoryview)):
        texts = [text_of(text, name) for text in value if text is not None]
        return [text for text in texts if text.strip()]
    return text_of(value, name)


def question_pairs(value: Any, name: str = "questions") -> list[tuple[str, str]] | None:
    """Stored questions as pairs of question and answer, without those of which one is blank; `None` if there are none.

    Args:
        value: A sequence of pairs, or of mappings with `question` and `answer`.
        name: What the message calls it: the column.

    Raises:
        BadText: It is anything else.
    """
    value = value.tolist() if hasattr(value, "tolist") else value
    if value is None:
        return None
    pairs = []
    for item in value if isinstance(value, Sequence) and not isinstance(value, (str, bytes)) else [value]:
        if isinstance(item, Mapping):
            item = [item.get("question"), item.get("answer")]
        if isinstance(item, (str, bytes)) or not isinstance(item, Sequence) or len(item) != 2:
            raise BadText(f"{name}: {described(item)} in the place of a pair of question and answer")
        question, answer = ("" if text is None else text_of(text, name) for text in item)
        if question.strip() and answer.strip():
            pairs.append((question, answer))
    return pairs


def id_of(value: Any, default: str, name: str = "id") -> str:
    """A stored id as text.

    Args:
        value: Text, an integer, or `None`.
        default: The id where there is none, or a blank one.
        name: What the message calls it: the column.

    Raises:
        BadText: It is anything else.
    """
    if isinstance(value, Integral) and not isinstance(value, bool):
        try:
            return str(int(value))
        except ValueError:
            raise BadText(f"{name}: a number of thousands of digits") from None
    text = "" if value is None else text_of(value, name)
    return text if text.strip() else text_of(default, "the file's name")


def not_utf8(error: UnicodeDecodeError, name: str) -> BadText:
    """What to say about bytes that are not UTF-8: which is the first wrong one.

    Args:
        error: Of the decoding.
        name: What the message calls the text.
    """
    return BadText(f"{name}: not UTF-8 text (byte 0x{error.object[error.start]:02x} at place {error.start})")


def described(value: Any) -> str:
    """What a value is, for messages: "a number (1.5)"."""
    if isinstance(value, bool):
        return f"a truth value ({str(value).lower()})"
    if isinstance(value, (int, float)):
        return f"a number ({value:g})" if isinstance(value, float) else "a whole number"
    if isinstance(value, Mapping):
        return f"a mapping of {printable(', '.join(map(str, value)))[:80] or 'nothing'}"
    if isinstance(value, (str, bytes)):
        return "text"
    if isinstance(value, Sequence):
        return "a list"
    return "nothing" if value is None else f"of the type {type(value).__name__}"


def printable(text: str) -> str:
    """Text for reports and messages: what is not printable, or not UTF-8, is written as an escape, as in "\\x1b"."""
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def _decoded(data: bytes, name: str) -> str:
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise BadText(f"{name}: UTF-16 text; save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise not_utf8(error, name) from None
