"""GenEval's rules and prompts: equal to the authors' functions on recorded detections; bad metadata in one line."""

import json
from collections import Counter
from pathlib import Path

import pytest

from seed_hf.evaluation.detections import Asked, Detection, Verdict, Wanted, check, relations_of
from seed_hf.evaluation.generation_prompts import TAGS, asked_of_scene, make_prompts, metadata_lines
from seed_hf.pictograms.scenes import World


RECORDED = json.loads((Path(__file__).parents[1] / "fixtures" / "geneval_rules.json").read_text())


def test_verdicts_are_those_of_the_authors():
    for case in RECORDED["prompts"]:
        found = [Detection(label, tuple(box), score, colour) for label, box, score, colour in case["found"]]
        assert check(Asked.from_metadata(case["metadata"]), found).correct == case["correct"], case
    assert Counter(case["correct"] for case in RECORDED["prompts"]) == {True: 30, False: 30}


def test_relations_are_those_of_the_authors_in_any_unit():
    for case in RECORDED["pairs"]:
        pair = [Detection("a", tuple(box)) for box in case["boxes"]]
        assert sorted(relations_of(*pair)) == case["relations"]
        small = [Detection("a", tuple(side / 512 for side in box)) for box in case["boxes"]]
        assert sorted(relations_of(*small)) == case["relations"]
    assert {relation for case in RECORDED["pairs"] for relation in case["relations"]} > {"left of", "above"}


def test_a_verdict_says_which_part_is_wrong():
    asked = Asked((Wanted("cup"), Wanted("dog", 1, "red", "left of", 0)))
    cup, dog = Detection("cup", (60, 20, 80, 40), colour="blue"), Detection("dog", (10, 20, 30, 40), colour="red")
    assert check(asked, [cup, dog]).correct
    blue = Detection("dog", dog.box, colour="blue")
    verdict = check(asked, [cup, blue])
    assert (verdict.objects, verdict.colours, verdict.relations, verdict.correct) == (True, False, True, False)
    verdict = check(asked, [Detection("cup", (10, 60, 30, 80)), dog])
    assert (verdict.objects, verdict.colours, verdict.relations) == (True, True, False)
    assert check(asked, []) == Verdict(False, False, None, False, False)
    assert check(asked, [dog]) == Verdict(False, False, None, True, False)  # something red is there
    swapped = [Detection("cup", cup.box, colour="red"), Detection("dog", dog.box, colour="blue")]
    both = Asked((Wanted("cup", 1, "blue"), Wanted("dog", 1, "red")))
    assert check(both, swapped) == Verdict(False, True, None, True, None)  # right colours at the wrong things
    two = Asked((Wanted("dog", 2),), (("dog", 3),))
    found = [check(two, [dog] * number) for number in range(4)]
    assert [(verdict.objects, verdict.number) for verdict in found] == [
        (False, False),
        (False, False),
        (True, True),
        (True, False),
    ]


def test_prompts_of_six_kinds_say_what_they_ask():
    made = make_prompts(["dog", "bus", "orange"], 12, seed=1, frame="a photo of {}")
    assert made == make_prompts(["dog", "bus", "orange"], 12, seed=1, frame="a photo of {}")
    assert made != make_prompts(["dog", "bus", "orange"], 12, seed=2, frame="a photo of {}")
    assert {asked.tag for _, asked in made} == set(TAGS) and len(dict(made)) == len(made)
    for text, asked in made:
        assert text.startswith("a photo of ")
        for wanted in asked.include:
            assert wanted.label in text and (wanted.colour or "") in text and (wanted.relation or "") in text
        if asked.tag == "position":
            assert text.index(asked.include[1].label) < text.index(asked.include[0].label)
    assert [Asked.from_metadata(json.loads(line)) for line in metadata_lines(made)] == [asked for _, asked in made]
    with pytest.raises(ValueError, match="At least two objects"):
        make_prompts(["dog", "dog"])
    with pytest.raises(ValueError, match="frame must have one"):
        make_prompts(["dog", "bus"], frame="a photo")


def test_a_scene_that_is_seen_as_it_is_is_right():
    world = World()
    tags = Counter()
    for index in range(60):
        scene = world.draw("train", 0, index)
        found = [
            Detection(item.thing, (item.x - 0.1, item.y - 0.1, item.x + 0.1, item.y + 0.1), 1.0, item.colour or "pink")
            for item in scene.items
        ]
        asked = asked_of_scene(scene)
        tags[asked.tag] += 1
        assert check(asked, found).correct
        assert not check(asked, found[1:]).correct
        if scene.layout == "many":
            assert not check(asked, [*found, found[0]]).correct
    assert set(tags) == {"single_object", "colors", "counting", "position"}


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({}, "`include` must be a list"),
        ({"include": [{"count": 1}]}, "must have a `class`"),
        ({"include": ["dog"]}, "must have a `class`"),
        ({"include": [{"class": "dog", "count": 0}]}, "`count` must be a positive number"),
        ({"include": [{"class": "dog", "color": 5}]}, "`color` must be a text"),
        ({"include": [{"class": "dog"}], "exclude": 5}, "`exclude` must be a list"),
        ({"include": [{"class": "dog"}], "exclude": ["dog"]}, "must have a `class`"),
        ({"include": [{"class": "dog"}, {"class": "dog", "position": ["above", True]}]}, "must name an earlier"),
        ({"include": [{"class": "dog", "position": 7}]}, "`position` must be one of left of"),
        ({"include": [{"class": "dog", "position": ["near", 0]}]}, "`position` must be one of left of"),
        ({"include": [{"class": "dog", "position": ["above", 0]}]}, "must name an earlier clause"),
    ],
)
def test_bad_metadata_is_named(row, words):
    with pytest.raises(ValueError, match=words):
        Asked.from_metadata(row)
