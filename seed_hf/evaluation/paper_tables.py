"""The tables of the SEED paper (arXiv 2307.08041): what each row is measured on, and what the paper prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


Figures = Mapping[str, Mapping[str, float]]
_RECALLS = ("TR@1", "TR@5", "TR@10", "IR@1", "IR@5", "IR@10", "R@m")
_UNKNOWN_DECODING = "The paper says nothing of beams and lengths."


@dataclass(frozen=True)
class PaperRow:
    """A row of a table.

    Args:
        name: What `--rows` calls it.
        task: "retrieval", "similarity", "caption" or "vqa".
        data, images: Annotation file and folder of images, in the folder of all data.
        published: The paper's figures for SEED, from groups to metrics.
        annotations: File of answers, where there is one.
        note: What is unknown, or is not measured.
    """

    name: str
    task: str
    data: str
    images: str
    published: Figures = field(default_factory=dict)
    annotations: str | None = None
    note: str = ""

    def files(self, folder: Path) -> list[Path]:
        """The files and folders that the row needs.

        Args:
            folder: Of all data.
        """
        return [folder / name for name in (self.data, self.images, self.annotations) if name]


def _recalls(*values: float) -> dict[str, float]:
    return dict(zip(_RECALLS, values, strict=True))


_COCO, _FLICKR = ("coco/dataset_coco.json", "coco"), ("flickr30k/dataset_flickr30k.json", "flickr30k/images")
_VQA = "vqav2/v2_OpenEnded_mscoco_val2014_questions.json"
TABLES: dict[int, tuple[PaperRow, ...]] = {
    1: (
        PaperRow(
            "flickr30k",
            "retrieval",
            *_FLICKR,
            {
                "codes": _recalls(86.3, 98.6, 99.5, 75.9, 93.2, 96.7, 91.7),
                "embeddings": _recalls(90.0, 99.6, 99.9, 80.0, 95.3, 97.6, 93.7),
            },
        ),
        PaperRow(
            "coco",
            "retrieval",
            *_COCO,
            {
                "codes": _recalls(65.7, 88.1, 93.8, 52.5, 78.0, 86.0, 77.4),
                "embeddings": _recalls(71.9, 91.1, 95.9, 56.7, 80.7, 87.7, 80.7),
            },
        ),
    ),
    2: (
        PaperRow("coco", "similarity", *_COCO, {"all": {"similarity": 68.23}}, note="Which CLIP is not said."),
        PaperRow("flickr30k", "similarity", *_FLICKR, {"all": {"similarity": 65.22}}, note="Which CLIP is not said."),
    ),
    3: (
        PaperRow(
            "nocaps",
            "caption",
            "nocaps/nocaps_val_4500_captions.json",
            "nocaps/images",
            note=f"The paper prints SPICE, a Java program, which is not measured here. {_UNKNOWN_DECODING}",
        ),
        PaperRow(
            "coco",
            "caption",
            *_COCO,
            {"all": {"BLEU-4": 34.6, "ROUGE-L": 56.4, "CIDEr-D": 119.0}},
            note=f"The paper's METEOR and SPICE are not measured here. {_UNKNOWN_DECODING}",
        ),
        PaperRow(
            "vqav2",
            "vqa",
            _VQA,
            "coco",
            {"all": {"accuracy": 42.8}},
            annotations="vqav2/v2_mscoco_val2014_annotations.json",
            note=_UNKNOWN_DECODING,
        ),
        PaperRow(
            "gqa",
            "vqa",
            "gqa/testdev_balanced_questions.json",
            "gqa/images",
            {"all": {"accuracy": 28.8}},
            note=f"Which split is not said. {_UNKNOWN_DECODING}",
        ),
    ),
}


def rows_of(table: int, names: Sequence[str] | None, folder: Path) -> list[PaperRow]:
    """The rows to measure; all their files are there.

    Args:
        table: 1, 2 or 3.
        names: Of the rows; `None` for all.
        folder: Of all data.

    Raises:
        ValueError: No such table or row.
        FileNotFoundError: Files are missing; the message lists them.
    """
    if table not in TABLES:
        raise ValueError(f"The paper's tables are {', '.join(map(str, TABLES))}; got {table}.")
    known = {row.name: row for row in TABLES[table]}
    if names is not None and not names:
        raise ValueError(f"Table {table} has the rows {', '.join(known)}; got none of them.")
    if unknown := [name for name in names or () if name not in known]:
        raise ValueError(f"Table {table} has the rows {', '.join(known)}; got {', '.join(unknown)}.")
    rows = [row for name, row in known.items() if names is None or name in names]
    missing = [str(file) for row in rows for file in row.files(folder) if not file.exists()]
    if missing:
        raise FileNotFoundError(
            f"Table {table} needs files that are not there: {', '.join(dict.fromkeys(missing))}. Get them, or choose "
            f"some of the rows {', '.join(known)} with --rows."
        )
    return rows


def comparison(table: int, results: Sequence[tuple[PaperRow, Mapping[str, Any]]]) -> str:
    """Measured beside published figures, as Markdown.

    Args:
        table: Its number.
        results: The rows that were measured, each with its result.
    """
    lines = [f"# Table {table} of the SEED paper", "", "| row | figure | paper | measured | difference |"]
    lines += ["| --- | --- | --- | --- | --- |"]
    for row, result in results:
        for group, metrics in row.published.items():
            for metric, value in metrics.items():
                measured = result["figures"][group][metric]
                name = metric if group == "all" else f"{group}, {metric}"
                lines.append(f"| {row.name} | {name} | {value} | {measured:.2f} | {measured - value:+.2f} |")
    said = [f"- {row.name}: {text}" for row, result in results for text in (row.note, *_remarks(result)) if text]
    return "\n".join([*lines, "", *said]).rstrip() + "\n"


def _remarks(result: Mapping[str, Any]) -> list[str]:
    data = result["data"]
    part = [f"Only the first {data['limit']} rows: not comparable."] if data.get("limit") else []
    bad = [f"{len(data['bad_rows'])} rows could not be used."] if data["bad_rows"] else []
    return [*part, *bad, *result["deviations"]]
