"""`generation`: does a drawing show what its prompt asks for: objects, numbers, colours and places (GenEval).

The prompts say what their images must show; a detector says what they show; GenEval's rules compare both
(`seed_hf.evaluation.detections`). On scenes of the small world the detector is the judge, and the real image of each
row is judged beside the drawing: that figure is the ceiling.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch

from seed_hf.evaluation.detections import Asked, Detection, Detector, check
from seed_hf.evaluation.drawer import Drawer, DrawingTask
from seed_hf.evaluation.metrics.intervals import Share
from seed_hf.evaluation.rows import EvaluationRow


if TYPE_CHECKING:
    from PIL import Image

FIELDS = ("correct", "objects", "number", "colours", "relations")
SOURCES = ("captions", "images", "edits")


class Generation(DrawingTask):
    """Drawings from prompts, redrawings of images from their own codes, or edits, under a detector.

    Beside a drawing stands the row's own image under the same rules: the real one, or, of an edit, the one before.

    Args:
        drawer: Draws.
        detector: Sees.
        source: What is drawn from: "captions" through the language model, the codes of "images", or, for "edits",
            an image and an instruction through the language model.
        count_valid_spans: Also count after how many prompts the language model writes a whole image by itself,
            without the constraint. Only for captions.

    Raises:
        ValueError: Unknown source, valid spans without captions, or no language model where one is needed.
    """

    name = "generation"

    def __init__(
        self, drawer: Drawer, detector: Detector, *, source: str = "captions", count_valid_spans: bool = False
    ):
        if source not in SOURCES:
            raise ValueError(f"source must be one of {', '.join(SOURCES)}, got {source!r}.")
        if count_valid_spans and source != "captions":
            raise ValueError("Valid spans are counted where the language model draws: with source captions.")
        if source != "images":
            drawer.check_writes()
        self.drawer, self.detector, self.source = drawer, detector, source
        self.count_valid_spans = count_valid_spans

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "source": self.source,
            **self.drawer.settings,
            "detector": dict(self.detector.facts),
            "count_valid_spans": self.count_valid_spans,
        }

    def fault(self, row: EvaluationRow) -> str:
        if self.source != "captions" and row.image is None:
            return "no image to redraw"
        if self.source == "edits" and not row.instruction:
            return "no instruction"
        if self.source == "images" and row.instruction:
            return "what it must show is an edit of its image, not its image"
        if self.source == "captions" and not row.captions:
            return "no prompt"
        if not row.shows:
            return "nothing says what its image must show; give prompts in GenEval's form, or scenes"
        try:
            asked = Asked.from_metadata(json.loads(row.shows))
        except ValueError as error:
            return str(error)
        if unknown := sorted(asked.labels - set(self.detector.labels)):
            return f"the detector does not know {unknown[0]!r}"
        if self.source == "images":
            return ""
        edits = self.source == "edits"
        return self.drawer.fault_of_edit(row.instruction) if edits else self.drawer.fault(row.captions[0])

    def see(self, images: list[Image.Image]) -> list[dict[str, Any]]:
        found = self.detector.detect([image.resize(self.drawer.size) for image in images])
        codes = self.drawer.encode_images(images) if self.source != "captions" else [None] * len(images)
        return [{"found": each, "codes": row} for each, row in zip(found, codes, strict=True)]

    def measure(self, rows: list[EvaluationRow], seen: list[dict[str, Any] | None]) -> list[dict[str, Any]]:
        ids = [row.id for row in rows]
        if self.source == "captions":
            codes = self.drawer.encode_prompts([row.captions[0] for row in rows], ids)
        else:
            codes = torch.stack([each["codes"] for each in seen if each is not None])
        if self.source == "edits":
            codes = self.drawer.encode_edits(codes, [row.instruction for row in rows], ids)
        found = self.detector.detect(self.drawer.draw(codes, ids))
        prompts = [row.captions[0] for row in rows if row.captions]
        valid = self.drawer.writes_valid_spans(prompts) if self.count_valid_spans else []
        records = []
        for number, (row, real, drawn) in enumerate(zip(rows, seen, found, strict=True)):
            asked = Asked.from_metadata(json.loads(row.shows))
            record: dict[str, Any] = {"group": asked.tag, "drawn": self._judged(asked, drawn)}
            if real is not None:
                record["before" if self.source == "edits" else "real"] = self._judged(asked, real["found"])
            if self.count_valid_spans:
                record["valid_span"] = valid[number]
            records.append(record)
        return records

    def _judged(self, asked: Asked, found: Sequence[Detection]) -> dict[str, Any]:
        """A verdict and what it rests on, ready for JSON."""
        if asked.tag == "counting":
            found = [each for each in found if each.score >= self.detector.counting_score]
        seen = [[each.label, each.colour, *(round(side, 4) for side in each.box)] for each in found]
        return {**asdict(check(asked, found)), "found": seen}

    def figures(self, records: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        groups: dict[str, dict[str, Share]] = {"all": {}}
        for record in records:
            counted = [
                (f"{before}{name}", value)
                for before, kind in (("", "drawn"), ("real: ", "real"), ("before: ", "before"))
                for name, value in _counted(record.get(kind))
            ]
            counted.append(("valid spans without the constraint", record.get("valid_span")))
            for group in ("all", record["group"]):
                shares = groups.setdefault(group, {})
                for name, value in counted:
                    if value is not None:
                        shares.setdefault(name, Share()).add(value)
        found = {group: _figures(shares) for group, shares in groups.items()}
        tags = [found[group]["correct"] for group in groups if group != "all"]
        found["all"]["mean of tags"] = sum(tags) / len(tags)
        return found


def _counted(verdict: Mapping[str, Any] | None) -> list[tuple[str, bool | None]]:
    return [(field, verdict[field]) for field in FIELDS] if verdict else []


def _figures(shares: Mapping[str, Share]) -> dict[str, Any]:
    low, high = shares["correct"].interval
    figures: dict[str, Any] = {"rows": shares["correct"].rows, "correct": shares["correct"].percent}
    figures |= {"correct, low": low, "correct, high": high}
    return {**figures, **{name: share.percent for name, share in shares.items() if name != "correct"}}
