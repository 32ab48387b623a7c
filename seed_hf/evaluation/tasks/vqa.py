"""`vqa`: short answers to questions, compared as the VQA challenge does (SEED paper, table 3)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from seed_hf.evaluation.metrics.vqa_answers import SOFT_FROM, answer_accuracy, normalized_answer
from seed_hf.evaluation.rows import EvaluationRow
from seed_hf.evaluation.speaking import Speaker, SpeakingTask


class Vqa(SpeakingTask):
    """Answers to questions about images.

    Args:
        model: A [`SeedForConditionalGeneration`].
        processor: Its [`SeedProcessor`]; the prompt is its `question_prompt`.
        prompt: Replaces the processor's; it has `{}` for the question.
        decoding: `num_beams`, `max_new_tokens`, `length_penalty` of [`Decoding`], where they are not the default.
    """

    name = "vqa"

    def __init__(self, model: Any, processor: Any, *, prompt: str | None = None, **decoding: Any):
        self.speaker = Speaker(model, processor, "question", prompt, decoding)

    @property
    def settings(self) -> dict[str, Any]:
        return {**self.speaker.settings, "soft_accuracy_from_answers": SOFT_FROM}

    def fault(self, row: EvaluationRow) -> str:
        if row.image is None or not row.question.strip():
            return "no image" if row.image is None else "no question"
        return self.speaker.fault(row.question) if row.answers else "no answers"

    def length(self, row: EvaluationRow) -> int:
        return len(row.question)

    def measure(self, rows: list[EvaluationRow], seen: list[list[int]]) -> list[dict[str, Any]]:
        said = self.speaker.say(seen, [row.question for row in rows])
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
        accuracy, majority = defaultdict[str, float](float), defaultdict[str, float](float)
        count = Counter[str]()
        answers: dict[str, Counter[str]] = {}
        for record in records:
            group = record["group"]
            accuracy[group] += record["accuracy"]
            count[group] += 1
            answers.setdefault(group, Counter()).update(dict.fromkeys(map(normalized_answer, record["answers"]), 1))
        most = {group: found.most_common(1)[0][0] for group, found in answers.items()}
        for record in records:
            answer, published = most[record["group"]], record.get("published", False)
            majority[record["group"]] += answer_accuracy(answer, record["answers"], published=published)

        def shares(groups: Iterable[str]) -> dict[str, Any]:
            questions = sum(count[group] for group in groups)
            return {
                "accuracy": 100 * sum(accuracy[group] for group in groups) / questions,
                "majority": 100 * sum(majority[group] for group in groups) / questions,
                "num_questions": questions,
            }

        found = {"all": shares(list(count))}
        named = [group for group in count if group]
        if len(count) > 1:
            found |= {group: shares([group]) for group in named}
            for name in ("accuracy", "majority"):
                found["all"][f"mean_{name}_of_groups"] = sum(found[group][name] for group in named) / len(named)
        return found
