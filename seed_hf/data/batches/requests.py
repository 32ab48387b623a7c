"""Requests such as a person types, with which captions and images become conversations. The wordings are our own."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any


FILE = Path(__file__).with_name("requests.json")
_END = ".?!\u3002\uff01\uff1f"  # a caption that ends with one of them needs no full stop


@cache
def shipped_requests() -> dict[str, Any]:
    """The wordings of `requests.json`: `draw`, pairs of `request` with `{}` for the caption and `answer`, and
    `describe`, questions about an image."""
    return read_requests(FILE)


def read_requests(path: str | Path) -> dict[str, Any]:
    """Wordings from a JSON file of the form of `requests.json`, checked.

    Args:
        path: The file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not of that form; the message names the entry.
    """
    path = Path(path)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not valid JSON ({error}).") from error
    if not isinstance(found, Mapping) or set(found) != {"draw", "describe"}:
        raise ValueError(f"{path} must hold the lists draw and describe, as {FILE.name} of this package does.")
    for name, entries in found.items():
        if not isinstance(entries, list) or not entries:
            raise ValueError(f"{path}: {name} must be a list of at least one wording.")
    for number, entry in enumerate(found["draw"]):
        texts = isinstance(entry, Mapping) and {name: str(text) for name, text in entry.items()}
        if not texts or set(texts) != {"request", "answer"} or texts["request"].count("{}") != 1:
            raise ValueError(f"{path}: draw[{number}] needs request, with {{}} once for the caption, and answer.")
    for number, text in enumerate(found["describe"]):
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"{path}: describe[{number}] must be a question.")
    return dict(found)


def drawing(
    caption: str, codes: Sequence[Sequence[int]], draw: random.Random, requests: Mapping[str, Any]
) -> list[tuple[str, list[Any]]]:
    """A request for an image and the image, as a conversation of one turn.

    Args:
        caption: What to draw. A full stop at its end gives way to the mark of the request.
        codes: Of the image, or of several.
        draw: Chooses the wording.
        requests: As [`read_requests`] gives them.

    Returns:
        Role and content (texts, lists of codes) of each message.
    """
    wording = draw.choice(requests["draw"])
    request = wording["request"].replace("{}", caption.strip().removesuffix("."), 1)
    return [("user", [request]), ("assistant", [wording["answer"], *map(list, codes)])]


def describing(
    caption: str, codes: Sequence[Sequence[int]], draw: random.Random, requests: Mapping[str, Any]
) -> list[tuple[str, list[Any]]]:
    """An image with a question about it and the caption as the answer, as a conversation of one turn.

    Args:
        caption, codes, draw, requests: As for [`drawing`]. The answer gets a full stop if nothing ends it.
    """
    asked = draw.choice(requests["describe"])
    return asking(asked, caption, codes)


def asking(question: str, answer: str, codes: Sequence[Sequence[int]]) -> list[tuple[str, list[Any]]]:
    """A question about an image and its answer, as a conversation of one turn.

    Args:
        question: After the image.
        answer: Gets a full stop if nothing ends it.
        codes: Of the image, or of several.
    """
    answer = answer.strip()
    ended = answer if answer.endswith(tuple(_END)) else f"{answer}."
    return [("user", [*map(list, codes), question.strip()]), ("assistant", [ended])]
