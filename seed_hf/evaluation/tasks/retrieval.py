"""`retrieval`: find the captions of an image, and the image of a caption (SEED paper, table 1).

The authors' protocol (`retrieval_evaluation` of their repository): similarity of the last query's embedding alone,
without re-ranking; all captions of all images are candidates; an image is right at k if any of its captions is among
its k best (TR@k), a caption if its image is among its k best (IR@k). R@m is the mean of the six recalls.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch

from seed_hf.artifacts.fingerprints import rules_fingerprint
from seed_hf.evaluation.done_rows import features_of_text, features_to_text
from seed_hf.evaluation.metrics.retrieval import retrieval_recalls
from seed_hf.evaluation.result import image_settings, model_facts
from seed_hf.evaluation.rows import EvaluationRow
from seed_hf.inference import encode_pixels
from seed_hf.modeling.plain_text_seed import plain_text_encoder


if TYPE_CHECKING:
    from PIL import Image

USES = ("codes", "embeddings")
MAX_TEXT_TOKENS = 35  # of the authors' retrieval evaluation


class Retrieval:
    """Image-text retrieval by the contrastive features of stage I.

    Args:
        tokenizer: A [`SeedTokenizer`] with a text tower.
        image_processor: Prepares the images.
        text_tokenizer: The text tokenizer of stage I.
        use: What the images are ranked by: "codes", the embeddings reconstructed from the 32 codes ("causal code" in
            the paper); "embeddings", the continuous causal embeddings; or both.
        max_text_tokens: Longer captions are cut; by default 35 or as many as the text tower takes.

    Raises:
        ValueError: The tokenizer has no text tower, the text tokenizer is another one, or an unknown use.
    """

    name = "retrieval"

    def __init__(
        self,
        tokenizer: Any,
        image_processor: Any,
        text_tokenizer: Any,
        *,
        use: tuple[str, ...] = USES,
        max_text_tokens: int | None = None,
    ):
        if not tokenizer.config.text_tower:
            raise ValueError("This tokenizer has no text tower, so it cannot compare images and captions.")
        if not use or set(use) - set(USES):
            raise ValueError(f"use must be some of {', '.join(USES)}; got {', '.join(use) or 'nothing'}.")
        limit = tokenizer.config.qformer_config.max_position_embeddings
        if max_text_tokens is not None and not 1 < max_text_tokens <= limit:
            raise ValueError(f"max_text_tokens must lie in 2..{limit} for this text tower, got {max_text_tokens}.")
        self.tokenizer, self.image_processor, self.text_tokenizer = tokenizer, image_processor, text_tokenizer
        self.use = tuple(name for name in USES if name in use)
        self.max_text_tokens = max_text_tokens or min(MAX_TEXT_TOKENS, limit)
        self._encoder = plain_text_encoder(text_tokenizer, framed=True)
        words, known = max(self._encoder.vocabulary().values()) + 1, tokenizer.config.qformer_config.vocab_size
        if words > known:
            raise ValueError(
                f"The text tokenizer has {words} words and the text tower {known}: it is not the one of stage I. Give "
                "the folder of the visual tokenizer itself, with its own text tokenizer in it."
            )

    @property
    def settings(self) -> dict[str, Any]:
        settings = {"use": list(self.use), "max_text_tokens": self.max_text_tokens, "reranking": None}
        return {**settings, **image_settings(self.image_processor)}

    @property
    def protocol(self) -> dict[str, Any]:
        return {"max_text_tokens": MAX_TEXT_TOKENS, "reranking": None}

    @property
    def model(self) -> dict[str, Any]:
        return {**model_facts(self.tokenizer), "text_tokenizer": rules_fingerprint(self.text_tokenizer)}

    def fault(self, row: EvaluationRow) -> str:
        if row.image is None:
            return "no image"
        return "" if row.captions else "no captions"

    def length(self, row: EvaluationRow) -> int:
        return max(len(caption) for caption in row.captions)

    @torch.inference_mode()
    def see(self, images: list[Image.Image]) -> list[dict[str, torch.Tensor]]:
        pixels = self.image_processor(images, return_tensors="pt")["pixel_values"]
        pixels = pixels.to(self.tokenizer.device, self.tokenizer.dtype)
        found = {}
        if "codes" in self.use:
            codes = encode_pixels(self.tokenizer, pixels)
            found["codes"] = self.tokenizer.get_image_features(codes=codes).pooler_output
        if "embeddings" in self.use:
            found["embeddings"] = self.tokenizer.get_image_features(pixels).pooler_output
        return [{name: features[row].float().cpu() for name, features in found.items()} for row in range(len(images))]

    @torch.inference_mode()
    def measure(self, rows: list[EvaluationRow], seen: list[dict[str, torch.Tensor]]) -> list[dict[str, Any]]:
        texts = iter(self._text_features([caption for row in rows for caption in row.captions], len(rows)))
        return [
            {
                "captions": list(row.captions),
                "texts": [features_to_text(next(texts)) for _ in row.captions],
                "images": {name: features_to_text(features) for name, features in image.items()},
            }
            for row, image in zip(rows, seen, strict=True)
        ]

    def _text_features(self, captions: list[str], batch_size: int) -> Iterator[torch.Tensor]:
        for start in range(0, len(captions), batch_size):
            ids = [self._encoder.framed(text, self.max_text_tokens) for text in captions[start : start + batch_size]]
            batch = self.text_tokenizer.pad(
                {"input_ids": ids}, padding=True, padding_side="right", return_tensors="pt"
            ).to(self.tokenizer.device)
            features = self.tokenizer.get_text_features(batch["input_ids"], batch["attention_mask"]).pooler_output
            yield from features.float().cpu()

    def figures(self, records: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        index: dict[str, int] = {}
        rows_of: dict[Any, int] = {}
        texts: list[torch.Tensor] = []
        pairs: list[tuple[int, int]] = []
        images: dict[str, list[torch.Tensor]] = {name: [] for name in self.use}
        for number, record in enumerate(records):
            image = rows_of.setdefault(record.get("image", number), len(rows_of))
            for caption, features in zip(record["captions"], record["texts"], strict=True):
                if caption not in index:  # a caption of several images is one candidate
                    index[caption] = len(texts)
                    texts.append(features_of_text(features))
                pairs.append((image, index[caption]))
            for name, features in record["images"].items():
                if image == len(images[name]):  # an image of several rows, each with a caption, is one, too
                    images[name].append(features_of_text(features))
        own = torch.tensor(sorted(set(pairs)))
        cut = sum(self._encoder.framed_length(caption) > self.max_text_tokens for caption in index)
        candidates, counts = torch.stack(texts), {"shared_captions": len(own) - len(texts), "cut_captions": cut}
        return {
            name: {**retrieval_recalls(torch.stack(features), candidates, own), **counts}
            for name, features in images.items()
        }
