"""Prompts with what their images must show: GenEval's metadata as it is published, and scenes of the small world."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from seed_hf.evaluation.detections import Asked
from seed_hf.evaluation.generation_prompts import asked_of_scene
from seed_hf.evaluation.rows import EvaluationData, EvaluationRow, Reread
from seed_hf.pictograms.scenes import Item, Scene

from .annotation_files import entries, identity_of, read_any_json
from .parquet_files import has_columns, table_rows


SCENE_COLUMNS = ("id", "image", "caption", "layout", "relation", "style", "items")


def is_geneval(value: Any) -> bool:
    """Whether parsed JSON lines are GenEval's metadata.

    Args:
        value: Of a JSON file.
    """
    first = value[0] if isinstance(value, list) and value else None
    return isinstance(first, dict) and {"include", "prompt"} <= first.keys()


def geneval(file: Path, value: list) -> EvaluationData:
    """`evaluation_metadata.jsonl` of GenEval, or a file of [`make_prompts`] in the same form.

    Args:
        file, value: The file, and its parsed lines.

    Raises:
        ValueError: A line has no prompt, or does not say what its image must show.
    """
    rows = []
    for number, entry in enumerate(entries(value, file.name)):
        try:
            asked = Asked.from_metadata(entry.value)
        except ValueError as error:
            raise ValueError(f"{entry.place}: {error}.") from error
        prompt = entry.get("prompt", str)
        rows.append(EvaluationRow(f"{number:05d}", captions=(prompt,), group=asked.tag, shows=asked.to_json()))
    return EvaluationData("geneval", rows, identity_of(file))


def is_scene_file(path: str | Path) -> bool:
    """Whether this is a Parquet file of scenes, as `seed-hf data scenes` writes them.

    Args:
        path: A file, or something else.
    """
    return has_columns(path, SCENE_COLUMNS)


def scenes(file: Path) -> EvaluationData:
    """A set of scenes: image, caption, and what the scene holds.

    Args:
        file: `test.parquet`, `test_colour.parquet` ...
    """
    return EvaluationData("scenes", Reread(_scene_rows, file), identity_of(file))


def scene_questions(file: Path) -> EvaluationData:
    """The questions about a set of scenes: a row for each, the scene's layout the group.

    Args:
        file: `test.parquet`, `test_colour.parquet` ...

    Raises:
        ValueError: An earlier version wrote it, without the captions that answer "What is shown?".
    """
    if not has_columns(file, ("captions", "questions", "answers")):
        raise ValueError(f"{file}: was written by an earlier version. Make it again with `seed-hf data scenes`.")
    return EvaluationData("scenes", Reread(_scene_questions, file), identity_of(file))


def _scene_questions(file: Path) -> Iterator[EvaluationRow]:
    for row in table_rows(file, ("id", "image", "layout", "captions", "questions", "answers")):
        for number, (question, answer) in enumerate(zip(row["questions"], row["answers"], strict=True)):
            yield EvaluationRow(
                f"{row['id']} {number}",
                row["image"]["bytes"],
                question=question,
                answers=tuple(row["captions"]) if answer in row["captions"] else (answer,),
                group=row["layout"],
            )


def _scene_rows(file: Path) -> Iterator[EvaluationRow]:
    yield from map(_scene_row, table_rows(file, SCENE_COLUMNS))


def _scene_row(row: dict[str, Any]) -> EvaluationRow:
    """One row; what is no scene is a fault of the row."""
    try:
        asked = asked_of_scene(scene_of_row(row))
        image, captions = row["image"]["bytes"], (row["caption"],) if row["caption"] else ()
    except (IndexError, KeyError, TypeError, ValueError) as error:
        return EvaluationRow(str(row["id"]), fault=f"no scene: {error}")
    return EvaluationRow(str(row["id"]), image, captions, group=asked.tag, shows=asked.to_json())


def scene_of_row(row: dict[str, Any]) -> Scene:
    """The scene of a row of `seed-hf data scenes`; its size and place are not in the row.

    Args:
        row: With layout, style, items and relation.
    """
    items = tuple(Item(**item) for item in row["items"])
    return Scene(row["layout"], row["style"], items, relation=row["relation"])


def open_prompts(path: str | Path) -> EvaluationData | None:
    """The rows of a file that says what images must show; `None` if it is something else.

    Args:
        path: GenEval's metadata, or Parquet of scenes.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged, or fields are missing.
    """
    if is_scene_file(path):
        return scenes(Path(path))
    if Path(path).suffix.lower() != ".jsonl":
        return None
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such file. `seed-hf evaluate prompts --out {path}` makes prompts.")
    value = read_any_json(Path(path))
    return geneval(Path(path), value) if is_geneval(value) else None
