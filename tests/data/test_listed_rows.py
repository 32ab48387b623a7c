"""Rows that are named one by one: image files, and files of prompts and questions in every format."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from seed_hf.data.jobs.batch_memory import batch_size_of, in_parts
from seed_hf.data.sources.listed import FileOfTexts, NamedImages
from tiny_diffusion import tiny_model_and_processor
from tiny_sources import noise


TEXTS = ["a red apple", "a blue car"]


def read(rows) -> list[tuple]:
    return [(row.id, row.caption, row.rejection and row.rejection.reason) for row in rows.rows(0)]


def write(path, text, suffix):
    if suffix == ".parquet":
        pq.write_table(pa.table({"id": ["x", "y"], "text": text}), path)
    elif suffix == ".csv":
        path.write_text("id,text\n" + "".join(f"{key},{one}\n" for key, one in zip("xy", text)), encoding="utf-8")
    elif suffix == ".jsonl":
        lines = (json.dumps({"id": key, "text": one}) for key, one in zip("xy", text))
        path.write_text("\n".join(lines), encoding="utf-8")
    else:
        path.write_text("\n\n".join(text), encoding="utf-8-sig")
    return str(path)


@pytest.mark.parametrize("suffix", [".txt", ".jsonl", ".csv", ".parquet"])
def test_prompts_in_every_format(tmp_path, suffix):
    rows = FileOfTexts(write(tmp_path / f"a{suffix}", TEXTS, suffix), "prompt")
    ids = [f"a{suffix}:0", f"a{suffix}:1"] if suffix == ".txt" else ["x", "y"]
    assert read(rows) == [(row_id, text, None) for row_id, text in zip(ids, TEXTS)]
    assert [row.caption for row in rows.rows(0, 1)] == TEXTS[1:] and len(list(rows.rows(0, 0, 1))) == 1
    assert rows.identity()["bytes"] == (tmp_path / f"a{suffix}").stat().st_size


def test_what_is_no_text_is_a_bad_row(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"a red apple\nbl\xfcue\n\xff\xfea\n")
    reasons = [reason for _, _, reason in read(FileOfTexts(str(path), "prompt"))]
    assert reasons[0] is None and "not UTF-8" in reasons[1] and "UTF-16" in reasons[2]
    path = tmp_path / "a.jsonl"
    path.write_text('{"prompt": 5}\n{"prompt": ["a", "b"]}\n{"prompt": " "}\n[]\n{"prompt": "long"}\n')
    rows = FileOfTexts(str(path), "prompt", fault=lambda text: "too long" if text == "long" else None)
    words = ("a whole number, not text", "several texts", "no text", "not a JSON object", "too long")
    assert all(word in reason for word, (_, _, reason) in zip(words, read(rows), strict=True))


@pytest.mark.parametrize("name", ["a.json", "a.TSV", "a.png", "a.txt.gz", "a.xlsx"])
def test_files_whose_lines_are_no_texts_are_refused(tmp_path, name):
    (tmp_path / name).write_text('[{"prompt": "a red apple"}]\n')
    with pytest.raises(ValueError, match=r"not a file of prompts.*\.jsonl, \.csv, \.parquet"):
        FileOfTexts(str(tmp_path / name), "prompt")


def test_every_end_of_a_line_ends_one_and_control_characters_are_a_bad_row(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"a red apple\ra blue car\r\n\x1b[1mbold\na\tb\n")
    rows = read(FileOfTexts(str(tmp_path / "a.txt"), "prompt"))
    assert [text for _, text, _ in rows] == [*TEXTS, None, "a\tb"] and "control characters" in rows[2][2]


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_endings_may_be_upper_case(tmp_path, suffix):
    path = write(tmp_path / f"a{suffix}", TEXTS, suffix)
    (tmp_path / f"b{suffix.upper()}").write_bytes((tmp_path / f"a{suffix}").read_bytes())
    lower, upper = (FileOfTexts(str(one), "prompt") for one in (path, tmp_path / f"b{suffix.upper()}"))
    assert read(lower) == read(upper)


def test_a_blank_in_the_place_of_an_image_is_no_image(tmp_path):
    (tmp_path / "a.csv").write_text("question,image\nwhat?,\n")
    (row,) = FileOfTexts(str(tmp_path / "a.csv"), "question", with_images=True).rows(0)
    assert row.image is None


def test_questions_have_images(tmp_path):
    pq.write_table(pa.table({"question": TEXTS, "image": [noise(0), noise(1)]}), tmp_path / "a.parquet")
    rows = FileOfTexts(str(tmp_path / "a.parquet"), "question", with_images=True)
    assert [row.image for row in rows.rows(0)] == [noise(0), noise(1)] and rows.in_stamp(noise(0))
    (tmp_path / "a.jsonl").write_text('{"question": "what?", "file_name": "b/0.png"}\n')
    rows = FileOfTexts(str(tmp_path / "a.jsonl"), "question", with_images=True)
    assert [row.image for row in rows.rows(0)] == [str(tmp_path / "b" / "0.png")]
    assert not rows.in_stamp("b/0.png")
    one = FileOfTexts(str(tmp_path / "a.jsonl"), "question", with_images=True, image=str(tmp_path / "c.png"))
    assert [row.image for row in one.rows(0)] == [str(tmp_path / "c.png")] and one.identity() != rows.identity()
    with pytest.raises(ValueError, match="looks like an image: question, text"):
        (tmp_path / "b.jsonl").write_text('{"question": "what?", "text": "b"}\n')
        FileOfTexts(str(tmp_path / "b.jsonl"), "question", with_images=True)


def test_named_images_are_themselves(tmp_path):
    files = [str(tmp_path / f"{number}.png") for number in range(3)]
    for file in files[:2]:
        with open(file, "wb") as image:
            image.write(noise(0))
    rows = NamedImages(files)
    assert [row.id for row in rows.rows(0, 1)] == files[1:] and rows.length(0) == 3
    assert rows.identity() != NamedImages(files[:2]).identity() != NamedImages(files[1::-1]).identity()


def test_a_batch_is_halved_where_memory_ends():
    sizes = []

    def work(rows):
        sizes.append(len(rows))
        if len(rows) > 2:
            raise torch.OutOfMemoryError("too many")
        return [row * 10 for row in rows]

    assert in_parts(work, range(7)) == [10 * row for row in range(7)]
    assert sizes == [7, 3, 1, 2, 4, 2, 2]

    def never(rows):
        raise torch.OutOfMemoryError("not even one")

    with pytest.raises(torch.OutOfMemoryError):
        in_parts(never, range(4))


def test_the_batch_size_is_a_power_of_two_and_stays(tmp_path):
    model, _ = tiny_model_and_processor()
    size = batch_size_of(tmp_path, model)
    assert 1 <= size <= 32 and size & (size - 1) == 0
    (tmp_path / "manifest.json").write_text('{"settings": {"batch_size": 7}}')
    assert batch_size_of(tmp_path, model) == 7
    (tmp_path / "manifest.json").write_text("{")
    assert batch_size_of(tmp_path, model) == size
