"""What is evaluated: rows of images with captions, questions or choices, from any file or source."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar


Each = TypeVar("Each")


@dataclass(frozen=True, slots=True)
class EvaluationRow:
    """One row of the data of an evaluation.

    Args:
        id: Of the row in its data: an image id, a question id ...
        image: Encoded image, or its path; `None` for tasks without images.
        captions: What people wrote about the image.
        question: About the image.
        instruction: What is to be changed in the image.
        answers: What people answered, each as often as it was given.
        published: Whether a benchmark has cleaned the answers; see `answer_accuracy`.
        choices: The answers to choose from.
        right: Index of the right choice.
        choice_fault: Why none is, where that is not clear; of no interest where nothing is chosen.
        group: Rows of a group get figures of their own: a domain, a type of question.
        shows: What an image of the caption must show: a line of GenEval's metadata, see [`Asked`].
        fault: Why the row cannot be used; empty for a sound one.

    Raises:
        TypeError: The image is another thing, such as one that is decoded; or one text, where there may be several.
    """

    id: str
    image: bytes | str | None = None
    captions: tuple[str, ...] = ()
    question: str = ""
    instruction: str = ""
    answers: tuple[str, ...] = ()
    published: bool = False
    choices: tuple[str, ...] = ()
    right: int | None = None
    choice_fault: str = ""
    group: str = ""
    shows: str = ""
    fault: str = ""

    def __post_init__(self):
        if not (self.image is None or isinstance(self.image, (bytes, str, os.PathLike))):
            raise TypeError(
                f"Row {self.id}: image must be an image file's content in bytes, or its path; got "
                f"{type(self.image).__name__}."
            )
        for name in ("captions", "answers", "choices"):
            if isinstance(text := getattr(self, name), str):  # whose letters would be taken for texts
                raise TypeError(f"Row {self.id}: {name} must be a tuple of texts, such as ({text!r},); got one text.")


class Reread(Generic[Each]):
    """What a function reads, anew whenever it is iterated.

    Args:
        read: Makes an iterator.
        given: Its arguments.
    """

    def __init__(self, read: Callable[..., Iterator[Each]], *given: Any):
        self._read, self._given = read, given

    def __iter__(self) -> Iterator[Each]:
        return self._read(*self._given)


@dataclass(frozen=True)
class EvaluationData:
    """The rows of an evaluation, and what they are.

    Args:
        format: What they were read as, such as "coco-karpathy".
        rows: Read again for every evaluation, always in the same order. A sequence is checked as a whole before the
            work begins.
        identity: What makes this data this data, ready for JSON: split, names and hashes of files.
    """

    format: str
    rows: Iterable[EvaluationRow]
    identity: dict[str, Any] = field(default_factory=dict)
