"""Questions that follow from the pictograms' metadata, answered by a SEED model and compared word for word."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tqdm.auto import tqdm

from seed_hf.pictograms.questions import questions_by_topic

from .captioning import MAX_NEW_TOKENS, exact_match, generate_texts, normalize_text
from .codebook import encode_rows
from .sets import batches, open_picture


@dataclass(frozen=True)
class TopicResult:
    """One kind of question.

    Attributes:
        exact_match: Share of right answers in percent.
        majority: What always giving the most frequent right answer of these very questions would reach, in percent.
            A model that does not look at the picture gets about this far.
    """

    exact_match: float
    majority: float
    num_questions: int


@dataclass(frozen=True)
class VqaResult:
    """Answers to the questions of a set, by kind of question."""

    topics: dict[str, TopicResult]

    @property
    def mean_exact_match(self) -> float:
        """Mean over the kinds, each counting the same, in percent."""
        return sum(topic.exact_match for topic in self.topics.values()) / len(self.topics)

    @property
    def mean_majority(self) -> float:
        """The same mean of the blind baseline."""
        return sum(topic.majority for topic in self.topics.values()) / len(self.topics)

    def to_dict(self) -> dict[str, Any]:
        return {
            "exact_match": self.mean_exact_match,
            "majority": self.mean_majority,
            "num_questions": sum(topic.num_questions for topic in self.topics.values()),
            "topics": {name: vars(topic) for name, topic in self.topics.items()},
        }


@dataclass(frozen=True)
class AskedQuestion:
    """A question about the picture of one row."""

    row: int
    question: str
    answer: str


def collect_questions(
    rows: Sequence[Mapping[str, Any]], max_per_topic: int | None = None
) -> dict[str, list[AskedQuestion]]:
    """The questions of all rows by topic, at most `max_per_topic` of each, taken at even distances.

    Raises:
        ValueError: `max_per_topic` is not positive.
    """
    if max_per_topic is not None and max_per_topic < 1:
        raise ValueError(f"max_per_topic must be at least 1, or None for all questions; got {max_per_topic}.")
    topics: dict[str, list[AskedQuestion]] = {}
    for number, row in enumerate(rows):
        for topic, pairs in questions_by_topic(row).items():
            topics.setdefault(topic, []).extend(AskedQuestion(number, *pair) for pair in pairs)
    if max_per_topic is None:
        return topics
    return {
        topic: [asked[i * len(asked) // max_per_topic] for i in range(max_per_topic)]
        if len(asked) > max_per_topic
        else asked
        for topic, asked in topics.items()
    }


def evaluate_vqa(
    model,
    processor,
    rows: Sequence[Mapping[str, Any]],
    max_per_topic: int | None = 200,
    batch_size: int = 64,
    max_new_tokens: int = MAX_NEW_TOKENS,
) -> VqaResult:
    """Greedy answers to the questions that the rows' metadata give, by exact match.

    Args:
        model: A [`SeedForConditionalGeneration`].
        processor: Its [`SeedProcessor`]; the prompt is its `question_prompt`.
        rows: Rows of the pictograms.
        max_per_topic: Bound on the questions of one kind; `None` asks all of them.
    """
    topics = collect_questions(rows, max_per_topic)
    asked = [question for questions in topics.values() for question in questions]
    codes = encode_rows(model.visual_tokenizer, processor, rows, batch_size)
    answers: list[str] = []
    for batch in tqdm(list(batches(asked, batch_size)), desc="answers", leave=False):
        inputs = processor.ask([open_picture(rows[q.row]) for q in batch], [q.question for q in batch])
        # A picture is asked about a dozen times: its codes, the same each time, are made only once.
        inputs = {name: value for name, value in inputs.items() if name != "pixel_values"}
        inputs["codes"] = codes[torch.tensor([q.row for q in batch])]
        answers += generate_texts(model, processor, inputs, max_new_tokens)
    given = iter(answers)
    scores = {topic: _score([next(given) for _ in questions], questions) for topic, questions in topics.items()}
    return VqaResult(scores)


def _score(answers: list[str], questions: list[AskedQuestion]) -> TopicResult:
    right = [question.answer for question in questions]
    most = Counter(normalize_text(answer) for answer in right).most_common(1)[0][1]
    return TopicResult(exact_match(answers, right), 100.0 * most / len(right), len(right))
