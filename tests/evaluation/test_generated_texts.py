"""Captions: scored right, and the same in any batch."""

import pytest

from seed_hf.evaluation.captioning import evaluate_captions, exact_match
from tiny_evaluation import pictogram_rows


def test_exact_match_ignores_case_spaces_and_a_full_stop():
    assert exact_match([" A  red Apple.", "a dog", "a cat"], ["a red apple", "a dog face", "a cat"]) == pytest.approx(
        200 / 3
    )
    with pytest.raises(ValueError, match="One prediction for each reference"):
        exact_match(["a"], [])


def test_captions_match_themselves_and_nothing_else(model_and_processor):
    model, processor = model_and_processor
    rows = pictogram_rows(5)
    said = evaluate_captions(model, processor, rows, batch_size=2, max_new_tokens=6)
    assert len(said.captions) == 5
    assert said.exact_match == 0.0  # a random model
    assert said == evaluate_captions(model, processor, rows, batch_size=5, max_new_tokens=6)
    own = [{**row, "caption": caption} for row, caption in zip(rows, said.captions, strict=True)]
    own[0]["caption"] = "something else"
    again = evaluate_captions(model, processor, own, max_new_tokens=6)
    assert again.exact_match == pytest.approx(80.0)
