"""Questions, answers and wordings that follow from the metadata of a pictogram."""

import pytest

from seed_hf.pictograms.captions import join_words
from seed_hf.pictograms.questions import (
    ALL_KINDS,
    BASIC_COLOURS,
    COLOUR_FAMILIES,
    KINDS_APART,
    questions_by_topic,
)


def row(**changes):
    fire_engine = {
        "id": "twemoji/emoji:1F692",
        "caption": "a fire engine",
        "style": "twemoji",
        "style_phrase": "a flat Twemoji drawing",
        "category": "travel-places",
        "subcategory": "transport-ground",
        "colours": ["red", "grey"],
    }
    return fire_engine | changes


def questions(row):
    return [pair for pairs in questions_by_topic(row).values() for pair in pairs]


def test_fire_engine_answers():
    answers = dict(questions(row()))
    assert answers["What is shown?"] == "a fire engine"
    assert answers["What kind of thing is it?"] == "travel"
    assert answers["What is its main colour?"] == "red"
    assert answers["Which colours does it have?"] == "red and grey"
    assert answers["In which style is it drawn?"] == "a flat twemoji drawing"
    assert answers["Is it flat, shaded, outlined or 3d?"] == "flat"
    assert answers["Is it a vehicle?"] == "yes"
    assert answers["Is it a land, water or air vehicle?"] == "land"
    assert "How does the face feel?" not in answers and "Which country's flag is this?" not in answers


@pytest.mark.parametrize(
    ("changes", "question", "answer"),
    [
        ({"category": "food-drink", "subcategory": "food-fruit"}, "What kind of thing is it?", "food"),
        ({"category": "food-drink", "subcategory": "food-fruit"}, "Is it food?", "yes"),
        ({"category": "food-drink", "subcategory": "food/beverages/alcohol"}, "Is it a drink?", "yes"),
        ({"category": "food-drink", "subcategory": "food/fruit"}, "What kind of food is it?", "fruit"),
        (
            {"category": "animals-nature", "subcategory": "animals/birds/penguin"},
            "What kind of animal is it?",
            "a bird",
        ),
        ({"category": "animals-nature", "subcategory": "animals/fantasy"}, "Is it an animal?", None),
        ({"caption": "an angry face", "subcategory": "face-negative"}, "How does the face feel?", "angry"),
        ({"caption": "a skull", "subcategory": "face-negative"}, "How does the face feel?", None),
        ({"caption": "a wheel"}, "Is it a land, water or air vehicle?", None),
        ({"caption": "a wheel"}, "Is it a vehicle?", None),
        ({"caption": "a clock face showing nine-thirty"}, "What time does the clock show?", "nine-thirty"),
        (
            {"caption": "the flag of Fiji", "category": "flags", "subcategory": "country-flag"},
            "Which country's flag is this?",
            "fiji",
        ),
        (
            {"caption": "the flag of Congo - Kinshasa", "category": "flags", "subcategory": "country-flag"},
            "Which country's flag is this?",
            "congo - kinshasa",
        ),
        (
            {
                "caption": "the flag of Canada - Yukon",
                "category": "flags",
                "subcategory": "signs_and_symbols/flags/america/canada",
            },
            "Which country's flag is this?",
            None,
        ),
        ({"colours": []}, "What is its main colour?", None),
        ({"style": "fxemoji"}, "Is it flat, shaded, outlined or 3d?", None),
    ],
)
def test_answers_follow_the_metadata(changes, question, answer):
    assert dict(questions(row(**changes))).get(question) == answer


def test_yes_and_no_are_true_and_balanced():
    for number in range(200):
        asked = questions_by_topic(row(id=f"twemoji/emoji:{number}", colours=["light blue", "tan"]))
        (yes, no) = asked["has colour"]
        assert yes[1] == "yes" and no[1] == "no"
        assert yes[0] in ("Is it mainly light blue?", "Is it mainly tan?")
        wrong = no[0].removeprefix("Is it mainly ").removesuffix("?")
        # a neighbouring shade would be an unfair question
        assert wrong in BASIC_COLOURS and wrong not in ("blue", "purple", "orange", "yellow", "brown")
        assert [answer for _, answer in asked["kind"]] == ["yes", "no"]
        assert asked["kind"][1][0] not in ("Is it a vehicle?", "Is it a building?")


def test_negatives_differ_between_rows_but_not_between_calls():
    rows = [row(id=f"noto/emoji:{number}") for number in range(50)]
    first = [questions(r) for r in rows]
    assert first == [questions(dict(r)) for r in rows]
    assert len({pairs[3] for pairs in first}) > 3
    # fixed for ever: a trained checkpoint was asked exactly these
    assert questions(row())[3] == ("Is it a hand?", "no")


def test_answers_are_short_and_lower_case():
    for _, answer in questions(row(caption="the flag of Côte d’Ivoire", category="flags", subcategory="country-flag")):
        assert answer == answer.lower() and answer


def test_tables_name_known_things():
    assert {kind for kinds in KINDS_APART.values() for kind in kinds} <= set(ALL_KINDS)
    assert set(BASIC_COLOURS) <= {colour for family in COLOUR_FAMILIES for colour in family}


def test_join_words():
    assert [join_words(words) for words in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == [
        "",
        "a",
        "a and b",
        "a, b and c",
    ]
