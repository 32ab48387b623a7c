"""`similarity`: how near drawn or redrawn images are to the real ones (SEED paper, table 2).

GILL's protocol: the cosine of CLIP's image features of the drawn and the real image, averaged over the images. SEED's
row of the table redraws each image from its own codes; GILL's and SEED-LLaMA's draw it from a caption. CLIP-T is the
cosine of the drawn image and its caption. All are times 100.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import cosine_similarity

from seed_hf.evaluation.done_rows import features_of_text, features_to_text
from seed_hf.evaluation.drawer import Drawer, DrawingTask
from seed_hf.evaluation.image_encoders import ImageEncoder
from seed_hf.evaluation.metrics.frechet import FeatureStatistics, frechet_distance
from seed_hf.evaluation.metrics.intervals import Mean
from seed_hf.evaluation.metrics.others import Others
from seed_hf.evaluation.rows import EvaluationRow


if TYPE_CHECKING:
    from PIL import Image

SOURCES = ("images", "captions")


class Similarity(DrawingTask):
    """Drawn images beside the real ones.

    Args:
        drawer: Draws.
        encoder: Compares.
        source: What is drawn from: the codes of the "images" themselves, or their first "captions".
        frechet: The encoder of the Frechet distance, such as FID's Inception; by default `encoder`.
        frechet_name: What the distance is called.

    Raises:
        ValueError: Unknown source, or captions without a language model.
    """

    name = "similarity"

    def __init__(
        self,
        drawer: Drawer,
        encoder: ImageEncoder,
        *,
        source: str = "images",
        frechet: ImageEncoder | None = None,
        frechet_name: str = "Frechet distance",
    ):
        if source not in SOURCES:
            raise ValueError(f"source must be one of {', '.join(SOURCES)}, got {source!r}.")
        if source == "captions":
            drawer.check_writes()
        self.drawer, self.encoder, self.source = drawer, encoder, source
        self.frechet, self.frechet_name = frechet, frechet_name

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "source": self.source,
            "caption": "first" if self.source == "captions" else None,
            **self.drawer.settings,
            "encoder": self.encoder.facts,
            "frechet_encoder": self.frechet.facts if self.frechet else None,
        }

    def fault(self, row: EvaluationRow) -> str:
        if row.image is None:
            return "no image"
        if self.source == "images":
            return ""
        return self.drawer.fault(row.captions[0]) if row.captions else "no captions"

    def see(self, images: list[Image.Image]) -> list[dict[str, Any]]:
        codes = self.drawer.encode_images(images) if self.source == "images" else [None] * len(images)
        features = self.encoder.images(images)
        others = self.frechet.images(images) if self.frechet else [None] * len(images)
        return [
            {"codes": row, "features": mine, "frechet": other}
            for row, mine, other in zip(codes, features, others, strict=True)
        ]

    def measure(self, rows: list[EvaluationRow], seen: list[dict[str, Any]]) -> list[dict[str, Any]]:
        ids = [row.id for row in rows]
        if self.source == "images":
            codes = torch.stack([each["codes"] for each in seen])
        else:
            codes = self.drawer.encode_prompts([row.captions[0] for row in rows], ids)
        drawn = self.drawer.draw(codes, ids)
        features = self.encoder.images(drawn)
        said = [row.captions[0] for row in rows if row.captions and self.encoder.reads_text]
        texts = iter(self.encoder.texts(said) if said else ())
        others = self.frechet.images(drawn) if self.frechet else None
        records = []
        for number, real in enumerate(seen):
            record = {"drawn": features_to_text(features[number]), "real": features_to_text(real["features"])}
            if rows[number].captions and self.encoder.reads_text:
                record["text"] = features_to_text(next(texts))
            if others is not None:
                record |= {
                    "drawn_frechet": features_to_text(others[number]),
                    "real_frechet": features_to_text(real["frechet"]),
                }
            records.append(record)
        return records

    def figures(self, records: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        means = {name: Mean() for name in ("similarity", "similarity to another image", "text")}
        drawn, real = (_Statistics(f"{kind}{'_frechet' if self.frechet else ''}") for kind in ("drawn", "real"))
        others = Others()  # the real images' features
        first = None
        for record in records:
            mine, original = features_of_text(record["drawn"]), features_of_text(record["real"])
            means["similarity"].add(_cosine(mine, original))
            if (before := others.before(record, original)) is not None:
                means["similarity to another image"].add(_cosine(mine, before))
            first = first or (record, mine)
            if "text" in record:
                means["text"].add(_cosine(mine, features_of_text(record["text"])))
            drawn.add(record)
            real.add(record)
        if first is not None and (last := others.before(first[0], None)) is not None:
            means["similarity to another image"].add(_cosine(first[1], last))
        low, high = means["similarity"].interval
        figures: dict[str, Any] = {"rows": means["similarity"].rows, "similarity": means["similarity"].mean}
        figures |= {"similarity, low": low, "similarity, high": high}
        for name in ("similarity to another image", "text"):
            if means[name].rows:
                figures["similarity to the caption" if name == "text" else name] = means[name].mean
        if drawn.count > 1:  # a covariance needs two
            figures[self.frechet_name] = frechet_distance(drawn.whole, real.whole)
        return {"all": figures}


class _Statistics:
    """Statistics of the features that records have under a name, added in blocks."""

    _BLOCK = 256

    def __init__(self, name: str):
        self.name, self.count = name, 0
        self._waiting: list[torch.Tensor] = []
        self._statistics: FeatureStatistics | None = None

    def add(self, record: Mapping[str, Any]) -> None:
        self._waiting.append(features_of_text(record[self.name]))
        self.count += 1
        if len(self._waiting) == self._BLOCK:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            self._statistics = self._statistics or FeatureStatistics(len(self._waiting[0]))
            self._statistics.add(torch.stack(self._waiting))
            self._waiting = []

    @property
    def whole(self) -> FeatureStatistics:
        self._flush()
        assert self._statistics is not None  # there are rows
        return self._statistics


def _cosine(first: torch.Tensor, second: torch.Tensor) -> float:
    return 100 * cosine_similarity(first.double(), second.double(), dim=0).item()
