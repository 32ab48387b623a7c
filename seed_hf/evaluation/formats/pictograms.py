"""Rows of the pictograms: captions, or the questions that follow from their metadata."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from seed_hf.evaluation.rows import EvaluationData, EvaluationRow, Reread
from seed_hf.pictograms.questions import questions_by_topic
from seed_hf.pictograms.reading import SPLITS

from .annotation_files import identity_of
from .parquet_files import has_columns, table_rows


MAX_QUESTIONS = 200


def holds_pictograms(folder: Path) -> bool:
    """Whether `seed-hf data pictograms` wrote a folder.

    Args:
        folder: Any path.
    """
    return any(has_columns(folder / f"{split}.parquet", ("style_phrase", "colours")) for split in SPLITS)


def pictogram_data(folder: Path, split: str | None, *, questions: bool = False) -> EvaluationData:
    """The pictograms of a split.

    Args:
        folder: That `seed-hf data pictograms` wrote.
        split: Default: "validation".
        questions: A row for each question about an image, its topic the group, instead of one for each image.

    Raises:
        FileNotFoundError: There is no such split.
    """
    split = split or "validation"
    file = folder / f"{split}.parquet"
    if split not in SPLITS or not file.is_file():
        raise FileNotFoundError(f"{folder}: no split {split!r} of the pictograms, which have {', '.join(SPLITS)}.")
    rows = Reread(_questions if questions else _captions, file)
    limits = {"max_questions_per_topic": MAX_QUESTIONS} if questions else {}
    return EvaluationData("pictograms", rows, identity_of(file, split=split, **limits))


def _captions(file: Path) -> Iterator[EvaluationRow]:
    for row in table_rows(file):
        yield EvaluationRow(row["id"], row["image"]["bytes"], (row["caption"],))


def _questions(file: Path) -> Iterator[EvaluationRow]:
    wanted = _wanted(file)
    counted: dict[str, int] = {}
    for row in table_rows(file):
        for topic, pairs in questions_by_topic(row).items():
            for question, answer in pairs:
                number = counted[topic] = counted.get(topic, -1) + 1
                if number in wanted[topic]:
                    yield EvaluationRow(
                        f"{row['id']} {topic} {number}",
                        row["image"]["bytes"],
                        question=question,
                        answers=(answer,),
                        group=topic,
                    )


def _wanted(file: Path) -> dict[str, set[int] | range]:
    """Which questions of each topic are asked: `MAX_QUESTIONS` at most, evenly spaced."""
    counts: dict[str, int] = {}
    for row in table_rows(file):
        for topic, pairs in questions_by_topic(row).items():
            counts[topic] = counts.get(topic, 0) + len(pairs)
    most = MAX_QUESTIONS
    return {
        topic: range(count) if count <= most else {i * count // most for i in range(most)}
        for topic, count in counts.items()
    }
