"""Messages of a conversation and parts of a document as they are stored, checked: the one place where they are read.

A message has `role` and `content`; content is text, or a list of parts as `apply_chat_template` takes them. What is
read is always in one form: content is a list of `{"type": "text", "text": ...}`, `{"type": "image", "codes": [...]}`
and, for images that have no codes yet, `{"type": "image", "image": ...}` with the image's bytes or path.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from numbers import Integral
from typing import Any

from PIL import Image

from .remote import is_remote
from .source_row import image_of
from .text import BadText, described, printable, text_of


ROLES = ("system", "user", "assistant")
_FIELDS = {"text": {"type", "text"}, "image": {"type", "codes", "image", "path", "url", "base64"}}
HOW_TO_ENCODE = (
    "Give model.image_tokenizer in the recipe, or encode the images once: with `seed-hf tokenize` images with "
    "captions, with `seed-hf data conversations` those of conversations and documents"
)
_IN_ORDER = "a system text may come first, then user and assistant take turns, and assistant has the last word"


def read_messages(value: Any, images: Sequence[Any] | None = None, *, folder: str = "") -> list[dict[str, Any]]:
    """A conversation in the form described above.

    Args:
        value: The stored messages.
        images: Images or codes of the row, in order, for the parts of the type "image" that have none of their own.
        folder: The folder that relative paths of images start from.

    Raises:
        BadText: It is no conversation. The message names the part, and says what belongs there.
    """
    value = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(value, BadText):
        raise value
    if not isinstance(value, Sequence) or isinstance(value, (str, bytes)):
        raise BadText(f"messages is {described(value)}, not a list of messages with role and content")
    if not value:
        raise BadText("messages is empty: a conversation has at least a question and an answer")
    more = None if images is None else iter(images)
    read = [_message(message, more, folder, f"messages[{number}]") for number, message in enumerate(value)]
    _check_none_left(more, "messages")
    _check_order([message["role"] for message in read])
    return read


def read_parts(value: Any, images: Sequence[Any] | None = None, *, folder: str = "") -> list[dict[str, Any]]:
    """The parts of a document, texts and images in order, in the form described above.

    Args:
        value, images, folder: As for [`read_messages`].

    Raises:
        BadText: It is no such list, or has nothing in it.
    """
    more = None if images is None else iter(images)
    parts = _content(value, more, folder, "document")
    _check_none_left(more, "document")
    return parts


def pieces_of(content: Iterable[Mapping[str, Any]], name: str) -> list[str | list[int]]:
    """Content as texts and codes.

    Args:
        content: Parts in the form described above.
        name: What the message calls it.

    Raises:
        BadText: An image has no codes yet.
    """
    pieces: list[str | list[int]] = []
    for part in content:
        if part["type"] == "text":
            pieces.append(part["text"])
        elif part.get("codes") is None:
            raise BadText(f"{name} has an image without codes. {HOW_TO_ENCODE}")
        else:
            pieces.append(list(part["codes"]))
    return pieces


def _message(value: Any, images: Iterator[Any] | None, folder: str, name: str) -> dict[str, Any]:
    given = _given(value, name, "a message with role and content")
    if {"from", "value"} <= given.keys():
        raise BadText(f"{name} has the fields from and value. Rename them role (user, assistant) and content")
    _check_fields(given, {"role", "content"}, name)
    if (role := given.get("role")) not in ROLES:
        raise BadText(f"{name}.role must be one of {', '.join(ROLES)}; got {printable(repr(role))[:40]}")
    content = _content(given.get("content"), images, folder, f"{name}.content")
    if role == "system" and any(part["type"] == "image" for part in content):
        raise BadText(f"{name} is a system text, which cannot have images")
    return {"role": role, "content": content}


def _content(value: Any, images: Iterator[Any] | None, folder: str, name: str) -> list[dict[str, Any]]:
    value = value.tolist() if hasattr(value, "tolist") else value
    if value is None or isinstance(value, (str, bytes, BadText)):
        value = [{"type": "text", "text": "" if value is None else text_of(value, name)}]
    if not isinstance(value, Sequence):
        raise BadText(f"{name} is {described(value)}, neither text nor a list of parts")
    parts = [_part(part, images, folder, f"{name}[{number}]") for number, part in enumerate(value)]
    parts = [part for part in parts if part.get("text") != ""]
    if not any(part["type"] == "image" or part["text"].strip() for part in parts):
        raise BadText(f"{name} is empty: give it text or an image")
    return parts


def _part(value: Any, images: Iterator[Any] | None, folder: str, name: str) -> dict[str, Any]:
    given = _given(value, name, 'a part such as {"type": "text", "text": "..."}')
    kind = given.get("type")
    if kind not in _FIELDS:
        raise BadText(f"{name}.type must be text or image; got {printable(repr(kind))[:40]}")
    _check_fields(given, _FIELDS[kind], name)
    if kind == "text":
        return {"type": "text", "text": text_of(given.get("text"), f"{name}.text")}
    sources = sorted(given.keys() - {"type"})
    if len(sources) > 1:
        raise BadText(f"{name} has {' and '.join(sources)}: an image has one of them")
    if not sources:
        found = _next(images, name)
        return _image("codes" if _are_codes(found) else "image", found, folder, name)
    return _image(sources[0], given[sources[0]], folder, f"{name}.{sources[0]}")


def _image(kind: str, value: Any, folder: str, name: str) -> dict[str, Any]:
    if kind == "codes":
        return {"type": "image", "codes": read_codes(value, name)}
    if kind == "base64":
        try:
            text = "".join(text_of(value, name).rpartition(",")[2].split())  # many encoders break lines
            data = base64.b64decode(text, validate=True)
        except binascii.Error:
            raise BadText(f"{name} is not valid base64") from None
        return {"type": "image", "image": data}
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, Image.Image):
        return {"type": "image", "image": value}
    image = image_of(value, name, folder)
    if image is None:
        raise BadText(f"{name} is missing")
    if isinstance(image, str) and is_remote(image):
        raise BadText(f"{name} is an address. Download the image, and give its path or bytes")
    return {"type": "image", "image": image}


def _next(images: Iterator[Any] | None, name: str) -> Any:
    if images is None:
        raise BadText(
            f"{name} is an image without codes, image or path. Give it one, or the row a column `images` in order"
        )
    try:
        return next(images)
    except StopIteration:
        raise BadText(f"{name}: there are more parts of the type image than `images`") from None


def _check_none_left(images: Iterator[Any] | None, name: str) -> None:
    if images is not None and (left := sum(1 for _ in images)):
        raise BadText(
            f"{left} of `images` have no place: {name} has fewer parts of the type image "
            "(<image> in a text is plain text)"
        )


def _are_codes(value: Any) -> bool:
    value = value.tolist() if hasattr(value, "tolist") else value
    if not isinstance(value, Sequence) or isinstance(value, (str, bytes)):
        return False
    return bool(value) and all(
        isinstance(code, Integral) and not isinstance(code, bool) and 0 <= int(code) < 2**31 for code in value
    )


def read_codes(value: Any, name: str) -> list[int]:
    """The codes of an image.

    Args:
        value: As a row has them.
        name: Of the field, for messages.

    Raises:
        BadText: It is no list of whole numbers from 0 on.
    """
    value = value.tolist() if hasattr(value, "tolist") else value
    if not _are_codes(value):
        raise BadText(f"{name} is {described(value)}, not a list of whole numbers from 0 on")
    return [int(code) for code in value]


def _given(value: Any, name: str, wanted: str) -> dict[str, Any]:
    """The fields that are set: Arrow gives every struct all fields."""
    if isinstance(value, BadText):
        raise value
    if not isinstance(value, Mapping):
        raise BadText(f"{name} is {described(value)}, not {wanted}")
    return {str(field): entry for field, entry in value.items() if entry is not None}


def _check_fields(given: Mapping[str, Any], allowed: set[str], name: str) -> None:
    if unknown := sorted(given.keys() - allowed):
        listed = printable(", ".join(unknown))[:80]
        raise BadText(f"{name} has unknown fields: {listed}. Allowed: {', '.join(sorted(allowed))}")


def _check_order(roles: list[str]) -> None:
    begin = 1 if roles[0] == "system" else 0
    for number, role in enumerate(roles[begin:]):
        wanted = ("user", "assistant")[number % 2]
        if role != wanted:
            raise BadText(f"messages[{begin + number}] is of {role}, where {wanted} is due: {_IN_ORDER}")
    if roles[-1] != "assistant":
        raise BadText(f"messages ends with {roles[-1]}: {_IN_ORDER}")
