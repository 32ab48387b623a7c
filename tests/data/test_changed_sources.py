"""A job goes on only with the rows that it was begun with, and notices nothing else."""

import json
import os
import shutil
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import read
from seed_hf.data.features.caching import cache_features
from seed_hf.data.jobs.tokenizing import tokenize_images
from seed_hf.data.sources.source import open_source
from tiny import tiny_tokenizer
from tiny_sources import noise, rows, write_folder, write_parquet, write_tar


SETTINGS = {"rows_per_shard": 4, "workers": 0}


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_tokenizer()


def made_of_bmp(count: int) -> list[dict]:
    """Rows whose images all have the same number of bytes."""
    return [{**row, "image": noise(i, kind="BMP")} for i, row in enumerate(rows(count))]


def write(kind: str, path: Path, made: list[dict]) -> Path:
    if kind == "folder":
        return write_folder(path, made)
    path.mkdir(exist_ok=True)
    if kind == "parquet":
        write_parquet(path / "a.parquet", made)
    else:
        write_tar(path / "a.tar", made, image="png")
    return path


def sizes(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_size for path in folder.rglob("*") if path.is_file()}


def begun(tokenizer, source, out) -> dict[str, bytes]:
    """A job of three shards of which the last is missing, as if it had been killed."""
    tokenize_images(open_source(source), tokenizer, out, **SETTINGS)
    (out / ".job" / "codes-00000-00002.json").unlink()
    (out / "codes-00000-00002.parquet").unlink()
    return read(out)


@pytest.mark.parametrize("kind", ["folder", "parquet", "tar"])
@pytest.mark.parametrize(
    "column, words", [("caption", "ids or captions"), ("id", "ids or captions"), ("image", "images")]
)
def test_rows_that_were_edited_at_equal_size_are_refused(tokenizer, tmp_path, kind, column, words):
    made = made_of_bmp(10)
    source, out = write(kind, tmp_path / "source", made), tmp_path / "out"
    begun(tokenizer, source, out)
    before, times = sizes(source), {path: path.stat() for path in source.rglob("*")}
    edited = [dict(row) for row in made]
    edited[5][column] = noise(99, kind="BMP") if column == "image" else made[5][column].replace("5", "X")
    shutil.rmtree(source)
    write(kind, source, edited)
    for path, found in times.items():  # somebody copies the times as well
        if path.exists():
            os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    if kind != "parquet" and (kind, column) != ("folder", "id"):  # compressed pages; images with other names
        assert sizes(source) == before
    with pytest.raises(ValueError, match=f"begun with something else: .*(rows 4 to 7, {words} were|files_sha256 is)"):
        tokenize_images(open_source(source), tokenizer, out, **SETTINGS)
    assert "codes-00000-00002.parquet" not in read(out)
    shutil.rmtree(source)
    write(kind, source, made)
    assert tokenize_images(open_source(source), tokenizer, out, **SETTINGS)["rows"]["written"] == 10


def test_rows_that_were_not_read_yet_may_change(tokenizer, tmp_path):
    made = made_of_bmp(10)
    source, out = write("folder", tmp_path / "source", made), tmp_path / "out"
    begun(tokenizer, source, out)
    made[9]["caption"] = "caption X"
    write("folder", source, made)
    tokenize_images(open_source(source), tokenizer, out, **SETTINGS)
    tokenize_images(open_source(source), tokenizer, tmp_path / "new", **SETTINGS)
    assert read(out) == read(tmp_path / "new")


def test_a_finished_job_and_features_notice_it_too(tokenizer, tmp_path):
    made = made_of_bmp(10)
    source = write("folder", tmp_path / "source", made)
    jobs = (tokenize_images, cache_features)
    for job in jobs:
        job(open_source(source), tokenizer, tmp_path / job.__name__, **SETTINGS)
    (source / "id8.jpg").write_bytes(noise(99, kind="BMP"))
    for job in jobs:
        with pytest.raises(ValueError, match="rows 8 to 9, images were changed"):
            job(open_source(source), tokenizer, tmp_path / job.__name__, **SETTINGS)


def test_images_outside_of_the_source_are_compared(tokenizer, tmp_path):
    """Parquet whose rows name their images by paths."""
    (tmp_path / "images").mkdir()
    for i in range(5):
        (tmp_path / "images" / f"{i}.bmp").write_bytes(noise(i, kind="BMP"))
    images = [f"images/{i}.bmp" for i in range(5)]
    pq.write_table(pa.table({"image": images, "caption": list("abcde")}), tmp_path / "a.parquet")
    out = tmp_path / "out"
    tokenize_images(open_source(tmp_path / "a.parquet"), tokenizer, out, **SETTINGS)
    (tmp_path / "images" / "4.bmp").write_bytes(noise(99, kind="BMP"))
    with pytest.raises(ValueError, match="a.parquet, rows 4 to 4, images were changed"):
        tokenize_images(open_source(tmp_path / "a.parquet"), tokenizer, out, **SETTINGS)


def test_files_that_are_not_read_do_not_matter(tokenizer, tmp_path):
    source, out = write("folder", tmp_path / "source", made_of_bmp(10)), tmp_path / "out"
    begun(tokenizer, source, out)
    (source / ".cache").mkdir()
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", "._id0.jpg", "README.md", ".cache/x.jpg", "metadata.jsonl~"):
        (source / name).write_bytes(b"something else")
    os.utime(source / "id3.jpg")
    (source / "notes.txt").symlink_to("nowhere")
    assert tokenize_images(open_source(source), tokenizer, out, **SETTINGS)["rows"]["written"] == 10
    (source / "id3.jpg").unlink()
    with pytest.raises(ValueError, match="source.files_sha256 is"):
        tokenize_images(open_source(source), tokenizer, out, **SETTINGS)


@pytest.mark.parametrize("kind", ["folder", "parquet", "tar"])
def test_a_copy_is_the_same_source_and_unchanged_files_are_read_once(tokenizer, tmp_path, kind, monkeypatch):
    source, out = write(kind, tmp_path / "source", made_of_bmp(10)), tmp_path / "out"
    tokenize_images(open_source(source), tokenizer, out, **SETTINGS)
    copy = tmp_path / "copy"
    shutil.copytree(source, copy, copy_function=shutil.copyfile)
    assert tokenize_images(open_source(copy), tokenizer, out, **SETTINGS)["complete"]
    later = time.time_ns() + 10**10  # nothing was changed within the last seconds
    monkeypatch.setattr("time.time_ns", lambda: later)
    assert tokenize_images(open_source(copy), tokenizer, out, **SETTINGS)["complete"]
    assert json.loads((out / ".job" / "codes-00000-00001.json").read_text())["stamp"]
    opened = open_source(copy)
    monkeypatch.setattr(opened, "rows", lambda *_: pytest.fail("unchanged rows are read again"))
    assert tokenize_images(opened, tokenizer, out, **SETTINGS)["complete"]
