"""What is shown of a visual tokenizer while it is trained: matches in stage I, codes and redrawings in stage II."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from PIL import Image

from seed_hf.codes import CodebookUsage
from seed_hf.data.batches.image_text import mean_and_std
from seed_hf.data.batches.row_values import captions_of
from seed_hf.images.cards import Card

from .watched_drawings import Drawer
from .watching import spread


Shown = tuple[list[Card], torch.Tensor | None]
_NEAREST = 3


class WatchedMatches:
    """Stage I: the captions that are nearest to each image, among those of the rows that were looked at.

    Args:
        trainer ([`ContrastiveTrainer`]): Whose collator makes the batch.
        rows: Of the validation set.
        number: How many of them are shown.
    """

    used_by = ""

    def __init__(self, trainer: Any, rows: list[Mapping[str, Any]], number: int):
        self.batch, self.captions = _batch_of(trainer, rows), _captions(rows, trainer.data_collator)
        self.shown = spread(list(range(len(rows))), number)
        self.images = _images(self.batch, trainer.data_collator)

    def show(self, model: Any) -> Shown:
        outputs = model(**_on(self.batch, model), stage="contrastive")
        likeness = (outputs.image_features @ outputs.text_features.T).float().cpu()
        return [self._card(place, likeness[place]) for place in self.shown], None

    def _card(self, place: int, likeness: torch.Tensor) -> Card:
        best: dict[str, float] = {}
        for other in likeness.argsort(descending=True).tolist():
            best.setdefault(self.captions[other], likeness[other].item())
        rank = list(best).index(self.captions[place]) + 1
        texts = [("is", self.captions[place]), ("found", f"rank {rank} of {len(best)}")]
        texts += [(f"{value:.2f}", caption) for caption, value in list(best.items())[:_NEAREST]]
        return Card([("image", self.images[place])] if self.images else [], texts=texts)


class WatchedCodes:
    """Stage II: each image, its codes, what is drawn from them, and the codes that the whole validation set uses.

    Args:
        trainer ([`QuantizationTrainer`]): Whose collator makes the batch.
        rows: Of the validation set.
        number: How many of them are shown.
    """

    used_by = "the validation set"

    def __init__(self, trainer: Any, rows: list[Mapping[str, Any]], number: int):
        rows = spread(rows, number)
        self.batch = _batch_of(trainer, rows)
        self.images = _images(self.batch, trainer.data_collator)
        self.captions = _captions(rows, trainer.data_collator)
        self.evaluated: Callable[[], CodebookUsage] = lambda: trainer.evaluated
        args = trainer.args
        self.drawer = Drawer(args.watch_pipeline, args.device, trainer.model.config) if args.watch_pipeline else None

    def show(self, model: Any) -> Shown:
        batch = _on(self.batch, model)
        causal = batch.get("causal_embeddings")
        if causal is None:
            seen = batch.get("vision_embeddings")
            causal = model.get_causal_embeddings(batch.get("pixel_values"), vision_embeddings=seen)
        codes = model.encode(causal_embeddings=causal)
        drawn = None if self.drawer is None else self.drawer.of_embeddings(model.decode(codes))
        cards = []
        for place, row in enumerate(codes.tolist()):
            images = [("image", self.images[place])] if self.images else []
            images += [("from its codes", drawn[place])] if drawn else []
            texts = [("is", self.captions[place])] if self.captions else []
            texts.append(("codes", f"{len(set(row))} different ones of {len(row)}"))
            cards.append(Card(images, row, texts))
        return cards, self.evaluated().last


def _batch_of(trainer: Any, rows: list[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
    """The rows as the model gets them, without augmentation and with the first caption of each."""
    collator = copy.copy(trainer.data_collator)
    if getattr(collator, "augment", None) is not None:
        collator.augment = None
    plain = [{**row, "captions": captions_of(row)[:1]} if row.get("captions") is not None else row for row in rows]
    batch = collator(plain)
    return {name: value for name, value in batch.items() if isinstance(value, torch.Tensor)}


def _on(batch: Mapping[str, torch.Tensor], model: Any) -> dict[str, torch.Tensor]:
    """The inputs where the model is, in its number type."""
    return {
        name: value.to(model.device, model.dtype if value.is_floating_point() else None)
        for name, value in batch.items()
    }


def _captions(rows: list[Mapping[str, Any]], collator: Any) -> list[str]:
    """The first caption of each row; of rows of ids, these as text; nothing if there are none."""
    if all(row.get("caption") is not None or row.get("captions") is not None for row in rows):
        return [captions_of(row)[0] for row in rows]
    if all("input_ids" in row for row in rows):
        ids = [row["input_ids"] for row in rows]
        tokenizer = getattr(collator, "tokenizer", None)
        if tokenizer is not None:
            return tokenizer.batch_decode(ids, skip_special_tokens=True)
        return [" ".join(map(str, row.tolist())) for row in ids]
    return []


def _images(batch: Mapping[str, torch.Tensor], collator: Any) -> list[Image.Image]:
    """The images as the model sees them; nothing where features are cached."""
    pixels = batch.get("pixel_values")
    if pixels is None:
        return []
    processor = getattr(collator, "image_processor", None)
    if processor is None:
        low, high = pixels.amin((1, 2, 3), keepdim=True), pixels.amax((1, 2, 3), keepdim=True)
        pixels = (pixels - low) / (high - low).clamp_min(1e-6)
    else:
        mean, std = mean_and_std(processor)
        pixels = pixels * std + mean
    values = pixels.float().clamp(0, 1).mul(255).round().to(torch.uint8)
    return [Image.fromarray(row.permute(1, 2, 0).cpu().numpy()) for row in values]
