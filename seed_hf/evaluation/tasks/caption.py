"""`caption`: captions against what people wrote, scored as COCO's evaluation does (SEED paper, table 3)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from seed_hf.evaluation.metrics.caption_scores import ScoredCaption, caption_scores
from seed_hf.evaluation.metrics.caption_words import caption_words, normalize_text
from seed_hf.evaluation.rows import EvaluationRow, Reread
from seed_hf.evaluation.text_generator import TextGenerator, TextTask


DECLINED = {
    "METEOR": "only as a Java program with 60 MB of paraphrases; nltk's is another metric",
    "SPICE": "only as a Java program that fetches Stanford's parser",
}


class Caption(TextTask):
    """Captions of images.

    Args:
        model: A [`SeedForConditionalGeneration`].
        processor: Its [`SeedProcessor`]; the prompt is its `caption_prompt`.
        prompt: Replaces the processor's.
        decoding: `num_beams`, `max_new_tokens`, `length_penalty` of [`Decoding`], where they are not the default.
    """

    name = "caption"

    def __init__(self, model: Any, processor: Any, *, prompt: str | None = None, **decoding: Any):
        self.text_generator = TextGenerator(model, processor, "caption", prompt, decoding, benchmark=True)

    @property
    def settings(self) -> dict[str, Any]:
        return {
            **self.text_generator.settings,
            "words": "Penn Treebank, lower case, without punctuation",
            "left_out": DECLINED,
        }

    def fault(self, row: EvaluationRow) -> str:
        if row.image is None:
            return "no image"
        return self.text_generator.fault() if row.captions else "no captions"

    def length(self, row: EvaluationRow) -> int:
        return 0

    def measure(self, rows: list[EvaluationRow], seen: list[list[int]]) -> list[dict[str, Any]]:
        return [
            {"said": said, "captions": list(row.captions), "group": row.group}
            for row, said in zip(rows, self.text_generator.generate(seen), strict=True)
        ]

    def figures(self, records: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        """All scores of all rows, and of each group by itself: its document frequencies are its own."""
        groups = list(dict.fromkeys(record["group"] for record in records))
        own = {group: Reread(_of_group, records, group) for group in groups if group} if len(groups) > 1 else {}
        named = {"all": records, **own}
        known = {normalize_text(caption) for record in records for caption in record["captions"]}
        images = {name: _Images(found) for name, found in named.items()}
        return {
            name: {**caption_scores(Reread(_words, found)), **_matches(found, known)} for name, found in images.items()
        }


def _matches(records: Iterable[Mapping[str, Any]], known: set[str]) -> dict[str, Any]:
    """Shares of captions that are one of the image's own, and one of any image's."""
    count = exact = from_set = 0
    for record in records:
        said = normalize_text(record["said"])
        count += 1
        exact += said in {normalize_text(caption) for caption in record["captions"]}
        from_set += said in known
    return {"exact_match": 100 * exact / count, "known_captions": 100 * from_set / count, "num_images": count}


def _of_group(records: Iterable[Mapping[str, Any]], group: str) -> Iterator[Mapping[str, Any]]:
    return (record for record in records if record["group"] == group)


class _Images:
    """A record for each image, with the captions of all its rows: in some data each caption has a row of its own."""

    def __init__(self, records: Iterable[Mapping[str, Any]]):
        self._records = records
        rows = Counter(record.get("image") for record in records)
        self._captions: dict[str, list[str]] = {image: [] for image, count in rows.items() if image and count > 1}
        for record in records:
            if (image := record.get("image")) in self._captions:
                self._captions[image] += record["captions"]

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        done = set()
        for record in self._records:
            if (image := record.get("image")) not in self._captions:
                yield record
            elif image not in done:
                done.add(image)
                yield {**record, "captions": self._captions[image]}


def _words(records: Iterable[Mapping[str, Any]]) -> Iterator[ScoredCaption]:
    for record in records:
        yield ScoredCaption(caption_words(record["said"]), [caption_words(text) for text in record["captions"]])
