"""An evaluation from rows to its result: resumed exactly, the same in any order and batches, nothing lost silently."""

import os

import pytest
from PIL import Image

from killed_evaluations import Slow, Widths, data, rows, run_killed, without_times
from seed_hf.evaluation.rows import EvaluationData, EvaluationRow
from seed_hf.evaluation.running import run_task
from tiny_sources import noise


@pytest.mark.parametrize("lazy", [False, True])
def test_a_killed_evaluation_goes_on_to_the_same_result(tmp_path, lazy):
    whole = tmp_path / "whole.json"
    run_task(Widths(), data(lazy=lazy), whole, batch_size=2)
    out = tmp_path / "killed.json"
    with pytest.raises(KeyboardInterrupt):
        run_task(Widths(dies_after=3), data(lazy=lazy), out, batch_size=2)
    assert not out.exists()
    with open(tmp_path / "killed.rows.jsonl", "ab") as file:
        file.write(b'{"row": 9, "id": "r9", "wid')  # the line that a kill cuts
    task = Widths()
    run_task(task, data(lazy=lazy), out, batch_size=2)
    assert sum(map(len, task.measured)) == task.seen == 4
    assert without_times(out) == without_times(whole)
    again = Widths()
    run_task(again, data(lazy=lazy), out, batch_size=2)  # a finished one is read, not done again
    assert not again.measured and without_times(out) == without_times(whole)


def test_a_record_is_the_same_in_any_batch_and_longest_come_first(tmp_path):
    task = Widths()
    one = run_task(task, data(), tmp_path / "a.json", batch_size=4)
    assert task.measured[0] == ["r3", "r7", "r2", "r6"]
    other = run_task(Widths(), data(), tmp_path / "b.json", batch_size=1)
    assert one["figures"] == other["figures"] and one["data"] == other["data"]
    assert one["figures"]["all"] == {"mean": 14.5, "last": 19}


def test_processes_share_the_rows_and_the_last_one_writes(tmp_path, monkeypatch):
    alone = tmp_path / "alone.json"
    run_task(Widths(), data(), alone)
    out = tmp_path / "shared.json"
    monkeypatch.setenv("WORLD_SIZE", "3")
    for rank in ("2", "0"):
        monkeypatch.setenv("RANK", rank)
        assert run_task(Widths(), data(), out) is None and not out.exists()
    monkeypatch.setenv("RANK", "1")
    task = Widths()
    assert run_task(task, data(), out)["environment"]["processes"] == 3
    assert sorted(task.measured[0]) == ["r1", "r4", "r7"]
    assert without_times(out)["figures"] == without_times(alone)["figures"]
    assert without_times(out)["data"] == without_times(alone)["data"]
    monkeypatch.delenv("RANK")
    monkeypatch.delenv("WORLD_SIZE")
    last = Widths()
    run_task(last, data(), out)  # by another number of processes: all files count
    assert not last.measured


def test_rows_of_one_file_are_seen_once(tmp_path):
    (tmp_path / "image.png").write_bytes(noise(0, width=30))
    for number, image in enumerate((str(tmp_path / "image.png"), noise(0, width=30))):
        made = [EvaluationRow(f"q{i}", image, question="?") for i in range(7)]
        task = Widths()
        result = run_task(task, data(made), tmp_path / f"{number}.json", batch_size=2)
        assert task.seen == 1 and result["figures"]["all"]["mean"] == 30


def test_other_settings_are_not_mixed_in(tmp_path):
    out = tmp_path / "out.json"
    run_task(Widths(), data(), out)
    with pytest.raises(ValueError, match="settings unit was 'pixels' and is 'mm'. Give another --out"):
        run_task(Widths("mm"), data(), out)
    with pytest.raises(ValueError, match="data limit was None and is 3"):
        run_task(Widths(), data(), out, limit=3)
    with pytest.raises(ValueError, match="data split was 'test' and is 'val'"):
        run_task(Widths(), EvaluationData("made", rows(), {"split": "val"}), out)


def test_deviations_from_the_protocol_are_in_result_and_page(tmp_path):
    result = run_task(Widths("mm"), data(), tmp_path / "out.json")
    assert result["deviations"] == ["unit is 'mm'; the authors' is 'pixels'"]
    assert "- unit is 'mm'; the authors' is 'pixels'" in (tmp_path / "out.md").read_text()
    assert run_task(Widths(), data(), tmp_path / "same.json")["deviations"] == []


def test_all_missing_images_are_found_before_the_work(tmp_path):
    made = [*rows(3), EvaluationRow("gone", str(tmp_path / "gone.jpg")), EvaluationRow("none")]
    task = Widths()
    with pytest.raises(ValueError, match=r"2 of 5 rows cannot .* first: gone: no file .*gone.jpg. --on-error"):
        run_task(task, data(made), tmp_path / "out.json")
    assert not task.seen and not list(tmp_path.iterdir())


@pytest.mark.parametrize("lazy", [False, True])
def test_bad_rows_are_listed_and_mended_ones_are_done(tmp_path, lazy):
    path = tmp_path / "image.png"
    made = [
        *rows(3),
        EvaluationRow("cut", noise(1)[:60]),
        EvaluationRow("gone", str(path)),
        EvaluationRow("b", fault="bad"),
    ]
    out = tmp_path / "out.json"
    result = run_task(Widths(), data(made, lazy), out, on_error="skip")
    assert [(row["row"], row["id"]) for row in result["data"]["bad_rows"]] == [(3, "cut"), (4, "gone"), (5, "b")]
    assert "cut off" in result["data"]["bad_rows"][0]["bad"] and result["data"]["bad_rows"][2]["bad"] == "bad"
    assert result["data"]["rows"] == 3 and "gone (row 4)" in out.with_suffix(".md").read_text()
    path.write_bytes(noise(4, width=50))
    result = run_task(Widths(), data(made, lazy), out, on_error="skip")  # a mended one is measured
    assert [row["id"] for row in result["data"]["bad_rows"]] == ["cut", "b"] and result["data"]["rows"] == 4
    with pytest.raises(ValueError, match="cut|b: bad"):
        run_task(Widths(), data(made, lazy), out)
    good = [*made[:3], EvaluationRow("cut", noise(3, width=40)), made[4], EvaluationRow("b", noise(5, width=60))]
    result = run_task(Widths(), data(good, lazy), out)
    assert result["data"]["rows"] == 6 and result["data"]["bad_rows"] == [] and result["figures"]["all"]["last"] == 60


def test_a_file_of_ones_own_beside_the_result_is_not_overwritten(tmp_path):
    mine = tmp_path / "mine.rows.jsonl"
    for text in ('\n{"id": "a"}\n', '{"id": "a"}\n', "words\n"):
        mine.write_text(text)
        with pytest.raises(ValueError, match="mine.rows.jsonl: no rows of an evaluation. Give another --out"):
            run_task(Widths(), data(), tmp_path / "mine.json")
        assert mine.read_text() == text
    mine.write_text('{"evaluation": {"ta')  # what a kill leaves of the first line
    assert run_task(Widths(), data(), tmp_path / "mine.json")["data"]["rows"]


def test_few_large_images_wait_together(tmp_path, monkeypatch):
    """Photographs in Parquet are megabytes each: a window of them is bounded by bytes, too."""
    monkeypatch.setattr("seed_hf.evaluation.running._WINDOW_BYTES", 1)
    task = Widths()
    result = run_task(task, data(lazy=True), tmp_path / "out.json", batch_size=4)
    assert max(map(len, task.measured)) == 1
    whole = run_task(Widths(), data(), tmp_path / "whole.json", batch_size=1)
    assert result["figures"] == whole["figures"]


def test_limit_and_odd_numbers(tmp_path):
    result = run_task(Widths(), data(lazy=True), tmp_path / "out.json", limit=3)
    assert result["data"]["rows"] == 3 and result["data"]["limit"] == 3
    assert "not comparable" in (tmp_path / "out.md").read_text()
    for wrong in ({"limit": 0}, {"batch_size": 0}, {"on_error": "ignore"}):
        with pytest.raises(ValueError, match="must be"):
            run_task(Widths(), data(), tmp_path / "wrong.json", **wrong)
    with pytest.raises(ValueError, match="has no rows"):
        run_task(Widths(), data([]), tmp_path / "none.json")
    with pytest.raises(ValueError, match="None of 1 rows can be used, the first: b: bad"):
        run_task(Widths(), data([EvaluationRow("b", fault="bad")]), tmp_path / "bad.json", on_error="skip")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("rows.json", "rows.json: this is no result of an evaluation, and would be replaced"),
        ("NOTES.json", "NOTES.md: this is no result of an evaluation, and would be replaced"),
        ("rows.jsonl", "the result is a file that ends with .json"),
        ("out.md", "the result is a file that ends with .json"),
        ("folder.json", "the result is a file that ends with .json"),
    ],
)
def test_results_replace_results_alone(tmp_path, name, words):
    """The data, or a page of one's own, is not lost by giving its name as that of the result."""
    (tmp_path / "folder.json").mkdir()
    for mine in ("rows.json", "NOTES.md", "rows.jsonl"):
        (tmp_path / mine).write_text('[{"image": "a.png"}]')
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    with pytest.raises(ValueError, match=words):
        run_task(Widths(), data(), tmp_path / name)
    assert {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before
    run_task(Widths(), data(), tmp_path / "out.json")
    (tmp_path / "out.rows.jsonl").unlink()
    assert run_task(Widths(), data(rows(3)), tmp_path / "out.json")["data"]["rows"] == 3  # a result is replaced
    (tmp_path / "out.json").unlink()
    run_task(Widths(), data(rows(3)), tmp_path / "out.json")  # and so is a page


@pytest.mark.parametrize("change", ["image", "question", "captions", "file", "gone"])
def test_rows_with_other_content_are_not_mixed_in(tmp_path, change):
    """Files of images, and sources of the same size, can change without their names."""
    file, out = tmp_path / "image.png", tmp_path / "out.json"
    file.write_bytes(noise(1))
    made = [*rows(4), EvaluationRow("file", str(file), captions=("a dog",))]
    run_task(Widths(), data(made, lazy=True), out)
    if change == "file":
        file.write_bytes(noise(2))
    elif change == "gone":
        file.unlink()
    elif change == "image":
        made[3] = EvaluationRow("r3", noise(9, width=13), question="???")
    else:
        made[4] = EvaluationRow("file", str(file), **{change: {"question": "?", "captions": ("a cat",)}[change]})
    with pytest.raises(ValueError, match=r"row [34] \((r3|file)\) was evaluated with other content than it has now"):
        run_task(Widths(), data(made, lazy=True), out, on_error="skip")


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize(
    ("row", "words"),
    [
        (EvaluationRow("a", noise(0), group="all"), "has the name 'all', which is that of all rows together"),
        (EvaluationRow("a", noise(0), captions=("fine", "half \ud83d")), "holds half a surrogate pair"),
        (EvaluationRow("a\ud83d", noise(0)), "holds half a surrogate pair"),
    ],
)
def test_rows_that_no_task_can_use(tmp_path, row, words, lazy):
    with pytest.raises(ValueError, match=words):
        run_task(Widths(), data([*rows(2), row], lazy), tmp_path / "out.json")
    result = run_task(Widths(), data([*rows(2), row], lazy), tmp_path / "out.json", on_error="skip")
    assert result["data"]["rows"] == 2 and words in result["data"]["bad_rows"][0]["bad"]


def test_two_evaluations_do_not_write_the_same_file(tmp_path):
    class Second(Widths):
        def measure(self, given, seen):
            with pytest.raises(BlockingIOError, match="another evaluation is writing here"):
                run_task(Widths(), data(), tmp_path / "out.json")
            return super().measure(given, seen)

    run_task(Second(), data(), tmp_path / "out.json")
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]


@pytest.mark.parametrize("processes", [1, 2])
def test_killed_processes_lose_nothing_and_do_nothing_twice(tmp_path, processes):
    """A sample of `tests/soak/test_killed_evaluations.py`."""
    whole, killed = tmp_path / "whole.json", tmp_path / "killed.json"
    run_task(Slow(), data(rows(60)), whole, batch_size=2)
    assert run_killed(killed, kills=3, processes=processes, seed=1) >= 3
    expected, found = without_times(whole), without_times(killed)
    expected["environment"]["processes"] = processes
    assert found == expected
    lines = [line for file in tmp_path.glob("killed.rows*.jsonl") for line in file.read_bytes().splitlines()]
    assert len(lines) == 60 + processes  # each row once, and what each file is of


def test_rows_in_memory_with_other_things_are_refused():
    with pytest.raises(TypeError, match="Row a: image must be an image file's content in bytes, or its path; got Im"):
        EvaluationRow("a", Image.new("RGB", (4, 4)))
    for name in ("captions", "answers", "choices"):  # each letter would be one
        with pytest.raises(TypeError, match=rf"Row a: {name} must be a tuple of texts, such as \('a dog',\)"):
            EvaluationRow("a", **{name: "a dog"})
