"""Answers to questions as the VQA challenge compares them: its normalisation and soft accuracy.

The rules are those of the challenge's `vqaEval.py`, in the form with straight apostrophes that LAVIS evaluates BLIP-2
with, down to their quirks: people's answers lose only their punctuation, and only where they differ.
"""

from __future__ import annotations

import re
from collections.abc import Sequence


SOFT_FROM = 4  # answers; fewer cannot give a soft accuracy of 1
_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_COMMA_IN_NUMBER = re.compile(r"\d,\d")
_PERIOD = re.compile(r"\.(?!\d)")
_PERIODS_AT_MOST = 32  # the original passes a flag where the count belongs
_ARTICLES = ("a", "an", "the")
_NUMBERS = {
    "none": "0",
    **{
        word: str(number)
        for number, word in enumerate("zero one two three four five six seven eight nine ten".split())
    },
}
_N_T = "ai are ca could did does do had has have is might must need ought sha should was were wo would"
_TWICE = "couldn't've hadn't've mightn't've shouldn't've wouldn't've"
_D_VE = (
    "he'd've it'd've she'd've somebody'd've someone'd've something'd've there'd've they'd've we'd've who'd've you'd've"
)
_PLAIN = (
    "could've he'd he's how'd how'll how's it'd it'll ma'am might've must've not've o'clock should've somebody'll "
    "somebody's someone'd someone'll someone's something'd something'll that's there'd there're there's they'd "
    "they'll they're they've 'twas we've what'll what're what's what've when's where'd where's where've who'd "
    "who'll who's who've why'll why're why's would've y'all you'd you'll you're you've"
)


def _contractions() -> dict[str, str]:
    """From words without some of their apostrophes to the words."""
    words = [f"{stem}n't" for stem in _N_T.split()] + _PLAIN.split()
    found = {word.replace("'", ""): word for word in words}
    for word in (_TWICE + " " + _D_VE).split():
        first, second, third = word.split("'")
        found |= {f"{first}{second}'{third}": word, f"{first}'{second}{third}": word}
    for written in ("ow's'at", "'ows'at", "'ow'sat"):
        found[written] = "'ow's'at"
    for written in ("yall'll", "y'allll"):
        found[written] = "y'all'll"
    for written in ("yall'd've", "y'alld've", "y'all'dve"):
        found[written] = "y'all'd've"
    return {**found, "somebody'd": "somebodyd"}


CONTRACTIONS = _contractions()


def normalized_answer(text: str) -> str:
    """An answer of a model in the form in which it is compared.

    Args:
        text: As it was generated.
    """
    text = without_punctuation(text.replace("\n", " ").replace("\t", " ").strip())
    words = [_NUMBERS.get(word, word) for word in text.lower().split()]
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)


def without_punctuation(text: str) -> str:
    """An answer of a person where people differ: marks at the edge of words are left out, others become spaces.

    Args:
        text: As it is in the data.
    """
    result, number = text, _COMMA_IN_NUMBER.search(text) is not None
    for mark in _PUNCTUATION:
        at_edge = f"{mark} " in text or f" {mark}" in text
        result = result.replace(mark, "" if at_edge or number else " ")
    return _PERIOD.sub("", result, count=_PERIODS_AT_MOST)


def answer_accuracy(said: str, answers: Sequence[str], *, published: bool = False) -> float:
    """How right an answer is, 0 to 1.

    Args:
        said: The answer of a model.
        answers: Those of people, each as often as it was given. From four on, the soft accuracy of the challenge: the
            mean, over leaving each of them out, of a third for each of the others that is the same, at most 1. Fewer
            are right answers: 1 if it is one of them, normalised as well.
        published: Whether the answers are those of a benchmark that cleans them itself, as VQAv2. From four on they
            are compared as its evaluation does: one that it has not cleaned, such as "a cat", is never right.

    Raises:
        ValueError: There are no answers.
    """
    if not answers:
        raise ValueError("There are no answers to compare with.")
    said = normalized_answer(said)
    if len(answers) < SOFT_FROM:
        return float(said in {normalized_answer(answer) for answer in answers})
    if not published:
        answers = [normalized_answer(answer) for answer in answers]
    elif len(set(answers)) > 1:
        answers = [without_punctuation(answer) for answer in answers]
    same = sum(answer == said for answer in answers)
    # Left out is one of the same, or one of the others.
    return (same * min(1, (same - 1) / 3) + (len(answers) - same) * min(1, same / 3)) / len(answers)
