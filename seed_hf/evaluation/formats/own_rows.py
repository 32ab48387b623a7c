"""Rows of one's own, in JSON, JSON lines or Parquet: an image with captions, a question, or choices."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from seed_hf.evaluation.rows import EvaluationData, EvaluationRow, Reread

from .annotation_files import Entry, entries, identity_of, image_path, with_words
from .parquet_files import table_rows


_IDS = ("id", "question_id", "image_id")
_GROUPS = ("group", "category", "answer_type")
NAMES = ("image", "caption", "captions", "question", "answer", "answers", "choice", "choices", *_GROUPS, *_IDS)
# A choice that begins with its letter: "A. a cat", "(A) a cat" or "A: a cat".
_LETTERED = re.compile(r"\(?([A-Z])[.):]\s*")


def own_rows(file: Path, value: list, images: Path) -> EvaluationData:
    """A list of objects with `image` (a path) and some of `NAMES`: LAVIS' COCO and Flickr30K, and what MME-Unify asks.

    Args:
        file, value: The file, and its parsed JSON.
        images: Folder of the images.

    Raises:
        ValueError: Fields are missing.
    """
    rows = [own_row(entry, number, images) for number, entry in enumerate(entries(value, file.name))]
    return EvaluationData("rows", rows, identity_of(file))


def own_table(file: Path, images: Path) -> EvaluationData:
    """A Parquet file with the columns of `NAMES`; images are paths, bytes, or as `datasets` stores them.

    Args:
        file: The file.
        images: Folder of the images that are paths.
    """
    return EvaluationData("rows", Reread(_rows_of, file, images), identity_of(file))


def _rows_of(file: Path, images: Path) -> Iterator[EvaluationRow]:
    for number, values in enumerate(table_rows(file, NAMES)):
        yield own_row(Entry(values, f"{file.name}[{number}]"), number, images)


def own_row(entry: Entry, number: int, images: Path) -> EvaluationRow:
    """A row of one's own.

    Args:
        entry: Its fields.
        number: Of the row, its id if it has no other.
        images: Folder of the images that are paths.

    Raises:
        ValueError: A field is something else.
    """
    given = {name for name in NAMES if entry.value.get(name) is not None}
    captions = with_words(next((entry.texts(name) for name in ("captions", "caption") if name in given), ()))
    written = next((entry.texts(name) for name in ("choices", "choice") if name in given), ())
    choices = _unlettered(written)
    answers = _answers(entry, "answers" if "answers" in given else "answer") if given & {"answer", "answers"} else ()
    answers = tuple(dict(zip(written, choices)).get(answer, answer) for answer in answers)
    right, choice_fault = _right(answers, choices, number=isinstance(entry.value.get("answer"), int))
    return EvaluationRow(
        next((entry.text(name) for name in _IDS if name in given), str(number)),
        _image(entry, images) if "image" in given else None,
        captions=captions,
        question=entry.text("question", ""),
        answers=answers,
        choices=choices,
        right=right,
        choice_fault=choice_fault,
        group=next((entry.text(name) for name in _GROUPS if name in given), ""),
    )


def _image(entry: Entry, images: Path) -> bytes | str:
    found: Any = entry.get("image", str, bytes, dict)
    if isinstance(found, dict):
        found = found.get("bytes") or found.get("path") or ""
        if not isinstance(found, (str, bytes)):
            raise ValueError(f"{entry.place}: image must hold bytes or a path, got {type(found).__name__}.")
    if isinstance(found, str) and found.startswith("data:image/"):
        try:
            return base64.b64decode("".join(found.partition(",")[2].split()), validate=True)
        except ValueError as error:
            raise ValueError(f"{entry.place}: image is no base64 ({error}).") from error
    return image_path(images, found) if isinstance(found, str) else found


def _answers(entry: Entry, name: str) -> tuple[str, ...]:
    found = entry.get(name, str, int, list)
    if isinstance(found, list) and all(isinstance(answer, dict) for answer in found):
        return tuple(answer.text("answer") for answer in entry.entries(name))
    return entry.texts(name) if isinstance(found, list) else (str(found),)


def _unlettered(choices: tuple[str, ...]) -> tuple[str, ...]:
    """Choices without the letters that say their places, where all have them; asking by letter adds its own."""
    marks = [_LETTERED.match(choice) for choice in choices]
    if not all(mark and mark[1] == chr(ord("A") + place) for place, mark in enumerate(marks)):
        return choices
    return tuple(choice[mark.end() :] for choice, mark in zip(choices, marks) if mark)


def _right(answers: tuple[str, ...], choices: tuple[str, ...], *, number: bool) -> tuple[int | None, str]:
    """The choice that is the answer: its text, its letter, or its number from 0; and why there is none.

    Args:
        answers: One.
        choices: To choose from.
        number: Whether the answer is a number in the data, and not a text.
    """
    if not answers or not choices:
        return None, ""
    answer = answers[0]
    if len(answers) > 1:
        return None, f"{len(answers)} answers, where one of the choices is right"
    if answer in choices and not number:
        return choices.index(answer), ""
    place = ord(answer) - ord("A") if len(answer) == 1 and answer.isupper() else -1
    if answer.isdecimal():
        if any(choice.strip().isdecimal() for choice in choices):
            return None, f"the answer {answer!r:.60} may be a choice or its number; give the text of the choice"
        place = int(answer)
    return (place, "") if 0 <= place < len(choices) else (None, f"the answer {answer!r:.60} is no choice")
