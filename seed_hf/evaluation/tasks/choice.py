"""`choice`: one answer of several: the one with the lowest loss (SEED-Bench), or the letter that the model names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from string import ascii_uppercase
from typing import Any

from seed_hf.evaluation.rows import EvaluationRow
from seed_hf.evaluation.text_generator import TextGenerator, TextTask


BY = ("loss", "mean_loss", "letter")
LETTER_PROMPT = "{question}\n{choices}\nAnswer with the option's letter from the given choices directly."
_LETTER = re.compile(r"\(?\b([A-Z])\b")
_WORD = re.compile(r"(?:I|A)\s+(?!(?:is|was|has|and|or|because|seems|looks|would|should|matches|shows|fits)\b)\w")


class Choice(TextTask):
    """Choices among given answers.

    Args:
        model: A [`SeedForConditionalGeneration`].
        processor: Its [`SeedProcessor`]; the prompt is its `question_prompt`.
        by: "loss", the sum over the tokens of an answer and the end, as SEED-Bench ranks; "mean_loss", its mean;
            "letter", the answer is the letter that the model generates.
        prompt: Replaces the processor's; it has `{}` for the question.
        decoding: Of letters: `num_beams`, `max_new_tokens`, `length_penalty` of [`Decoding`].

    Raises:
        ValueError: An unknown way to choose, or decoding where nothing is generated.
    """

    name = "choice"

    def __init__(self, model: Any, processor: Any, *, by: str = "loss", prompt: str | None = None, **decoding: Any):
        if by not in BY:
            raise ValueError(f"by must be one of {', '.join(BY)}; got {by!r}.")
        if decoding and by != "letter":
            raise ValueError(f"{', '.join(decoding)}: nothing is generated where answers are chosen by {by}.")
        self.by, self.text_generator = by, TextGenerator(model, processor, "question", prompt, decoding)

    @property
    def settings(self) -> dict[str, Any]:
        if self.by != "letter":
            return {"by": self.by, **self.text_generator.prompt_settings}
        return {"by": self.by, "letter_prompt": LETTER_PROMPT, **self.text_generator.settings}

    @property
    def protocol(self) -> dict[str, Any]:
        if self.by == "letter":
            return self.text_generator.protocol
        return {"by": "loss", **self.text_generator.prompt_protocol}

    def fault(self, row: EvaluationRow) -> str:
        if row.image is None or not row.question.strip():
            return "no image" if row.image is None else "no question"
        if not 1 < len(row.choices) <= len(ascii_uppercase):
            return f"{len(row.choices)} choices"
        if row.right is None:
            return row.choice_fault or "no right choice"
        if self.by == "letter":
            return self.text_generator.fault(lettered_question(row.question, row.choices))
        return next((fault for text in row.choices if (fault := self.text_generator.fault(row.question, text))), "")

    def length(self, row: EvaluationRow) -> int:
        return len(row.question) + max(map(len, row.choices))

    def measure(self, rows: list[EvaluationRow], seen: list[list[int]]) -> list[dict[str, Any]]:
        found = self._by_letter(rows, seen) if self.by == "letter" else self._by_loss(rows, seen)
        return [
            {"choice": choice, "right": row.right, "choices": len(row.choices), "group": row.group, **more}
            for row, (choice, more) in zip(rows, found, strict=True)
        ]

    def _by_loss(self, rows: list[EvaluationRow], seen: list[list[int]]) -> list[tuple[int | None, dict[str, Any]]]:
        # A text has one loss, in whatever batch: choices that are the same are a tie.
        texts_of = [list(dict.fromkeys(row.choices)) for row in rows]
        asked = zip(rows, seen, texts_of, strict=True)
        tasks = [(codes, row.question, text) for row, codes, texts in asked for text in texts]
        losses: list[float] = []
        for start in range(0, len(tasks), len(rows)):
            codes, questions, answers = zip(*tasks[start : start + len(rows)], strict=True)
            for loss, tokens in self.text_generator.losses(codes, questions, answers):
                losses.append(loss / tokens if self.by == "mean_loss" else loss)
        found: list[tuple[int | None, dict[str, Any]]] = []
        for row, texts in zip(rows, texts_of, strict=True):
            loss_of, losses = dict(zip(texts, losses)), losses[len(texts) :]
            own = [loss_of[text] for text in row.choices]
            # A tie is no choice: a model that cannot tell the answers apart is not right by their order.
            best = [number for number, loss in enumerate(own) if loss == min(own)]
            found.append((best[0] if len(best) == 1 else None, {"losses": own}))
        return found

    def _by_letter(self, rows: list[EvaluationRow], seen: list[list[int]]) -> list[tuple[int | None, dict[str, Any]]]:
        said = self.text_generator.generate(seen, [lettered_question(row.question, row.choices) for row in rows])
        return [(letter_in(text, len(row.choices)), {"said": text}) for row, text in zip(rows, said, strict=True)]

    def figures(self, records: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        """Accuracy of all rows and of each group, what chance reaches, and how often nothing was chosen."""
        counts = {name: Counter[str]() for name in ("accuracy", "chance", "no_choice")}
        rows = Counter[str]()
        for record in records:
            for group in ("all", record["group"]) if record["group"] else ("all",):
                counts["accuracy"][group] += record["choice"] == record["right"]
                counts["chance"][group] += 1 / record["choices"]
                counts["no_choice"][group] += record["choice"] is None
                rows[group] += 1
        return {
            group: {
                **{name: 100 * found[group] / rows[group] for name, found in counts.items()},
                "num_questions": count,
            }
            for group, count in rows.items()
        }


def lettered_question(question: str, choices: Iterable[str]) -> str:
    """A question with its answers by letter.

    Args:
        question: The question alone.
        choices: At most 26 answers.
    """
    lines = [f"{letter}. {text}" for letter, text in zip(ascii_uppercase, choices)]
    return LETTER_PROMPT.format(question=question, choices="\n".join(lines))


def letter_in(text: str, choices: int) -> int | None:
    """The number of the choice that a text names by its letter: "B", "(b)", "B. a cat" or "The answer is B".

    Args:
        text: What a model said.
        choices: How many there are.
    """
    if len(word := text.strip(" ().:\n")) == 1:
        text = word.upper()
    found = [ascii_uppercase.index(letter) for letter in _LETTER.findall(text)]
    # "A" may be an article, "I" a pronoun: "A cat" names no letter, "A is right" and "A and B" do.
    if _WORD.match(text.strip()):
        found = found[1:]
    return next((number for number in found if number < choices), None)
