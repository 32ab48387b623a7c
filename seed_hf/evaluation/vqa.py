"""Questions made from the pictograms' metadata, answered by a SEED model and scored by exact match."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tqdm.auto import tqdm

from seed_hf.pictograms.questions import questions_by_topic
from seed_hf.texts import MAX_NEW_TOKENS, generate_texts

from .captioning import exact_match, normalize_text
from .codebook import encode_rows
from .sets import batches


@dataclass(frozen=True)
class TopicResult:
    """The score of one topic of questions.

    Attributes:
        exact_match: Share of right answers in percent.
        majority: Score, in percent, of always giving the most frequent right answer to these questions. A model that
            ignores the image reaches about this.
        num_questions: Number of questions.
    """

    exact_match: float
    majority: float
    num_questions: int


@dataclass(frozen=True)
class VqaResult:
    """The scores of a set.

    Attributes:
        topics: From topic to score.
    """

    topics: dict[str, TopicResult]

    @property
    def mean_exact_match(self) -> float:
        """Unweighted mean over the topics, in percent."""
        return sum(topic.exact_match for topic in self.topics.values()) / len(self.topics)

    @property
    def mean_majority(self) -> float:
        """The same mean of the majority baseline."""
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
    """A question about the image of one row.

    Attributes:
        row: Index of the row.
        question: Its text.
        answer: The right answer.
    """

    row: int
    question: str
    answer: str


def collect_questions(
    rows: Sequence[Mapping[str, Any]], max_per_topic: int | None = None
) -> dict[str, list[AskedQuestion]]:
    """The questions of all rows by topic.

    Args:
        rows: Rows of the pictograms.
        max_per_topic: At most this many questions of a topic, evenly spaced; `None` for all.

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
    """Score greedy answers to the questions that follow from the rows' metadata.

    Args:
        model: A [`SeedForConditionalGeneration`].
        processor: Its [`SeedProcessor`]; the prompt is its `question_prompt`.
        rows: Rows of the pictograms.
        max_per_topic: At most this many questions of a topic; `None` for all.
        batch_size: Questions at a time. The result does not depend on it.
        max_new_tokens: Length limit of an answer.
    """
    topics = collect_questions(rows, max_per_topic)
    asked = [question for questions in topics.values() for question in questions]
    codes = encode_rows(model.visual_tokenizer, processor, rows, batch_size)
    answers: list[str] = []
    for batch in tqdm(list(batches(asked, batch_size)), desc="answers", leave=False):
        # There are about a dozen questions an image, so its codes are computed once.
        own = codes[torch.tensor([q.row for q in batch])]
        inputs = processor.ask(codes=own, questions=[q.question for q in batch])
        answers += generate_texts(model, processor, inputs, max_new_tokens)
    given = iter(answers)
    scores = {topic: _score([next(given) for _ in questions], questions) for topic, questions in topics.items()}
    return VqaResult(scores)


def _score(answers: list[str], questions: list[AskedQuestion]) -> TopicResult:
    right = [question.answer for question in questions]
    most = Counter(normalize_text(answer) for answer in right).most_common(1)[0][1]
    return TopicResult(exact_match(answers, right), 100.0 * most / len(right), len(right))
