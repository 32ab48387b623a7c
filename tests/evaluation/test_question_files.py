"""Published files of questions are read as they are; rows of one's own; what is wrong is said in one line."""

import base64
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmark_files import gqa_file, seed_bench_file, vizwiz_file, vqa_files, write_images, write_json
from seed_hf.cli.evaluate_options import open_questions
from seed_hf.evaluation.formats.opening import is_benchmark, open_benchmark
from seed_hf.evaluation.formats.prompts import scene_questions
from seed_hf.pictograms.questions import questions_by_topic
from tiny_evaluation import pictogram_rows
from tiny_sources import noise


ASKED = [(42, "What colour is it?", ["red"] * 10, "other"), (42, "Is it red?", ["yes"] * 7 + ["no"] * 3, "yes/no")]


def test_vqav2_and_ok_vqa(tmp_path):
    questions, annotations = vqa_files(tmp_path, ASKED)
    write_images(tmp_path, "val2014/COCO_val2014_000000000042.jpg")
    found = open_benchmark(questions, annotations=annotations)
    assert found.format == "vqa" and set(found.identity["files"]) == {"questions.json", "annotations.json"}
    first, second = found.rows
    assert first.image == second.image == str(tmp_path / "val2014/COCO_val2014_000000000042.jpg")
    assert (first.id, first.question, first.answers, first.group) == ("42000", ASKED[0][1], ("red",) * 10, "other")
    assert second.answers == ("yes",) * 7 + ("no",) * 3 and second.group == "yes/no"
    with pytest.raises(
        ValueError, match="questions without answers. Give their file of annotations, too: --annotations"
    ):
        open_benchmark(questions)
    with pytest.raises(FileNotFoundError, match="no such file of annotations"):
        open_benchmark(questions, annotations=tmp_path / "none.json")
    value = json.loads(annotations.read_text())
    value["annotations"].pop()
    with pytest.raises(ValueError, match="no annotation of question 42001. Are these two files of one split"):
        open_benchmark(questions, annotations=write_json(tmp_path / "other.json", value))
    value["annotations"][0]["answers"][3].pop("answer")
    with pytest.raises(ValueError, match=r"other.json: annotations\[0\]: answers\[3\] has no field 'answer'"):
        open_benchmark(questions, annotations=write_json(tmp_path / "other.json", value))


def test_questions_that_do_not_say_which_part_of_coco_they_are_of(tmp_path):
    questions, annotations = vqa_files(tmp_path, ASKED)
    value = json.loads(questions.read_text())
    del value["data_subtype"]
    write_images(tmp_path, "000000000042.jpg")
    found = open_benchmark(write_json(tmp_path / "mine.json", value), annotations=annotations)
    assert [row.image for row in found.rows] == [str(tmp_path / "000000000042.jpg")] * 2
    assert all(row.published for row in found.rows)


def test_questions_about_scenes(tmp_path):
    """Each question of a scene is a row, as the command opens the file; its captions are left alone."""
    item = {"thing": "cat", "colour": "red", "art": "noto/cat", "x": 0.5, "y": 0.5, "size": 0.4}
    asked, said = ["What is shown?", "How many things are there?"], ["a red cat", "one"]
    both = ["a red cat", "the same said otherwise"]
    row = {"id": "test-0-0", "image": {"bytes": b"png", "path": None}, "caption": "a red cat", "layout": "one"}
    row |= {"relation": None, "style": "noto", "items": [item], "captions": both, "questions": asked, "answers": said}
    pq.write_table(pa.Table.from_pylist([row, row]), tmp_path / "test.parquet")
    found = open_questions(str(tmp_path / "test.parquet"), None, None, None)
    rows = list(found.rows)
    assert found.format == "scenes" and [each.id for each in rows] == ["test-0-0 0", "test-0-0 1"] * 2
    assert [(each.question, each.answers, each.group) for each in rows[:2]] == [
        (asked[0], tuple(both), "one"),
        (asked[1], (said[1],), "one"),
    ]
    assert rows[0].image == b"png" and not rows[0].captions
    with pytest.raises(ValueError, match="from scenes"):
        open_questions(str(tmp_path / "test.parquet"), None, None, "test")


def test_vizwiz_and_gqa(tmp_path):
    (row,) = open_benchmark(vizwiz_file(tmp_path)).rows
    assert row.id == "VizWiz_val_00000000.jpg" and row.group == "unanswerable" and len(row.answers) == 10
    found = open_benchmark(gqa_file(tmp_path))
    assert found.format == "gqa" and [row.group for row in found.rows] == ["query", "verify"]
    assert found.rows[0].answers == ("yes",) and found.rows[0].image.endswith("n161313.jpg")


def test_seed_bench(tmp_path):
    write_images(tmp_path, "1454426_2591111980")
    found = open_benchmark(seed_bench_file(tmp_path))
    assert found.format == "seed-bench" and found.identity["questions_about_videos"] == 1 and len(found.rows) == 4
    row = found.rows[1]
    assert (row.id, row.right, row.choices) == ("101670", 1, ("One", "Two dogs", "Three", "Four"))
    assert [row.group for row in found.rows[:2]] == ["Scene Understanding", "Instance Identity"]
    assert found.rows[0].image == str(tmp_path / "1454426_2591111980")
    with pytest.raises(ValueError, match=r"questions\[0\]: answer must be one of A, B, C, D; got 'E'"):
        open_benchmark(seed_bench_file(tmp_path, "E"))


def test_rows_of_ones_own(tmp_path):
    rows = [
        {"image": "a.jpg", "caption": ["A dog", "A cat"], "image_id": 7},
        {"image": "a.jpg", "question": "What?", "answer": "cat", "category": "animals"},
        {"image": "a.jpg", "question": "What?", "answers": [{"answer": "cat"}, {"answer": "a cat"}], "id": "x"},
        {"image": "a.jpg", "question": "Which?", "choices": ["dog", "cat"], "answer": "cat"},
        {"image": "a.jpg", "question": "Which?", "choices": ["dog", "cat"], "answer": "B"},
        {"image": "a.jpg", "question": "Which?", "choices": ["dog", "cat"], "answer": 0},
        {"image": "a.jpg", "question": "Which?", "choices": ["dog", "cat"], "answer": "bird"},
    ]
    lines = tmp_path / "rows.jsonl"
    lines.write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    found = open_benchmark(lines).rows
    assert found == open_benchmark(write_json(tmp_path / "rows.json", rows)).rows
    assert [row.id for row in found] == ["7", "1", "x", "3", "4", "5", "6"]
    assert found[0].captions == ("A dog", "A cat") and found[1].group == "animals"
    assert found[2].answers == ("cat", "a cat") and [row.right for row in found[3:]] == [1, 1, 0, None]
    assert "'bird' is no choice" in found[6].choice_fault
    stored = {"image": f"data:image/png;base64,{base64.encodebytes(noise(0)).decode()}", "question": "What?"}
    assert open_benchmark(write_json(tmp_path / "rows.json", [stored])).rows[0].image == noise(0)
    with pytest.raises(ValueError, match=r"rows.json\[0\]: image is no base64"):
        open_benchmark(
            write_json(tmp_path / "rows.json", [{"image": "data:image/png;base64,@@", "question": "What?"}])
        )
    with pytest.raises(ValueError, match=r"rows.json\[0\]: image must hold bytes or a path, got int"):
        open_benchmark(write_json(tmp_path / "rows.json", [{"image": {"path": 3}, "question": "What?"}]))
    with pytest.raises(ValueError, match=r"rows.json\[0\]: question must be str or int or float, got list"):
        open_benchmark(write_json(tmp_path / "rows.json", [{"image": "a", "question": [1]}]))


@pytest.mark.parametrize(
    ("choices", "answer", "right", "words"),
    [
        (["dog", "cat"], 1, 1, ""),
        (["dog", "cat"], "1", 1, ""),
        (["dog", "cat"], 2, None, "the answer '2' is no choice"),
        (["1", "2", "3"], "2", 1, ""),
        (["1", "2", "3"], "B", 1, ""),
        (["1", "2", "3"], 2, None, "the answer '2' may be a choice or its number"),
        (["10", "20", "30"], "2", None, "the answer '2' may be a choice or its number"),
        (["dog", "cat"], ["dog", "cat"], None, "2 answers, where one of the choices is right"),
    ],
)
def test_the_right_choice_is_never_guessed(tmp_path, choices, answer, right, words):
    row = {"image": "a.jpg", "question": "Which?", "choices": choices, "answer": answer}
    (found,) = open_benchmark(write_json(tmp_path / "rows.json", [row])).rows
    assert found.right == right and found.choice_fault.startswith(words)
    assert bool(found.choice_fault) == bool(words) and not found.fault


@pytest.mark.parametrize("mark", ["{}. ", "({}) ", "{}) ", "{}: ", ""])
@pytest.mark.parametrize(("answer", "right"), [("B", 1), ("2 dogs", 1), ("1 dog", 0), ("whole", 1)])
def test_the_questions_of_mme_unify(tmp_path, mark, answer, right):
    """Its field is `choice`; letters before the choices are taken off, because asking by letter writes them."""
    texts = ["1 dog", "2 dogs", "no dog"]
    choice = [mark.format(letter) + text for letter, text in zip("ABC", texts)]
    answer = choice[1] if answer == "whole" else answer
    row = {"image": "a.jpg", "question": "How many?", "choice": choice, "answer": answer, "category": "Counting"}
    (found,) = open_benchmark(write_json(tmp_path / "rows.json", [row])).rows
    assert (found.choices, found.right, found.group, found.fault) == (tuple(texts), right, "Counting", "")


def test_choices_that_only_look_lettered_stay(tmp_path):
    row = {"image": "a.jpg", "question": "Which?", "choices": ["A. Smith", "C. Jones"], "answer": "C. Jones"}
    (found,) = open_benchmark(write_json(tmp_path / "rows.json", [row])).rows
    assert (found.choices, found.right) == (("A. Smith", "C. Jones"), 1)


def test_a_question_that_is_there_twice_is_refused(tmp_path):
    for place, name in enumerate(("questions", "annotations")):
        files = vqa_files(tmp_path, ASKED)
        value = json.loads(files[place].read_text())
        value[name].append(value[name][0])
        write_json(files[place], value)
        with pytest.raises(ValueError, match=f"{name}.json: the question: 42000 is there twice"):
            open_benchmark(files[0], annotations=files[1])


def test_a_question_of_other_benchmarks_that_is_there_twice_is_refused(tmp_path):
    value = json.loads(vizwiz_file(tmp_path).read_text())
    with pytest.raises(ValueError, match=f"rows.json: the image: {value[0]['image']} is there twice"):
        open_benchmark(write_json(tmp_path / "rows.json", [*value, value[0]]))
    value = json.loads(seed_bench_file(tmp_path).read_text())
    value["questions"].append(value["questions"][0])
    with pytest.raises(ValueError, match=f"rows.json: the question: {value['questions'][0]['question_id']} is there"):
        open_benchmark(write_json(tmp_path / "rows.json", value))


def test_questions_of_scenes_need_a_file_of_todays(tmp_path):
    columns = {name: ["x"] for name in ("id", "caption", "layout", "relation", "style", "items", "image")}
    pq.write_table(pa.table({**columns, "questions": [["What?"]], "answers": [["x"]]}), tmp_path / "scenes.parquet")
    with pytest.raises(ValueError, match="scenes.parquet: was written by an earlier version"):
        scene_questions(tmp_path / "scenes.parquet")


def test_parquet_with_questions(tmp_path):
    table = pa.table(
        {"image": [{"bytes": noise(0), "path": None}], "question": ["What?"], "answers": [["cat", "dog"]]}
    )
    pq.write_table(table, tmp_path / "rows.parquet")
    assert is_benchmark(tmp_path / "rows.parquet")
    (row,) = open_benchmark(tmp_path / "rows.parquet").rows
    assert (row.image, row.question, row.answers) == (noise(0), "What?", ("cat", "dog"))
    pq.write_table(table.drop_columns("question"), tmp_path / "captions.parquet")
    assert not is_benchmark(tmp_path / "captions.parquet")  # a source


def test_pictograms(tmp_path):
    rows = pictogram_rows(9)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "validation.parquet")
    captions = list(open_benchmark(tmp_path).rows)
    assert [row.captions for row in captions] == [(row["caption"],) for row in rows]
    found = open_benchmark(tmp_path, split="validation", questions=True)
    questions = list(found.rows)
    expected = [pair for row in rows for pairs in questions_by_topic(row).values() for pair in pairs]
    assert [(row.question, row.answers[0]) for row in questions] == expected
    assert len({row.id for row in questions}) == len(questions) and {"main colour", "object"} <= {
        r.group for r in questions
    }
    with pytest.raises(FileNotFoundError, match="no split 'test' of the pictograms, which have train"):
        open_benchmark(tmp_path, split="test")


def test_what_a_format_does_not_have_is_refused(tmp_path):
    own = write_json(tmp_path / "own.json", [{"image": "a.png", "question": "What?", "answers": ["cat"]}])
    table = pa.table({"image": ["a.png"], "question": ["What?"], "answers": [["cat"]]})
    pq.write_table(table, tmp_path / "own.parquet")
    for file in (own, tmp_path / "own.parquet", gqa_file(tmp_path)):
        with pytest.raises(ValueError, match="--annotations goes with questions of VQAv2 or OK-VQA"):
            open_benchmark(file, annotations=own)
    pictograms = tmp_path / "pictograms"
    pictograms.mkdir()
    pq.write_table(pa.Table.from_pylist(pictogram_rows(2)), pictograms / "validation.parquet")
    for given, words in (
        ({"annotations": own}, "--annotations goes with"),
        ({"images": tmp_path}, "leave --images out"),
    ):
        with pytest.raises(ValueError, match=words):
            open_benchmark(pictograms, **given)


def test_several_answers_do_not_matter_where_nothing_is_chosen(tmp_path):
    row = {"image": "a.jpg", "question": "What?", "choices": ["cat", "dog"], "answers": ["cat", "cat", "kitten"]}
    (found,) = open_benchmark(write_json(tmp_path / "rows.json", [row])).rows
    assert found.fault == "" and found.right is None and "3 answers" in found.choice_fault
    assert found.answers == ("cat", "cat", "kitten")
