"""`roundtrip`: codes -> image -> codes: how well a model reads what it draws.

The codes that the language model writes for a caption, or those of an image, are drawn, and the tokenizer reads the
drawing again. Two things count: the share of codes that come back equal, place by place; and the rank of the own
caption among candidates, by the language model's likelihood given the codes that were read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from seed_hf.devices import generator_of
from seed_hf.evaluation.drawer import Drawer, DrawingTask, seed_of
from seed_hf.evaluation.likelihoods import caption_likelihoods
from seed_hf.evaluation.metrics.intervals import Mean, Share
from seed_hf.evaluation.metrics.others import Others
from seed_hf.evaluation.rows import EvaluationRow
from seed_hf.evaluation.text_generator import TextGenerator


if TYPE_CHECKING:
    from PIL import Image

SOURCES = ("captions", "images")
AMONG = (1, 5)


class Roundtrip(DrawingTask):
    """Drawings read again.

    Args:
        drawer: Draws and reads.
        source: What is drawn from: "captions" through the language model, or the codes of "images".
        candidates: Captions that the own one is ranked among; () for no ranks. Those that do not fit into the model
            are left out.
        best_of: Of so many sampled code sequences, keep the one of which most codes come back; 1 for the drawer's own
            way. Only for captions.

    Raises:
        ValueError: Unknown source, several sequences without captions, or no language model where one is needed.
    """

    name = "roundtrip"

    def __init__(self, drawer: Drawer, *, source: str = "captions", candidates: Sequence[str] = (), best_of: int = 1):
        if source not in SOURCES:
            raise ValueError(f"source must be one of {', '.join(SOURCES)}, got {source!r}.")
        if best_of < 1 or best_of > 1 and source != "captions":
            raise ValueError(f"best_of must be at least 1, and 1 for images, got {best_of}.")
        if source == "captions" or candidates:
            drawer.check_writes()
        self.drawer, self.source, self.best_of = drawer, source, best_of
        self._text_generator = (
            TextGenerator(drawer.model, drawer.pipeline.processor, "caption") if candidates else None
        )
        self.candidates = [text for text in dict.fromkeys(candidates) if not self._no_room(text)]

    @property
    def settings(self) -> dict[str, Any]:
        digest = hashlib.sha256("\n".join(self.candidates).encode()).hexdigest()
        return {
            "source": self.source,
            **self.drawer.settings,
            "best_of": self.best_of,
            "candidates": len(self.candidates),
            "candidates_sha256": digest if self.candidates else None,
            **(
                {"caption_prompt": self._text_generator.prompt_settings["caption_prompt"]}
                if self._text_generator
                else {}
            ),
        }

    def fault(self, row: EvaluationRow) -> str:
        if self.source == "images" and row.image is None:
            return "no image"
        if not row.captions:
            return "no captions" if self.source == "captions" or self.candidates else ""
        if self.source == "captions" and (fault := self.drawer.fault(row.captions[0])):
            return fault
        return self._no_room(row.captions[0])

    def _no_room(self, caption: str) -> str:
        """Why the likelihood of a caption cannot be told: it does not fit behind the codes."""
        return self._text_generator.fault(answer=caption) if self._text_generator else ""

    def see(self, images: list[Image.Image]) -> list[Any]:
        return list(self.drawer.encode_images(images)) if self.source == "images" else [None] * len(images)

    def measure(self, rows: list[EvaluationRow], seen: list[Any]) -> list[dict[str, Any]]:
        ids, captions = [row.id for row in rows], [row.captions[0] if row.captions else "" for row in rows]
        if self.source == "images":
            written = torch.stack(list(seen))
        elif self.best_of > 1:
            written = torch.cat([best_codes(self.drawer, *pair, self.best_of)[:1] for pair in zip(captions, ids)])
        else:
            written = self.drawer.encode_prompts(captions, ids)
        read = self.drawer.encode_images(self.drawer.draw(written, ids))
        records = [
            {"written": first, "read": again, "equal": equal}
            for first, again, equal in zip(
                written.tolist(), read.tolist(), (written == read).double().mean(1).tolist(), strict=True
            )
        ]
        if self.candidates:
            processor = self.drawer.pipeline.processor
            texts = list(dict.fromkeys([*self.candidates, *captions]))
            scores, _ = caption_likelihoods(self.drawer.model, processor, read, texts, len(read))
            for record, row, caption in zip(records, scores, captions, strict=True):
                own = row[texts.index(caption)]
                others = [texts.index(text) for text in self.candidates if text != caption]
                record["rank"] = 1 + int((row[others] >= own).sum())  # ties count against the model
        return records

    def figures(self, records: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        equal, shuffled, whole = Mean(), Mean(), Share()
        first: dict[int, Share] = {place: Share() for place in AMONG}
        ranks = Mean()
        others = Others()  # codes that were read
        for record in records:
            equal.add(100 * record["equal"])
            whole.add(record["equal"] == 1)
            if (before := others.before(record, record["read"])) is not None:
                same = sum(a == b for a, b in zip(record["written"], before, strict=True))
                shuffled.add(100 * same / len(before))
            if "rank" in record:
                ranks.add(record["rank"])
                for place, share in first.items():
                    share.add(record["rank"] <= place)
        low, high = equal.interval
        figures: dict[str, Any] = {"rows": equal.rows, "equal codes": equal.mean}
        figures |= {"equal codes, low": low, "equal codes, high": high, "all codes equal": whole.percent}
        if shuffled.rows:
            figures["equal to those of another drawing"] = shuffled.mean
        if ranks.rows:
            figures |= {f"own caption among the first {place}": share.percent for place, share in first.items()}
            figures["mean rank of the own caption"] = ranks.mean
        return {"all": figures}


def best_codes(drawer: Drawer, prompt: str, row_id: str, number: int) -> torch.Tensor:
    """Sampled code sequences of a prompt, `(number, 32)`, those first of which most codes come back when drawn.

    Args:
        drawer: Draws and reads.
        prompt: What to draw.
        row_id: Decides with the drawer's seed what is sampled, and the noise.
        number: Sequences to sample.
    """
    generator = generator_of(seed_of(drawer.seed, row_id))
    options = {"do_sample": True, "top_k": 0, **drawer.generation_kwargs, "num_return_sequences": number}
    codes = drawer.pipeline.encode_prompt(prompt, generator, options, num_candidates=1).cpu()
    read = drawer.encode_images(drawer.draw(codes, [row_id] * number))
    return codes[(codes == read).double().mean(1).argsort(descending=True, stable=True)]


def some_candidates(captions: Iterable[str], number: int, seed: int = 0) -> list[str]:
    """Distinct captions to rank among, drawn by seed, whatever their order.

    Args:
        captions: Of the data.
        number: How many at most.
        seed: Of the draw.
    """
    distinct = sorted(set(captions), key=lambda text: (seed_of(seed, text), text))
    return distinct[:number]
