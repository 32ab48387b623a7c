"""What is shown of a language model while it is trained: captions, answers and drawings as they are now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from seed_hf.data.batches.row_values import captions_of
from seed_hf.data.sources.text import question_pairs
from seed_hf.images.cards import Card
from seed_hf.modeling.generation_seed import CodeSegment, TextSegment, parse_segments
from seed_hf.modeling.token_rows_seed import padded

from .watched_drawings import Drawer
from .watching import spread


Shown = tuple[list[Card], torch.Tensor | None]
_TEXT_TOKENS, _ANSWER_TOKENS = 32, 96  # an answer may hold an image


@dataclass(frozen=True)
class Asked:
    """A prompt, and the card that tells what the model makes of it."""

    card: Card
    prompt: list[int]
    question: str = ""


class WatchedTexts:
    """Language-model and instruction stage. Of a row with codes: its caption, its answer, and what its caption makes
    the model draw. Of a conversation: the answer to its first turn. Of rows of text and of documents nothing.

    Args:
        trainer ([`LanguageModelTrainer`]): Whose collator writes the prompts.
        rows: Of the validation set.
        number: How many of them are shown.

    Raises:
        ValueError: No row has something to show, and there are no prompts.
    """

    used_by = "these drawings"

    def __init__(self, trainer: Any, rows: list[Mapping[str, Any]], number: int):
        args, self.collator = trainer.args, trainer.data_collator
        self.rows = spread([row for row in rows if _has_something(row)], number)
        self.prompts = list(args.watch_prompts or ())
        config = trainer.model.config.get_text_config()
        if not hasattr(config, "visual_token_offset") or not (self.rows or self.prompts):
            raise ValueError(
                "watch_images shows rows with codes or conversations, and there are none in data.validation. Leave it "
                "out, or give watch_prompts."
            )
        self.drawer = Drawer(args.watch_pipeline, args.device, config) if args.watch_pipeline else None

    def show(self, model: Any) -> Shown:
        model = model.get_base_model() if hasattr(model, "get_base_model") else model
        model = getattr(model, "language_model", model)
        sequences, weights = self.collator.sequences, self.collator.directions
        cards = [self._of_data(row) for row in self.rows] + [Card(texts=[("prompt", text)]) for text in self.prompts]
        asked: dict[str, list[Asked]] = {"caption": [], "answer": [], "chat": [], "draw": []}
        for card, row in zip(cards, self.rows):
            if row.get("messages") is not None:
                asked["chat"].append(Asked(card, sequences.turns(self.collator.said(row))[0][0]))
                continue
            codes = self.collator.codes_of(row["codes"])
            if weights["image_to_text"]:
                asked["caption"].append(Asked(card, sequences.prompt("caption", codes=codes)))
            if weights["text_to_image"]:
                asked["draw"].append(Asked(card, sequences.prompt("draw", text=captions_of(row)[0])))
            for question, _ in (question_pairs(row.get("questions")) or [])[: 1 if weights["question"] else 0]:
                prompt = sequences.prompt("question", question=question, codes=codes)
                asked["answer"].append(Asked(card, prompt, question))
        asked["draw"] += [
            Asked(card, sequences.prompt("draw", text=text))
            for card, text in zip(cards[len(self.rows) :], self.prompts)
        ]
        drawn: list[tuple[Card, list[int]]] = []
        for name, given in asked.items():
            drawn += self._answers(model, name, given) if given else []
        self._draw(drawn)
        used = torch.zeros(model.config.codebook_size, dtype=torch.int64)
        for _, codes in drawn:
            used += torch.bincount(torch.tensor(codes), minlength=len(used))
        return cards, used if drawn else None

    def _of_data(self, row: Mapping[str, Any]) -> Card:
        """What the row itself says, and its first image, drawn from the codes."""
        if row.get("messages") is None:
            codes, texts = self.collator.codes_of(row["codes"])[0], [("is", captions_of(row)[0])]
        else:
            said = [(role, pieces) for role, pieces in self.collator.said(row) if role != "system"][:2]
            codes = next((piece for _, pieces in said for piece in pieces if not isinstance(piece, str)), None)
            texts = [
                (name, " ".join(piece if isinstance(piece, str) else "[image]" for piece in pieces))
                for name, (_, pieces) in zip(("asked", "is"), said)
            ]
        images = self._images([codes]) if codes else []
        return Card([("codes of the data", images[0])] if images else [], codes, texts)

    def _answers(self, model: Any, name: str, asked: list[Asked]) -> list[tuple[Card, list[int]]]:
        """Write what the model says on the cards; returns what it draws."""
        mode = {"draw": "image", "chat": "interleaved"}.get(name, "text")
        lengths = {"text": {"max_new_tokens": _TEXT_TOKENS}, "interleaved": {"max_new_tokens": _ANSWER_TOKENS}}
        longest, drawn = max(len(one.prompt) for one in asked), []
        ids = torch.tensor(padded([one.prompt for one in asked], self.collator.pad, longest))
        mask = torch.tensor(padded([[1] * len(one.prompt) for one in asked], 0, longest))
        inputs = {"input_ids": ids.to(model.device), "attention_mask": mask.to(model.device)}
        options = {"generation_mode": mode, "do_sample": False, "num_beams": 1, "pad_token_id": self.collator.pad}
        out = model.generate(**inputs, **options, **lengths.get(mode, {}))[:, longest:].tolist()
        for one, row in zip(asked, out):
            said = []
            for part in parse_segments(row, model.config).segments:
                if isinstance(part, TextSegment):
                    said.append(self.collator.sequences.tokenizer.decode(part.ids, skip_special_tokens=True))
                elif isinstance(part, CodeSegment):
                    said.append("[image]")
                    drawn.append((one.card, list(part.codes)))
            if name != "draw":
                one.card.texts.append(("answers" if one.question else "says", " ".join([one.question, *said]).strip()))
        return drawn

    def _draw(self, drawn: list[tuple[Card, list[int]]]) -> None:
        images = self._images([codes for _, codes in drawn])
        for place, (card, codes) in enumerate(drawn):
            if images:
                card.images.append(("drawn", images[place]))
            card.texts.append(("drawn", f"{len(set(codes))} different codes"))
            card.codes = codes

    def _images(self, codes: list[list[int]]) -> list[Image.Image]:
        return self.drawer.of_codes(torch.tensor(codes)) if self.drawer is not None and codes else []


def _has_something(row: Mapping[str, Any]) -> bool:
    return row.get("messages") is not None or row.get("codes") is not None
