"""`vqa`: short answers to questions, compared as the VQA challenge does (SEED paper, table 3)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from seed_hf.evaluation.metrics.vqa_answers import SOFT_FROM, answer_accuracy, normalized_answer
from seed_hf.evaluation.rows import EvaluationRow
from seed_hf.evaluation.text_generator import TextGenerator, TextTask


class Vqa(TextTask):
    """Answers to questions about images.

    Args:
        model: A [`SeedForConditionalGeneration`].
        processor: Its [`SeedProcessor`]; the prompt is its `question_prompt`.
        prompt: Replaces the processor's; it has `{}` for the question.
        decoding: `num_beams`, `max_new_tokens`, `length_penalty` of [`Decoding`], where they are not the default.
    """

    name = "vqa"

    def __init__(self, model: Any, processor: Any, *, prompt: str | None = None, **decoding: Any):
        self.text_generator = TextGenerator(model, processor, "question", prompt, decoding, benchmark=True)

    @property
    def settings(self) -> dict[str, Any]:
        return {**self.text_generator.settings, "soft_accuracy_from_answers": SOFT_FROM}

    def fault(self, row: EvaluationRow) -> str:
        if row.image is None or not row.question.strip():
            return "no image" if row.image is None else "no question"
        return self.text_generator.fault(row.question) if row.answers else "no answers"

    def length(self, row: EvaluationRow) -> int:
        return len(row.question)

    def measure(self, rows: list[EvaluationRow], seen: list[list[int]]) -> list[dict[str, Any]]:
        said = self.text_generator.generate(seen, [row.question for row in rows])
        return [
            {
                "question": row.question,
                "said": answer,
                "answers": list(row.answers),
                "published": row.published,
                "accuracy": answer_accuracy(answer, row.answers, published=row.published),
                "group": row.group,
            }
            for row, answer in zip(rows, said, strict=True)
        ]

    def figures(self, records: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        """Accuracy of all rows and of each group, and what the most frequent answer alone would reach there."""
        accuracy, count = defaultdict[str, float](float), Counter[str]()
        answers = defaultdict[str, Counter[str]](Counter)
        for record in records:
            for name in ("all", record["group"]):
                accuracy[name] += record["accuracy"]
                count[name] += 1
                answers[name].update(set(map(normalized_answer, record["answers"])))
        most = {name: min(found, key=lambda answer: (-found[answer], answer)) for name, found in answers.items()}
        majority = defaultdict[str, float](float)
        for record in records:
            for name in ("all", record["group"]):
                published = record.get("published", False)
                majority[name] += answer_accuracy(most[name], record["answers"], published=published)
        named = [group for group in count if group not in ("", "all")]
        found = {
            name: {
                "accuracy": 100 * accuracy[name] / count[name],
                "majority": 100 * majority[name] / count[name],
                "num_questions": count[name],
            }
            for name in ("all", *(named if len(count) > 2 else ()))
        }
        if len(count) > 2:
            for name in ("accuracy", "majority"):
                found["all"][f"mean_{name}_of_groups"] = sum(found[group][name] for group in named) / len(named)
        return found
