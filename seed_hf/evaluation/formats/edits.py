"""Edits of the small world: an image, an instruction, and what the new image must show."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from seed_hf.evaluation.generation_prompts import asked_of_scene
from seed_hf.evaluation.rows import EvaluationData, EvaluationRow, Reread

from .annotation_files import identity_of
from .parquet_files import has_columns, table_rows
from .prompts import scene_of_row


COLUMNS = ("id", "before", "instruction", "change", "layout", "relation", "style", "items")


def is_edit_file(path: str | Path) -> bool:
    """Whether this is a Parquet file of edits, as `seed-hf data scenes` writes them.

    Args:
        path: A file, or something else.
    """
    return has_columns(path, COLUMNS)


def edits(file: Path) -> EvaluationData:
    """The edits of a file that change a colour: the image before, and what the image after must show.

    Edits of size and place are left out: GenEval's rules do not look at either.

    Args:
        file: `edits_test.parquet` ...
    """
    return EvaluationData("edits of colour", Reread(_colour_edits, file), identity_of(file))


def _colour_edits(file: Path) -> Iterator[EvaluationRow]:
    yield from (_edit(row) for row in table_rows(file, COLUMNS) if row["change"] == "colour")


def _edit(row: dict[str, Any]) -> EvaluationRow:
    """One row; what is no edit is a fault of the row."""
    try:
        asked = asked_of_scene(scene_of_row(row))
        before, said = row["before"]["bytes"], row["instruction"] or ""
    except (IndexError, KeyError, TypeError, ValueError) as error:
        return EvaluationRow(str(row["id"]), fault=f"no edit: {error}")
    return EvaluationRow(str(row["id"]), before, instruction=said, group=asked.tag, shows=asked.to_json())
