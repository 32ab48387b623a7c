"""Text as it is stored: the one place where stored values become captions and ids."""

from __future__ import annotations

import json
from typing import Any


def decode_text(data: bytes, name: str) -> Any:
    """The text of a file's content; the parsed value where the name ends in "json".

    Args:
        data: UTF-8.
        name: The file's name, also for messages.

    Raises:
        ValueError: It is not valid.
    """
    is_json = name.endswith("json")
    try:
        text = data.decode("utf-8")
        return json.loads(text) if is_json else text
    except ValueError as error:
        raise ValueError(f"{name}: not valid {'JSON' if is_json else 'UTF-8 text'}.") from error


def caption_of(value: Any) -> str | list[str] | None:
    """A stored caption as one text or as a list of texts without blank ones; `None` where there is none."""
    if isinstance(value, list):
        return [str(text) for text in value if text is not None and str(text).strip()]
    return None if value is None else str(value)


def id_of(value: Any, default: str) -> str:
    """A stored id as text; `default` where there is none."""
    return default if value is None else str(value)
