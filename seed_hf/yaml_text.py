"""YAML from anywhere: recipes, `card.yaml`, the front matter of cards. Plain values only, with one meaning each.

The readers of YAML disagree: `no`, `0777`, `1_000`, `12:30` and `2026-01-02` are text to one and a truth value, other
numbers or a date to the next. Such a value is refused where it stands without quotes. So are tags, a key that stands
twice, and files that would become huge or endless: an alias counts as often as what it stands for.
"""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml


LARGEST = 200_000  # characters of a text, and of what its aliases make of it
DEEPEST = 40  # levels of lists and mappings
_TOO_LARGE = f"more than {LARGEST:,} characters of YAML, which is the most that is read."

# The core schema of YAML 1.2. Everything else is text.
_NULL = re.compile(r"|~|null|Null|NULL")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)|0x[0-9a-fA-F]+")
_FLOAT = re.compile(
    r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)
_OTHER_OCTAL = re.compile(r"0o[0-7]+|[-+]?0[0-9]+(\.[0-9]*)?([eE][-+]?[0-9]+)?")
_MOST_DIGITS = 100
_SURROGATE = re.compile("[\ud800-\udfff]")
_TEXT = "tag:yaml.org,2002:str"


def read_yaml(path: Path) -> Any:
    """What a YAML file holds. As `parse_yaml`, with the file's name in the errors.

    Args:
        path: The file, in UTF-8.

    Raises:
        ValueError: Of `parse_yaml`, or it is not UTF-8.
    """
    if path.stat().st_size > 4 * LARGEST:  # a character has four bytes at most
        raise ValueError(f"{path}: {_TOO_LARGE}")
    try:
        return parse_yaml(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not text in UTF-8. {error}") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def parse_yaml(text: str) -> Any:
    """What a YAML text holds: text, numbers, truth values, `None`, lists, and mappings whose keys are text.

    Args:
        text: One document of at most `LARGEST` characters.

    Raises:
        ValueError: Not YAML; a value that YAML 1.1 and 1.2 read differently; a tag; a key that stands twice; larger
            than `LARGEST` or deeper than `DEEPEST`. The message names the line.
    """
    if len(text) > LARGEST:
        raise ValueError(_TOO_LARGE)
    try:
        return _Reader(text).document()
    except yaml.YAMLError as error:
        raise ValueError(f"not valid YAML. {error}") from error


def check_expansion(text: str) -> None:
    """Refuses a text that its aliases make huge. Nothing else is looked at: another library reads what it means.

    Args:
        text: Of any length.

    Raises:
        ValueError: The text is more than ten times as long when each alias is written out.
    """
    if "&" not in text:
        return
    most, size, open_nodes = LARGEST + 10 * len(text), 0, []
    sizes: dict[str, int] = {}
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            before = size
            if isinstance(event, yaml.AliasEvent):
                size += sizes.get(event.anchor, most + 1)  # an alias inside of what it stands for has no end
            elif isinstance(event, yaml.ScalarEvent):
                size += len(event.value) + 1
                if event.anchor is not None:
                    sizes[event.anchor] = size - before
            elif isinstance(event, yaml.CollectionStartEvent):
                size += 1
                open_nodes.append((event.anchor, before))
            elif isinstance(event, yaml.CollectionEndEvent):
                anchor, began = open_nodes.pop()
                if anchor is not None:
                    sizes[anchor] = size - began
            if size > most:
                raise _wrong(event, f"its aliases make more than {most:,} characters of this text")
    except yaml.YAMLError:
        return  # whoever reads the text says what is wrong with it


class _Reader:
    """Makes values of PyYAML's events, one by one, so that nothing grows before it is counted."""

    def __init__(self, text: str):
        self.events: Iterator[Any] = yaml.parse(text, Loader=yaml.SafeLoader)
        self.resolver = yaml.SafeLoader("")  # how YAML 1.1 reads a value
        self.size = self.depth = 0
        self.anchors: dict[str, tuple[Any, int] | None] = {}  # value and size; `None` while it is being read

    def document(self) -> Any:
        next(self.events)  # start of the stream
        event = next(self.events)
        if isinstance(event, yaml.StreamEndEvent):
            return None
        value = self.value(next(self.events))
        next(self.events)  # end of the document
        event = next(self.events)
        if not isinstance(event, yaml.StreamEndEvent):
            raise _wrong(event, "a second document (---) begins; give one")
        return value

    def value(self, event: Any) -> Any:
        if isinstance(event, yaml.AliasEvent):
            return self.alias(event)
        if event.tag is not None:
            raise _wrong(event, f"the tag {_short(event.tag)} is not read; text in quotes is always text")
        if event.anchor is not None:
            self.anchors[event.anchor] = None
        before = self.size
        self.count(event, len(event.value) + 1 if isinstance(event, yaml.ScalarEvent) else 1)
        found = self.scalar(event) if isinstance(event, yaml.ScalarEvent) else self.collection(event)
        if event.anchor is not None:
            self.anchors[event.anchor] = found, self.size - before
        return found

    def count(self, event: Any, size: int) -> None:
        self.size += size
        if self.size > LARGEST:
            raise _wrong(event, f"its aliases make more than {LARGEST:,} characters of this text")

    def alias(self, event: Any) -> Any:
        if event.anchor not in self.anchors:
            name = _short(event.anchor)
            raise _wrong(event, f"*{name} stands for nothing: there is no &{name} before it")
        target = self.anchors[event.anchor]
        if target is None:
            raise _wrong(event, f"*{_short(event.anchor)} stands for what it is a part of")
        self.count(event, target[1])
        return target[0]

    def collection(self, event: Any) -> Any:
        self.depth += 1
        if self.depth > DEEPEST:
            raise _wrong(event, f"more than {DEEPEST} levels of lists and mappings")
        found = self.mapping() if isinstance(event, yaml.MappingStartEvent) else self.sequence()
        self.depth -= 1
        return found

    def sequence(self) -> list:
        found = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            found.append(self.value(event))
        return found

    def mapping(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent) or event.tag is not None:
                raise _wrong(event, "a key must be text")
            self.count(event, len(event.value) + 1)
            value = self.value(next(self.events))
            if event.value == "<<" and event.style is None:
                self.merge(event, value, merged)
            elif event.value in found:
                raise _wrong(event, f"{_short(event.value)!r} stands twice in one mapping")
            else:
                found[event.value] = value
        return merged | found

    @staticmethod
    def merge(event: Any, value: Any, merged: dict[str, Any]) -> None:
        for part in value if isinstance(value, list) else [value]:
            if not isinstance(part, dict):
                raise _wrong(event, "<< takes over a mapping or a list of mappings")
            for key, inherited in part.items():
                merged.setdefault(key, inherited)  # the first one counts

    def scalar(self, event: Any) -> Any:
        text = event.value
        if _SURROGATE.search(text):
            raise _wrong(event, "half a character, such as \\ud800; write the character itself")
        if event.style is not None:  # quoted, or a block
            return text
        if _NULL.fullmatch(text):
            return None
        if _BOOL.fullmatch(text):
            return text.lower() == "true"
        if _INT.fullmatch(text):
            if len(text) > _MOST_DIGITS:
                raise _wrong(event, f"a number of {len(text)} digits; put text in quotes")
            return int(text, 16 if text.startswith("0x") else 10)
        if _FLOAT.fullmatch(text):
            special = text.lstrip("+-").lower() in (".inf", ".nan")
            number = float(text.replace(".", "", 1) if special else text)
            if math.isinf(number) and not special:
                raise _wrong(event, f"{_short(text)} is too large for a number")
            return number
        if _OTHER_OCTAL.fullmatch(text) or self.resolver.resolve(yaml.ScalarNode, text, (True, False)) != _TEXT:
            raise _wrong(
                event,
                f"{_short(text)} means one thing in YAML 1.1 and another in 1.2. Put text in quotes; write true or "
                "false for a truth value, and digits for a number",
            )
        return text


def _wrong(event: Any, why: str) -> ValueError:
    return ValueError(f"line {event.start_mark.line + 1}: {why}.")


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:60]}..."
