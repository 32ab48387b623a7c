"""What the readers of annotation files share: parsed JSON, its fields, and the files of images."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from seed_hf.files import sha256_of


def read_any_json(path: Path) -> Any:
    """The value of a JSON file; of a file of JSON lines, a list of the lines' values.

    Args:
        path: File to read.

    Raises:
        ValueError: It is damaged.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() == ".jsonl":
            return [json.loads(line) for line in text.split("\n") if line.strip()]  # others may be in a text
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not readable as JSON. {error}") from error


class Entry:
    """One object of an annotation file, whose fields are checked as they are read.

    Args:
        value: The parsed JSON.
        place: What messages call it, such as "val.json: questions[3]".

    Raises:
        ValueError: It is no object.
    """

    def __init__(self, value: Any, place: str):
        if not isinstance(value, Mapping):
            raise ValueError(f"{place}: expected an object with fields, got {type(value).__name__}.")
        self.value, self.place = value, place

    def get(self, name: str, *kinds: type, default: Any = ...) -> Any:
        """A field.

        Args:
            name: Of the field.
            kinds: What it may be.
            default: Where it is missing or null; by default that is an error.

        Raises:
            ValueError: It is missing or something else.
        """
        found = self.value.get(name)
        if found is None and default is not ...:
            return default
        if found is None:
            raise ValueError(
                f"{self.place} has no field {name!r}; it has {', '.join(map(str, self.value)) or 'none'}."
            )
        if not isinstance(found, kinds) or isinstance(found, bool):
            wanted = " or ".join(kind.__name__ for kind in kinds)
            raise ValueError(f"{self.place}: {name} must be {wanted}, got {type(found).__name__}.")
        return found

    def text(self, name: str, default: Any = ...) -> str:
        """A field that is a text, or a number as text."""
        return str(self.get(name, str, int, float, default=default))

    def texts(self, name: str) -> tuple[str, ...]:
        """A field that is a text or a list of texts."""
        found = self.get(name, str, list)
        found = [found] if isinstance(found, str) else found
        if wrong := [value for value in found if not isinstance(value, str)]:
            raise ValueError(f"{self.place}: {name} must be texts, got {type(wrong[0]).__name__}.")
        return tuple(found)

    def entries(self, name: str) -> list[Entry]:
        """A field that is a list of objects."""
        return entries(self.get(name, list), f"{self.place}: {name}")


def entries(values: list, place: str) -> list[Entry]:
    """The objects of a list.

    Args:
        values: The parsed JSON.
        place: What messages call the list.
    """
    return [Entry(value, f"{place}[{number}]") for number, value in enumerate(values)]


def check_once(ids: Iterable[str], place: str) -> None:
    """Raises `ValueError` if rows have the same id, which would count twice, or of which one would count for both.

    Args:
        ids: Of the rows.
        place: What messages call them.
    """
    seen: set[str] = set()
    for row_id in ids:
        if row_id in seen:
            raise ValueError(f"{place}: {row_id} is there twice. The published file has it once.")
        seen.add(row_id)


def with_words(captions: Iterable[str]) -> tuple[str, ...]:
    """The captions that say something; blanks are none.

    Args:
        captions: Of an image.
    """
    return tuple(caption for caption in captions if caption.strip())


def image_path(folder: Path, *names: str) -> str:
    """The first of several files that exists, else the first.

    Args:
        folder: That they are in.
        names: Relative to it.

    Raises:
        ValueError: One is not in the folder: a file of annotations may come from anywhere.
    """
    paths = [os.path.join(folder, name) for name in names]
    root = os.path.abspath(folder)
    for name, path in zip(names, paths, strict=True):
        if os.path.commonpath([root, os.path.abspath(path)]) != root or "\0" in name:
            raise ValueError(f"{name!r:.80} leads out of {folder}. Give --images the folder that holds all images.")
    return next((path for path in paths if os.path.isfile(path)), paths[0])


def file_text(path: Path) -> str:
    """The text of a file, its lines ended by line feeds alone.

    Args:
        path: File to read.

    Raises:
        ValueError: It is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text ({error}).") from error


def identity_of(*files: Path, **more: Any) -> dict[str, Any]:
    """The identity of data: names and hashes of its files.

    Args:
        files: Of annotations.
        more: What else tells it from other data, such as the split; `None` is left out.
    """
    named = Counter(file.name for file in files)
    hashes = {
        f"{number} {file.name}" if named[file.name] > 1 else file.name: sha256_of(file)
        for number, file in enumerate(files)
    }
    return {**{name: value for name, value in more.items() if value is not None}, "files": hashes}
