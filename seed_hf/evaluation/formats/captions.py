"""Captions of COCO, NoCaps and Flickr30K, as their authors and Karpathy publish them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from seed_hf.evaluation.rows import EvaluationData, EvaluationRow

from .annotation_files import Entry, check_once, file_text, identity_of, image_path, with_words


def karpathy(file: Path, value: dict, images: Path, split: str | None) -> EvaluationData:
    """`dataset_coco.json` or `dataset_flickr30k.json` of Karpathy's splits.

    Args:
        file, value: The file, and its parsed JSON.
        images: Folder of the images; those of COCO may be in `val2014` and `train2014` in it.
        split: Default: "test".

    Raises:
        ValueError: Fields are missing, or there is no such split.
    """
    split = split or "test"
    found = Entry(value, file.name).entries("images")
    splits = sorted({entry.text("split") for entry in found})
    rows = []
    for entry in found:
        if entry.text("split") != split:
            continue
        name, place = entry.text("filename"), entry.text("filepath", "")
        captions = with_words(sentence.text("raw") for sentence in entry.entries("sentences"))
        row_id = entry.text("cocoid", "") or entry.text("imgid", name)
        rows.append(EvaluationRow(row_id, image_path(images, f"{place}/{name}" if place else name, name), captions))
    if not rows:
        raise ValueError(f"{file}: no images of the split {split!r}; it has {', '.join(splits)}.")
    check_once((row.id for row in rows), f"{file}: the image")
    dataset = value.get("dataset") if isinstance(value.get("dataset"), str) else "captions"
    return EvaluationData(f"{dataset}-karpathy", rows, identity_of(file, split=split))


def coco(file: Path, value: dict, images: Path) -> EvaluationData:
    """`captions_val2014.json` of COCO, or `nocaps_val_4500_captions.json`, whose domains become groups.

    Args:
        file, value: The file, and its parsed JSON.
        images: Folder of the images.

    Raises:
        ValueError: Fields are missing.
    """
    whole = Entry(value, file.name)
    check_once((entry.text("id") for entry in whole.entries("images")), f"{file}: the image")
    captions: dict[str, list[str]] = {entry.text("id"): [] for entry in whole.entries("images")}
    for entry in whole.entries("annotations"):
        image = entry.text("image_id")
        if image not in captions:
            raise ValueError(f"{entry.place}: image_id {image} is of no image of this file.")
        captions[image].append(entry.text("caption"))
    folder = file.stem.rpartition("_")[2]  # of captions_val2017
    rows = []
    for entry in whole.entries("images"):
        row_id = entry.text("id")
        name = entry.text("file_name")
        path = image_path(images, name, f"{folder}/{name}")
        rows.append(EvaluationRow(row_id, path, with_words(captions[row_id]), group=entry.text("domain", "")))
    name = "nocaps" if any(row.group for row in rows) else "coco-captions"
    return EvaluationData(name, rows, identity_of(file))


def flickr30k(file: Path, images: Path, split: str | None) -> EvaluationData:
    """Captions of Flickr30K as text.

    These forms are read: `results_20130124.token` (`NAME.jpg#0`, tab, caption), `results.csv` with the columns
    `image_name| comment_number| comment`, `captions.txt` with the columns `image,caption`, and the CSV with the
    columns `raw`, `split` and `filename`.

    Args:
        file: The file.
        images: Folder of the images.
        split: Of the last form, default "test"; the others are one split.

    Raises:
        ValueError: A line or a column is missing.
    """
    text = file_text(file)
    head = text.partition("\n")[0]
    if "raw" in head and "filename" in head:
        return _flickr_table(file, text, images, split or "test")
    check_no_split(file, split)
    captions: dict[str, list[str]] = {}
    for name, caption in _flickr_pairs(file, text):
        captions.setdefault(name, []).append(caption)
    rows = [EvaluationRow(name, image_path(images, name), tuple(said)) for name, said in captions.items()]
    return EvaluationData("flickr30k", rows, identity_of(file))


def _flickr_pairs(file: Path, text: str) -> Iterator[tuple[str, str]]:
    head = [name.strip() for name in text.partition("\n")[0].split(",")]
    image = next((name for name in ("image", "image_name") if name in head), None)
    caption = next((name for name in ("caption", "comment") if name in head), None)
    if image is None or caption is None:
        yield from _flickr_lines(file, text)
        return
    for place, row in _table(file, text, skipinitialspace=True):
        if not row[image] or not row[caption].strip():
            raise ValueError(f"{place} has no image or no caption.")
        yield row[image], row[caption].strip()


def _table(file: Path, text: str, **options: Any) -> Iterator[tuple[str, dict[str, str]]]:
    """The rows of a CSV, each with what messages call it; all have a value in each column.

    Raises:
        ValueError: A row has fewer or more values, or a quotation mark is not closed.
    """
    table = csv.DictReader(io.StringIO(text, newline=""), strict=True, **options)
    try:
        table.fieldnames = [name.strip() for name in table.fieldnames or ()]
        for number, row in enumerate(table, 1):
            place = f"{file}: row {number}"
            if None in row or None in row.values():
                raise ValueError(
                    f"{place} has {'more' if None in row else 'fewer'} values than there are columns. A value with "
                    "commas stands in quotation marks."
                )
            yield place, row
    except csv.Error as error:
        raise ValueError(f"{file}: line {table.line_num}: {error}. Is a quotation mark not closed?") from error


def _flickr_lines(file: Path, text: str) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip() or number == 1 and line.replace(" ", "").startswith("image_name|"):
            continue
        parts = line.split("\t", 1) if "\t" in line else [part.strip() for part in line.split("|", 2)]
        # One line of the published results.csv has "4   A dog runs across the grass ." in its second column.
        if len(parts) == 2 and "\t" not in line and parts[1][:1].isdigit():
            parts = [parts[0], *parts[1].split(maxsplit=1)]
        if len(parts) < 2 or not parts[-1].strip():
            raise ValueError(
                f"{file}: line {number} has no caption after the name of an image: {line!r:.80}. Lists are read in "
                "the forms of Flickr30K, such as CSV with the columns image and caption; others as metadata.csv or "
                "metadata.jsonl in the folder of their images."
            )
        yield parts[0].partition("#")[0].strip(), parts[-1].strip()


def _flickr_table(file: Path, text: str, images: Path, split: str) -> EvaluationData:
    columns = set(next(csv.reader(io.StringIO(text, newline="")), ()))
    if missing := {"raw", "split", "filename"} - columns:
        raise ValueError(f"{file}: no column {', '.join(sorted(missing))}.")
    rows, splits = [], set()
    for place, line in _table(file, text):
        splits.add(line["split"])
        if line["split"] == split:
            try:
                captions = with_words(Entry({"raw": json.loads(line["raw"])}, place).texts("raw"))
            except json.JSONDecodeError as error:
                raise ValueError(f"{place}: raw is no list of captions ({error}).") from error
            rows.append(EvaluationRow(line["filename"], image_path(images, line["filename"]), captions))
    if not rows:
        found = f"it has {', '.join(sorted(splits))}" if splits else "it has no rows"
        raise ValueError(f"{file}: no rows of the split {split!r}; {found}.")
    check_once((row.id for row in rows), f"{file}: the image")
    return EvaluationData("flickr30k", rows, identity_of(file, split=split))


def check_no_split(file: Path, split: str | None) -> None:
    """Raises `ValueError` if a split is asked for.

    Args:
        file: That has none.
        split: What was asked for.
    """
    if split is not None:
        raise ValueError(f"{file}: this file is one split, so it has no {split!r}. Leave out --split.")
