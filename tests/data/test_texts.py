"""Captions and ids of any source are text or a bad row, and a bad row is never the end of its file."""

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hostile_sweep import sweep
from hostile_texts import (
    FILES,
    OBJECTS,
    TEXTS,
    between_sound_rows,
    folder_of,
    lines_of,
    parquet_of,
    table_of,
    tar_of,
    text_array,
)
from seed_hf.data import open_source, tokenize_images
from seed_hf.data.sources.filters import RowFilters
from seed_hf.data.sources.image_text import image_text_dataset
from seed_hf.data.sources.row_checks import RowReport, judge_caption
from seed_hf.data.sources.text import printable
from seed_hf.images import SeedImageError
from tiny import tiny_tokenizer
from tiny_sources import noise


def read(source, **columns) -> tuple[dict[int, str | list[str]], RowReport]:
    """The captions of the good rows by row, in a source without an id column, and the report."""
    report = RowReport()
    opened = open_source(source, **columns)
    good = [row.row for row in opened.rows(0) if judge_caption(row, RowFilters(), True) is None]
    captions = [
        row.get("caption", row.get("captions")) for row in image_text_dataset(opened, on_error="skip", report=report)
    ]
    assert len(good) == len(captions)
    return dict(zip(good, captions)), report


def check(source, captions: list[str | None], file: str) -> None:
    """Good rows have these captions; the bad ones are named, and the first of them ends a run that does not skip."""
    found, report = read(source)
    assert found == {row: caption for row, caption in enumerate(captions) if caption is not None}
    bad = [row for row, caption in enumerate(captions) if caption is None]
    assert [entry["row"] for entry in report.bad] == bad
    assert all(entry["reason"] and entry["file"].startswith(file) for entry in report.bad), report.bad
    with pytest.raises(SeedImageError, match=rf"{file}.*, row {bad[0]} \(id .*\): "):
        list(image_text_dataset(source))


# Bad text is a bad row


def test_text_files_of_a_tar(tmp_path):
    contents, captions = between_sound_rows(TEXTS)
    check(tar_of(tmp_path / "a.tar", contents), captions, "a.tar/r")


def test_json_files_of_a_tar(tmp_path):
    contents, captions = between_sound_rows(FILES, b'{"caption": "sound"}')
    check(tar_of(tmp_path / "a.tar", contents, "json"), captions, "a.tar/r")


def test_a_tar_that_begins_with_bad_json(tmp_path):
    contents = [b"{"] * 12 + [b'{"caption": "a cat"}']
    check(tar_of(tmp_path / "a.tar", contents, "json"), [None] * 12 + ["a cat"], "a.tar/r")


def test_tars_of_bad_json_alone(tmp_path):
    """Of a file whose rows are all bad, the columns cannot be known; it is no end of the job either."""
    folder = tmp_path / "in"
    folder.mkdir()
    tar_of(folder / "0.tar", [b'{"caption": "a"}'], "json")
    tar_of(folder / "1.tar", [b"{", b""], "json")
    tar_of(folder / "2.tar", [b'{"other": 1}', b'{"caption": "b"}'], "json")
    manifest = tokenize_images(open_source(folder), tiny_tokenizer(), tmp_path / "out", workers=0)
    assert manifest["rows"] == {"read": 5, "written": 2, "bad": 2} and manifest["dropped"] == {"empty_caption": 1}
    for caption_column in (None, "json.caption", "json.text"):
        found, report = read(folder / "1.tar", caption_column=caption_column)
        assert not found and report.bad_count == 2


@pytest.mark.parametrize("kind", ["string", "large_string", "binary", "large_binary", "list", "struct"])
def test_columns_of_parquet(tmp_path, kind):
    contents, captions = between_sound_rows(TEXTS)
    if kind in ("list", "struct"):
        texts, item = text_array(contents), pa.field("item", pa.string())
        if kind == "list":
            column = pa.ListArray.from_arrays(pa.array(range(len(contents) + 1), pa.int32()), texts)
            captions = [caption and [caption] for caption in captions]
        else:
            column = pa.StructArray.from_arrays([texts], fields=[item.with_name("caption")])
    else:
        large = kind.startswith("large")
        column = text_array(contents) if kind.endswith("string") else pa.array(contents, pa.binary())
        column = column.cast(getattr(pa, kind)(), safe=False) if large else column
    path = parquet_of(tmp_path / "a.parquet", **{"json" if kind == "struct" else "caption": column})
    check(path, captions, "a.parquet")


def test_lines_of_a_folder(tmp_path):
    contents, captions = between_sound_rows(OBJECTS, b'{"caption": "sound"}')
    check(folder_of(tmp_path / "a", lines_of(contents), len(contents)), captions, "")
    broken = b'{"file_name": "r0.png", "caption": "a"}\n\n[]\n3\n{"file\n' + b'{"file_name": "r1.png", "caption": "b"}'
    check(folder_of(tmp_path / "b", broken, 2), ["a", None, None, None, "b"], "metadata.jsonl")


def test_one_of_several_metadata_files_is_bad(tmp_path):
    for number, line in enumerate((b'{"file_name": "r0.png", "caption": "a"}', b'{"file_name": "r0.png", "capt')):
        (tmp_path / "a").mkdir(exist_ok=True)
        folder_of(tmp_path / "a" / str(number), line, 1)
    found, report = read(tmp_path / "a")
    assert found == {0: "a"} and [entry["file"] for entry in report.bad] == ["1/metadata.jsonl"]


def test_a_table_of_a_folder(tmp_path):
    contents, captions = between_sound_rows(TEXTS)
    check(folder_of(tmp_path / "a", table_of(contents), len(contents), "metadata.csv"), captions, "r")
    lines = (b'r0.png,"a, b"', b'r1.png,"open', b'r2.png,6" pipe', b"", b"r3.png,a,b", b'r4.png,"c\nd"', b"")
    broken = b"\r\n".join([b"\xef\xbb\xbffile_name,caption", *lines])
    captions = ["a, b", None, '6" pipe', None, "c\nd"]
    check(folder_of(tmp_path / "b", broken, 5, "metadata.csv"), captions, "metadata.csv")
    long = "word " * 40_000  # longer than Python's limit of a field
    found, report = read(folder_of(tmp_path / "c", table_of([long.encode()]), 1, "metadata.csv"))
    assert found == {0: long} and not report.bad


def test_metadata_of_another_encoding_is_named(tmp_path):
    for file in ("metadata.csv", "metadata.jsonl"):
        folder = folder_of(tmp_path / file, "file_name,caption\nr0.png,a\n".encode("utf-16"), 1, file)
        with pytest.raises(ValueError, match=rf"{file}: UTF-16 text. Save the file as UTF-8"):
            open_source(folder)
    for file, content in (("metadata.csv", b""), ("metadata.jsonl", b"[\n"), ("metadata.csv", b"a,a\n1,2\n")):
        with pytest.raises(ValueError, match=rf"{file}: (no header|no row can be read|two columns)"):
            open_source(folder_of(tmp_path / file, content, 1, file))


# Names


LATIN = "kätzchen".encode("latin-1")


def test_names_that_are_not_text(tmp_path):
    """In tars and folders the name is the id, where there is no other."""
    names = [b"r0", LATIN, b"r2"]
    check(tar_of(tmp_path / "a.tar", [b"sound"] * 3, names=names), ["sound", None, "sound"], "a.tar/")
    folder = tmp_path / "a"
    folder.mkdir()
    for name in (b"a", LATIN, b"z"):
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name + b".png")).write_bytes(noise(0))
    found = [(row.id, row.rejection is not None) for row in open_source(folder, captions=False).rows(0)]
    assert found == [("a.png", False), (r"k\udce4tzchen.png", True), ("z.png", False)]


def test_a_job_over_files_whose_names_are_not_text(tmp_path):
    """Neither the name of a source's file nor that of a row ends a job, and what it writes is UTF-8."""
    folder = tmp_path / "in"
    folder.mkdir()
    names = [b"r0", LATIN, b"line\nbreak", b"r3"]
    tar_of(Path(os.fsdecode(os.fsencode(folder) + b"/" + LATIN + b".tar")), [b"sound"] * 3 + [b"\xff"], names=names)
    manifest = tokenize_images(open_source(folder), tiny_tokenizer(), tmp_path / "out", workers=0)
    assert manifest["rows"] == {"read": 4, "written": 2, "bad": 2}
    assert pq.read_table(tmp_path / "out" / "codes-00000-00000.parquet")["id"].to_pylist() == ["r0", "line\nbreak"]
    report = (tmp_path / "out" / "bad_images.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(report) == 2 and r"k\\udce4tzchen.tar/r3.png" in report[1]


def test_paths_that_no_file_system_has(tmp_path):
    """A row may name anything as its image; the folder of the source is not left on an error of the system."""
    paths = ["x" * 300 + ".png", "x/" * 5000, "nul\0.png", ".", "/dev/zero", "http://a/b.png", "missing.png", ""]
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"image": paths, "caption": ["a"] * len(paths)}), path)
    report = RowReport()
    assert not list(image_text_dataset(path, on_error="skip", report=report))
    assert report.bad_count == len(paths)
    assert "File name too long" in report.bad[0]["reason"]


def test_bytes_of_reports_are_printable():
    assert printable("a\x1b[2Jb\n\udce4é🐱") == r"a\x1b[2Jb\n\udce4é🐱"


# Types


def test_a_table_is_text(tmp_path):
    """As it is written: no number, no truth value and no missing value is made of it."""
    lines = (b"r0.png,007,007", b"r1.png,1.50,1.50", b"r2.png,NA,NA", b"r3.png,None,None", b"r4.png,true,true")
    table = b"\n".join([b"file_name,caption,id", *lines, b"r5.png,1e5,"])
    rows = list(open_source(folder_of(tmp_path / "a", table, 6, "metadata.csv")).rows(0))
    assert [row.caption for row in rows] == ["007", "1.50", "NA", "None", "true", "1e5"]
    assert [row.id for row in rows] == ["007", "1.50", "NA", "None", "true", "r5.png"]


IDS = {
    "text": (["a", "b"], ["a", "b"]),
    "bytes": ([b"a", "ä".encode()], ["a", "ä"]),
    "integers": ([7, None], ["7", "a.parquet:1"]),
    "blank": (["", " "], ["a.parquet:0", "a.parquet:1"]),
    "missing": ([None, None], ["a.parquet:0", "a.parquet:1"]),
    "repeated": (["x/../y", "x/../y"], ["x/../y", "x/../y"]),
    "by number": (pa.array(["a", "b"]).dictionary_encode(), ["a", "b"]),
}


@pytest.mark.parametrize("kind", list(IDS))
def test_ids_of_parquet(tmp_path, kind):
    values, ids = IDS[kind]
    path = parquet_of(tmp_path / "a.parquet", caption=["x", "y"], id=values)
    assert [row.id for row in open_source(path).rows(0)] == ids


NOT_TEXT = {
    "fractions": pa.array([1.5, float("nan")]),
    "truth values": pa.array([True, False]),
    "dates": pa.array([0, 1], pa.date32()),
    "times": pa.array([0, 1], pa.timestamp("ns")),
    "decimals": pa.array([1, 2], pa.decimal128(5, 2)),
    "mappings": pa.array([{"en": "a"}, {"en": "b"}]),
    "nested lists": pa.array([[["a"]], [["b"]]]),
}


@pytest.mark.parametrize("kind", list(NOT_TEXT))
def test_columns_that_hold_no_text_are_refused_by_name(tmp_path, kind):
    column, texts = NOT_TEXT[kind], ["x", "y"]
    for name, columns in (("caption", {"caption": column}), ("id", {"caption": texts, "id": column})):
        path = parquet_of(tmp_path / f"{name}.parquet", **columns)
        with pytest.raises(
            ValueError, match=rf"{name}.parquet: the column '{name}' holds .*, not text.*{name}_column"
        ):
            open_source(path)
    assert [row.id for row in open_source(path, id_column="").rows(0)] == ["id.parquet:0", "id.parquet:1"]
    pq.write_table(pa.table({"image": column, "caption": texts}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="'image' holds .*, not encoded images or their paths"):
        open_source(tmp_path / "a.parquet")


def test_captions_that_are_numbers_are_refused(tmp_path):
    """A column of labels is no column of captions. In JSON it is one row after the other."""
    with pytest.raises(ValueError, match="'caption' holds int64, not text or lists of texts"):
        open_source(parquet_of(tmp_path / "a.parquet", caption=[1, 2]))
    found, report = read(tar_of(tmp_path / "a.tar", [b'{"caption": 1}', b'{"caption": "1"}'], "json"))
    assert found == {1: "1"} and report.bad[0]["reason"] == "json.caption is a whole number, not text"


def test_a_field_of_a_mapping_is_a_caption(tmp_path):
    path = parquet_of(tmp_path / "a.parquet", caption=[{"en": "a", "de": None}, None])
    with pytest.raises(ValueError, match="or a field of this one, such as caption.en"):
        open_source(path)
    assert [row.caption for row in open_source(path, caption_column="caption.en").rows(0)] == ["a", None]


@pytest.mark.parametrize("kind", ["parquet", "tar", "folder"])
def test_lists_of_captions_after_a_null(tmp_path, kind):
    values = [None, ["a", " ", "b"], [], ["c"]]
    objects = [b'{"caption": null}', b'{"caption": ["a", " ", "b"]}', b'{"caption": []}', b'{"caption": "c"}']
    if kind == "parquet":
        source = parquet_of(tmp_path / "a.parquet", caption=values)
    elif kind == "tar":
        source = tar_of(tmp_path / "a.tar", objects, "json")
    else:
        source = folder_of(tmp_path / "a", lines_of(objects), 4)
    manifest = tokenize_images(open_source(source), tiny_tokenizer(), tmp_path / "out", workers=0)
    assert manifest["dropped"] == {"empty_caption": 2} and manifest["rows"]["bad"] == 0
    stored = pq.read_table(tmp_path / "out" / "codes-00000-00000.parquet")["captions"].to_pylist()
    assert stored == [["a", "b"], ["c"]]


def test_bad_rows_are_reported_between_the_rows_of_their_shard(tmp_path):
    """A bad caption takes no other row with it, whatever the chunks, the batches and the workers."""
    contents, captions = between_sound_rows(TEXTS)
    source = open_source(tar_of(tmp_path / "a.tar", contents))
    settings = {"workers": 0, "rows_per_shard": 9, "batch_size": 4}
    manifest = tokenize_images(source, tiny_tokenizer(), tmp_path / "out", **settings)
    good = [row for row, caption in enumerate(captions) if caption is not None]
    assert manifest["rows"] == {"read": len(captions), "written": len(good), "bad": len(captions) - len(good)}
    files = sorted((tmp_path / "out").glob("*.parquet"))
    assert [row["id"] for file in files for row in pq.read_table(file).to_pylist()] == [f"r{row}" for row in good]
    with pytest.raises(SeedImageError, match=r"a.tar/r1.png, row 1 \(id r1\): txt: not UTF-8 text \(byte 0xe9"):
        tokenize_images(source, tiny_tokenizer(), tmp_path / "raise", on_error="raise", **settings)


def test_a_sample_of_the_sweep(tmp_path):
    """`make soak` runs a hundred seeds."""
    assert sweep(tmp_path, seed=0, count=24) > 10
