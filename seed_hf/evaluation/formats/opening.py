"""Finds out what a file of a benchmark is, by what is in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from seed_hf.evaluation.rows import EvaluationData

from .captions import coco, flickr30k, karpathy
from .json_files import read_any_json


FORMATS = "COCO and NoCaps captions, Karpathy's splits, Flickr30K"
_TEXT = (".csv", ".token", ".txt")
_JSON = (".json", ".jsonl")


def is_benchmark(path: str | Path) -> bool:
    """Whether [`open_benchmark`] reads this, and no source of images does.

    Args:
        path: A file, or something else.
    """
    return Path(path).suffix.lower() in (*_TEXT, *_JSON)


def open_benchmark(path: str | Path, *, images: str | Path | None = None, split: str | None = None) -> EvaluationData:
    """The rows of a benchmark's annotation file, as it is published.

    Args:
        path: The file. Its content says which format it has.
        images: Folder of the images; default: the folder of the file.
        split: Where a file has several.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: No format that is read, or fields are missing.
    """
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such file. Give the annotation file of a benchmark, as it is published.")
    folder = Path(images) if images is not None else file.parent
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder of images.")
    if file.suffix.lower() in _TEXT:
        return flickr30k(file, folder, split)
    value = read_any_json(file)
    if isinstance(value, dict) and isinstance(value.get("images"), list):
        first: Any = value["images"][0] if value["images"] else {}
        if isinstance(first, dict) and "sentences" in first:
            return karpathy(file, value, folder, split)
        if "annotations" in value:
            return coco(file, value, folder, split)
    held = f"an object with {', '.join(map(str, list(value)[:8]))}" if isinstance(value, dict) else "a list"
    raise ValueError(f"{file}: {held}, which is no benchmark that is read. Known are {FORMATS}.")
