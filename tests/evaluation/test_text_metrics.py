"""BLEU, ROUGE-L, CIDEr-D and the VQA challenge's accuracy against values that their own programs gave."""

import json
from pathlib import Path

import pytest

from seed_hf.evaluation.metrics.caption_scores import ScoredCaption, caption_scores, rouge_l
from seed_hf.evaluation.metrics.caption_words import caption_words
from seed_hf.evaluation.metrics.vqa_answers import answer_accuracy, normalized_answer


GOLDEN = Path(__file__).parents[1] / "golden" / "evaluation"


@pytest.fixture(scope="module")
def captions():
    return json.loads((GOLDEN / "captions.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def answers():
    return json.loads((GOLDEN / "answers.json").read_text(encoding="utf-8"))


def scored(image):
    return ScoredCaption(caption_words(image["said"]), [caption_words(text) for text in image["references"]])


def test_words_are_those_of_the_java_tokenizer(captions):
    assert len(captions["words"]) == 130
    wrong = [(text, words) for text, words in captions["words"] if " ".join(caption_words(text)) != words]
    assert not wrong


def test_scores_are_those_of_pycocoevalcap(captions):
    images = [scored(image) for image in captions["images"]]
    assert caption_scores(images) == pytest.approx(captions["scores"], abs=1e-6)
    assert [rouge_l(image) for image in images] == pytest.approx(captions["rouge_l"], abs=1e-6)
    assert any(not image.words for image in images)  # an empty caption is among them


def test_the_truth_is_perfect_and_another_image_is_not(captions):
    own = [
        ScoredCaption(caption_words(text), [caption_words(text)])
        for text in dict.fromkeys(image["references"][0] for image in captions["images"])
    ]
    perfect = caption_scores(own)
    assert perfect == pytest.approx(
        {**dict.fromkeys(("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L"), 100), "CIDEr-D": 1000}
    )
    turned = [ScoredCaption(one.words, other.references) for one, other in zip(own, own[1:] + own[:1], strict=True)]
    assert caption_scores(turned)["CIDEr-D"] < 200


def test_answers_are_those_of_the_challenge(answers):
    assert len(answers) == 110
    for pair in answers:
        assert normalized_answer(pair["said"]) == pair["normalized"]
        found = answer_accuracy(pair["said"], pair["answers"], published=True)
        assert found == pytest.approx(pair["accuracy"], abs=1e-9), pair


@pytest.mark.parametrize("number", [1, 3, 4, 10])
@pytest.mark.parametrize("answer", ["an orange top hat", "two", "Red", "don't know", "St. John"])
def test_ones_own_answers_are_normalised_however_many_there_are(answer, number):
    assert answer_accuracy(answer, [answer] * number) == 1
    assert answer_accuracy(answer, ["blue"] * number) == 0


def test_fewer_answers_are_right_or_wrong():
    assert answer_accuracy("A cat.", ["cat"]) == 1 and answer_accuracy("two", ["2", "3"]) == 1
    assert answer_accuracy("dog", ["cat"]) == 0
    assert [answer_accuracy("cat", ["cat"] * n + ["dog"] * (10 - n)) for n in (0, 1, 2, 3, 4)] == pytest.approx(
        [0, 0.3, 0.6, 0.9, 1.0]
    )
    with pytest.raises(ValueError, match="no answers"):
        answer_accuracy("cat", [])
