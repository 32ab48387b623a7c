"""BLEU, ROUGE-L and CIDEr-D of captions, as COCO's evaluation computes them.

The formulas and their constants are those of `coco-caption` (`pycocoevalcap` 1.2): BLEU over the whole corpus with the
closest reference length, ROUGE-L with beta 1.2 and the maxima over references, CIDEr-D with clipping and a Gaussian of
the difference in length. METEOR and SPICE are not here: both exist only as Java programs with data of 60 and 30 MB.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple


Words = Sequence[str]
_LONGEST = 4  # n-grams
_ROUGE_BETA = 1.2
_CIDER_SIGMA = 6.0
_SMALL, _TINY = 1e-9, 1e-15


class ScoredCaption(NamedTuple):
    """A caption and what people wrote, as words.

    Args:
        words: Of the caption.
        references: Of each caption by people; at least one.
    """

    words: Words
    references: Sequence[Words]


def caption_scores(captions: Iterable[ScoredCaption]) -> dict[str, float]:
    """The scores of all captions.

    Args:
        captions: At least one; iterated twice.

    Returns:
        `BLEU-1` to `BLEU-4`, `ROUGE-L` and `CIDEr-D`, each times 100 as papers print them. CIDEr-D can reach 1000, and
        is 0 for a single image, because words that are in all images weigh nothing.
    """
    bleu, rouge, cider, count = _Bleu(), 0.0, 0.0, 0
    cider_scorer = _Cider(caption.references for caption in captions)
    for caption in captions:
        counted = _counted(caption.words)
        references = [_counted(words) for words in caption.references]
        bleu.add(counted, references)
        rouge += rouge_l(caption)
        cider += cider_scorer.score(counted, references)
        count += 1
    named = {f"BLEU-{n}": 100 * score for n, score in enumerate(bleu.scores(), 1)}
    return {**named, "ROUGE-L": 100 * rouge / count, "CIDEr-D": 100 * cider / count}


def rouge_l(caption: ScoredCaption) -> float:
    """ROUGE-L of one caption, 0 to 1.

    Args:
        caption: With its references.
    """
    common = [_common(caption.words, reference) for reference in caption.references]
    # An empty text counts as one empty word.
    precision = max(common) / max(1, len(caption.words))
    recall = max(length / max(1, len(reference)) for length, reference in zip(common, caption.references, strict=True))
    if not precision or not recall:
        return 0.0
    return (1 + _ROUGE_BETA**2) * precision * recall / (recall + _ROUGE_BETA**2 * precision)


class _Counted(NamedTuple):
    length: int
    ngrams: Counter


def _counted(words: Words) -> _Counted:
    ngrams = (tuple(words[i : i + n]) for n in range(1, _LONGEST + 1) for i in range(len(words) - n + 1))
    return _Counted(len(words), Counter(ngrams))


class _Bleu:
    def __init__(self):
        self._length = self._reference_length = 0
        self._right, self._guessed = [0] * _LONGEST, [0] * _LONGEST

    def add(self, caption: _Counted, references: list[_Counted]) -> None:
        self._length += caption.length
        self._reference_length += min((abs(one.length - caption.length), one.length) for one in references)[1]
        for ngram, count in caption.ngrams.items():
            most = max(reference.ngrams[ngram] for reference in references)
            self._right[len(ngram) - 1] += min(count, most)
        for n in range(_LONGEST):
            self._guessed[n] += max(0, caption.length - n)

    def scores(self) -> list[float]:
        ratio = (self._length + _TINY) / (self._reference_length + _SMALL)
        brevity = math.exp(1 - 1 / ratio) if ratio < 1 else 1.0
        found, product = [], 1.0
        for n in range(_LONGEST):
            product *= (self._right[n] + _TINY) / (self._guessed[n] + _SMALL)
            found.append(product ** (1 / (n + 1)) * brevity)
        return found


class _Cider:
    """CIDEr-D with document frequencies from the references of all images."""

    def __init__(self, references: Iterable[Sequence[Words]]):
        self._images, self._frequency = 0, Counter[tuple]()
        for of_image in references:
            self._images += 1
            self._frequency.update({ngram for words in of_image for ngram in _counted(words).ngrams})

    def score(self, caption: _Counted, references: list[_Counted]) -> float:
        vector, norms = self._weighted(caption)
        total = 0.0
        for reference in references:
            other, other_norms = self._weighted(reference)
            products = [0.0] * _LONGEST
            for ngram, weight in vector.items():
                theirs = other.get(ngram, 0.0)
                products[len(ngram) - 1] += min(weight, theirs) * theirs
            # The original counts the bigrams as the length.
            delta = max(0, caption.length - 1) - max(0, reference.length - 1)
            similarity = sum(
                product / (one * two) if one and two else product
                for product, one, two in zip(products, norms, other_norms, strict=True)
            )
            total += similarity / _LONGEST * math.exp(-(delta**2) / (2 * _CIDER_SIGMA**2))
        return 10 * total / len(references)

    def _weighted(self, text: _Counted) -> tuple[dict[tuple, float], list[float]]:
        """tf-idf of each n-gram, and the norm of the n-grams of each length."""
        vector, squares = {}, [0.0] * _LONGEST
        for ngram, count in text.ngrams.items():
            weight = count * (math.log(self._images) - math.log(max(1, self._frequency[ngram])))
            vector[ngram] = weight
            squares[len(ngram) - 1] += weight**2
        return vector, [math.sqrt(square) for square in squares]


def _common(one: Words, other: Words) -> int:
    """Length of the longest common subsequence."""
    before = [0] * (len(other) + 1)
    for word in one:
        row = [0]
        for column, candidate in enumerate(other):
            row.append(before[column] + 1 if word == candidate else max(before[column + 1], row[column]))
        before = row
    return before[-1]
