"""Finds out what a file of a benchmark is, by what is in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from seed_hf.evaluation.rows import EvaluationData

from .annotation_files import read_any_json
from .captions import check_no_split, coco, flickr30k, karpathy
from .own_rows import own_rows, own_table
from .parquet_files import has_columns
from .pictograms import holds_pictograms, pictogram_data
from .questions import gqa, seed_bench, vizwiz, vqa


_TEXT = (".csv", ".token", ".txt")
_JSON = (".json", ".jsonl")


def is_benchmark(path: str | Path) -> bool:
    """Whether [`open_benchmark`] reads this, and no source of images does.

    Args:
        path: A file, a folder, or something else.
    """
    path = Path(path)
    if path.suffix.lower() in (*_TEXT, *_JSON) or holds_pictograms(path):
        return True
    return has_columns(path, ("question",))  # which sources of images with captions pass over


def open_benchmark(
    path: str | Path,
    *,
    images: str | Path | None = None,
    annotations: str | Path | None = None,
    split: str | None = None,
    questions: bool = False,
) -> EvaluationData:
    """The rows of a benchmark's annotation file, as it is published.

    Args:
        path: The file, whose content says which format it has; or the folder of the pictograms.
        images: Folder of the images; default: the folder of the file.
        annotations: The answers to the questions of VQAv2 or OK-VQA, which alone have such a file.
        split: Where a file has several.
        questions: Of the pictograms, questions about the images instead of captions.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: No format that is read, or fields are missing, or something is given that the format does not have.
    """
    file = Path(path)
    if holds_pictograms(file):
        if images is not None:
            raise ValueError(f"{file}: the pictograms have their images with them; leave --images out.")
        _check_no_answers(file, annotations)
        return pictogram_data(file, split, questions=questions)
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such file. Give the annotation file of a benchmark, as it is published.")
    folder = Path(images) if images is not None else file.parent
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder of images.")
    if file.suffix.lower() in (*_TEXT, ".parquet"):
        _check_no_answers(file, annotations)
    if file.suffix.lower() in _TEXT:
        return flickr30k(file, folder, split)
    if file.suffix.lower() == ".parquet":
        check_no_split(file, split)
        return own_table(file, folder)
    value = read_any_json(file)
    reader = _reader(value)
    if reader is None:
        held = f"an object with {', '.join(map(str, list(value)[:8]))}" if isinstance(value, dict) else "no objects"
        raise ValueError(
            f"{file}: {held}, which is no benchmark that is read. Known are the files of COCO, NoCaps, Karpathy's "
            "splits, Flickr30K, VQAv2, OK-VQA, VizWiz, GQA and SEED-Bench, and lists of rows of your own."
        )
    if reader is vqa:
        check_no_split(file, split)
        return vqa(file, value, folder, None if annotations is None else Path(annotations))
    _check_no_answers(file, annotations)
    if reader is karpathy:
        return karpathy(file, value, folder, split)
    check_no_split(file, split)
    return reader(file, value, folder)


def _reader(value: Any) -> Callable[..., EvaluationData] | None:
    if isinstance(value, list):
        first = _first(value)
        if "answerable" in first or str(first.get("image", "")).startswith("VizWiz_"):
            return vizwiz
        return own_rows if "image" in first else None
    if not isinstance(value, dict):
        return None
    if isinstance(value.get("images"), list):
        if "sentences" in _first(value["images"]):
            return karpathy
        return coco if "annotations" in value else None
    if isinstance(value.get("questions"), list):
        return seed_bench if "choice_a" in _first(value["questions"]) else vqa
    return gqa if "imageId" in _first(list(value.values())) else None


def _check_no_answers(file: Path, annotations: str | Path | None) -> None:
    if annotations is not None:
        raise ValueError(
            f"{file} has its answers in it, or none; --annotations goes with questions of VQAv2 or OK-VQA."
        )


def _first(values: list) -> dict[str, Any]:
    return values[0] if values and isinstance(values[0], dict) else {}
