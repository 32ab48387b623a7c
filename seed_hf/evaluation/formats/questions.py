"""Questions about images of VQAv2, OK-VQA, VizWiz, GQA and SEED-Bench, as their authors publish them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from seed_hf.evaluation.rows import EvaluationData, EvaluationRow

from .annotation_files import Entry, check_once, entries, identity_of, image_path, read_any_json


_LETTERS = "ABCD"


def vqa(file: Path, value: dict, images: Path, annotations: Path | None) -> EvaluationData:
    """Questions and annotations of VQAv2 or OK-VQA. Types of answers are groups.

    Args:
        file, value: The file of questions, and its parsed JSON.
        images: Folder of COCO's images, in which they may be in a folder such as `val2014`.
        annotations: The file of annotations.

    Raises:
        ValueError: Fields or annotations are missing.
    """
    if annotations is None:
        raise ValueError(
            f"{file}: questions without answers. Give their file of annotations, too: --annotations FILE."
        )
    if not annotations.is_file():
        raise FileNotFoundError(f"{annotations}: no such file of annotations.")
    whole, answered = Entry(value, file.name), Entry(read_any_json(annotations), annotations.name)
    for entry, name in ((whole, "questions"), (answered, "annotations")):
        check_once((each.text("question_id") for each in entry.entries(name)), f"{entry.place}: the question")
    found = {entry.text("question_id"): entry for entry in answered.entries("annotations")}
    folder = whole.text("data_subtype", "").replace("-dev", "")
    rows = []
    for entry in whole.entries("questions"):
        row_id, image = entry.text("question_id"), entry.get("image_id", int)
        if (annotation := found.get(row_id)) is None:
            raise ValueError(f"{annotations}: no annotation of question {row_id}. Are these two files of one split?")
        name = f"COCO_{folder}_{image:012d}.jpg" if folder else f"{image:012d}.jpg"
        path = image_path(images, f"{folder}/{name}" if folder else name, name, f"{image:012d}.jpg")
        answers = tuple(answer.text("answer") for answer in annotation.entries("answers"))
        group = annotation.text("answer_type", "")
        asked: dict[str, Any] = {"question": entry.text("question"), "answers": answers, "published": True}
        rows.append(EvaluationRow(row_id, path, **asked, group=group))
    return EvaluationData("vqa", rows, identity_of(file, annotations))


def vizwiz(file: Path, value: list, images: Path) -> EvaluationData:
    """`val.json` of VizWiz. Types of answers are groups.

    Args:
        file, value: The file, and its parsed JSON.
        images: Folder of the images.

    Raises:
        ValueError: Fields are missing, as the answers of `test.json` are.
    """
    rows = []
    for entry in entries(value, file.name):
        image = entry.text("image")
        answers = tuple(answer.text("answer") for answer in entry.entries("answers"))
        asked: dict[str, Any] = {"question": entry.text("question"), "answers": answers, "published": True}
        rows.append(EvaluationRow(image, image_path(images, image), **asked, group=entry.text("answer_type", "")))
    check_once((row.id for row in rows), f"{file.name}: the image")
    return EvaluationData("vizwiz", rows, identity_of(file))


def gqa(file: Path, value: dict, images: Path) -> EvaluationData:
    """`testdev_balanced_questions.json` of GQA. The structural types of questions are groups.

    Args:
        file, value: The file, and its parsed JSON.
        images: Folder of the images.

    Raises:
        ValueError: Fields are missing.
    """
    rows = []
    for row_id, question in value.items():
        entry = Entry(question, f"{file.name}: {row_id}")
        name = f"{entry.text('imageId')}.jpg"
        types = Entry(entry.get("types", dict, default={}), f"{entry.place}: types")
        rows.append(
            EvaluationRow(
                row_id,
                image_path(images, name, f"images/{name}"),
                question=entry.text("question"),
                answers=(entry.text("answer"),),
                group=types.text("structural", ""),
            )
        )
    return EvaluationData("gqa", rows, identity_of(file))


def seed_bench(file: Path, value: dict, images: Path) -> EvaluationData:
    """The questions of `SEED-Bench.json` about images. Its dimensions are groups; questions about videos are left out.

    Args:
        file, value: The file, and its parsed JSON.
        images: Folder of the images, whose names have no ending.

    Raises:
        ValueError: Fields are missing.
    """
    whole = Entry(value, file.name)
    dimensions = {number: name for name, number in whole.get("question_type", dict, default={}).items()}
    rows, videos = [], 0
    for entry in whole.entries("questions"):
        if entry.text("data_type") != "image":
            videos += 1
            continue
        name, letter = entry.text("data_id"), entry.text("answer")
        if letter not in tuple(_LETTERS):
            raise ValueError(f"{entry.place}: answer must be one of {', '.join(_LETTERS)}; got {letter!r}.")
        dimension = entry.get("question_type_id", int)
        rows.append(
            EvaluationRow(
                entry.text("question_id"),
                image_path(images, name, f"{name}.jpg", f"{name}.png"),
                question=entry.text("question"),
                choices=tuple(entry.text(f"choice_{letter.lower()}") for letter in _LETTERS),
                right=_LETTERS.index(letter),
                group=str(dimensions.get(dimension, dimension)),
            )
        )
    check_once((row.id for row in rows), f"{file.name}: the question")
    return EvaluationData("seed-bench", rows, identity_of(file, questions_about_videos=videos or None))
