"""Folders: every image in one is a row or in the report, whatever files and folders are called."""

import json
import os
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset

from damaged_tars import read
from seed_hf.data.sources.image_text import image_text_dataset
from seed_hf.data.sources.row_checks import RowReport
from seed_hf.data.sources.rows import holds_parquet, parquet_files
from seed_hf.data.sources.source import open_source
from tiny_sources import noise, rows, write_folder, write_parquet, write_tar


def folder_of(path: Path, *names: str) -> Path:
    """A folder of images with these names, all different."""
    for number, name in enumerate(names):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(noise(number))
    return path


def with_metadata(path: Path, *names: str, file: str = "metadata.jsonl") -> Path:
    """Metadata of images with these names, whose captions are the names."""
    lines = [json.dumps({"file_name": name, "caption": name}) for name in names]
    lines = ["file_name,caption", *(f"{name},{name}" for name in names)] if file.endswith("csv") else lines
    path.mkdir(parents=True, exist_ok=True)
    (path / file).write_text("\n".join(lines))
    return path


def names(folder, **settings) -> list[str]:
    """The ids of the rows that are used, which are the names of the files; no row may be bad."""
    used, bad, dropped = read(folder, **{"captions": False, **settings})
    assert not bad and not dropped
    return [row[0] for row in used]


# Names


@pytest.mark.parametrize(
    "name", ["train.png", "test.png", "val.png", "dev-1.png", "a_train_b.png", "b/train.png", "train/a.png"]
)
def test_a_name_hides_no_other_image(tmp_path, name):
    folder = folder_of(tmp_path / "source", "1.png", "2.png", "b/3.png", name)
    assert names(folder) == sorted(["1.png", "2.png", "b/3.png", name])
    assert names(folder, split="all") == sorted(["1.png", "2.png", "b/3.png", name])


@pytest.mark.parametrize("name", ["val2014", "test", "train", "cat[1]", "a*b?", "{0..3}", "dev", "my.tar", ".hidden"])
def test_a_folder_may_have_any_name(tmp_path, name):
    for other in ("cat1", "axb", "a*b"):
        folder_of(tmp_path / other, "wrong.png")
    assert names(folder_of(tmp_path / name, "1.png", "2.JPG")) == ["1.png", "2.JPG"]


def test_glob_characters_of_a_folder_that_exists_are_no_pattern(tmp_path, monkeypatch):
    for name in ("cat1", "cat[1]"):
        (tmp_path / name).mkdir()
        write_tar(tmp_path / name / "0.tar", rows(2, first=5 if name == "cat1" else 0))
    monkeypatch.chdir(tmp_path)
    for pattern in ("cat[1]/*.tar", "./cat[1]/0.t?r", tmp_path / "cat[1]" / "{0..0}.tar"):
        assert names(pattern) == ["id0", "id1"], pattern
    assert names("cat[0-9]/*.tar") == ["id5", "id6"]


def test_all_numbers_of_a_pattern_have_a_file(tmp_path):
    for number in (0, 2):
        write_tar(tmp_path / f"{number}.tar", rows(1))
    with pytest.raises(FileNotFoundError, match="1.tar: no file has such a name"):
        open_source(tmp_path / "{0..2}.tar")
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(ValueError, match=r"a.json: a source is a folder"):
        open_source(tmp_path / "*")


# Splits


def test_sub_folders_are_splits_where_every_image_is_in_one(tmp_path):
    folder = folder_of(
        tmp_path, "train2014/b.png", "train2014/a/c.png", "my-test/a.png", "x/validation/x.png", "x/train/a.png"
    )
    assert names(folder) == ["train2014/a/c.png", "train2014/b.png", "x/train/a.png"]
    assert names(folder, split="test") == ["my-test/a.png"]
    assert names(folder, split="val") == names(folder, split="validation") == ["x/validation/x.png"]
    assert len(names(folder, split="all")) == 5
    with pytest.raises(ValueError, match="has the splits train, validation, test and all, got 'nouns'"):
        open_source(folder, split="nouns", captions=False)
    folder_of(tmp_path, "cover.png")
    for split in ("train", "test"):
        with pytest.raises(ValueError, match=r"1 of none.*3 of train.*not clear which are meant by.*--split all"):
            open_source(folder, split=split, captions=False)


def test_a_split_that_is_not_there(tmp_path):
    folder = folder_of(tmp_path, "a.png", "b.png")
    assert names(folder, split="validation") == ["a.png", "b.png"]  # there is nothing to choose from
    shutil.rmtree(tmp_path)
    assert names(folder_of(tmp_path, "val2014/a.png")) == ["val2014/a.png"]
    with pytest.raises(ValueError, match="these splits: 1 of validation"):
        open_source(folder, captions=False, split="test")  # nobody tests on another split by mistake
    folder_of(tmp_path, "test/a.png")
    with pytest.raises(ValueError, match="these splits: 1 of test, 1 of validation"):
        open_source(folder, captions=False)


def test_metadata_of_splits(tmp_path):
    """At the top for all, or in the folder of each."""
    folder = folder_of(tmp_path / "a", "train/a.png", "train/b.png", "test/a.png")
    with_metadata(folder, "test/a.png", "train/b.png", "train/a.png", "train/none.png", "lost.png")
    for split, expected, lost in (
        ("train", ["train/b.png", "train/a.png"], ["train/none.png", "lost.png"]),
        ("test", ["test/a.png"], ["lost.png"]),
    ):
        report = RowReport()
        found = image_text_dataset(folder, split=split, on_error="skip", report=report)
        assert [row["id"] for row in found] == expected
        assert [entry["id"] for entry in report.bad] == lost
    folder = folder_of(tmp_path / "b", "train/a.png", "train/b.png", "test/a.png")
    for split, of_split in (("train", ["b.png", "a.png"]), ("test", ["a.png"])):
        with_metadata(folder / split, *of_split, file="metadata.csv")
        assert names(folder, split=split, captions=True) == [f"{split}/{name}" for name in of_split]


# Metadata


def test_images_that_no_metadata_names_are_counted(tmp_path):
    folder = with_metadata(folder_of(tmp_path, "b.png", "a.png", "sub/c.png", "d.png"), "sub/c.png", "./b.png")
    used, bad, dropped = read(folder)
    assert [row[:2] for row in used] == [("sub/c.png", "sub/c.png"), ("b.png", "./b.png")] and not bad and dropped == 2
    report = RowReport()
    assert len(list(image_text_dataset(folder, report=report))) == 2
    assert str(report) == "4 rows read, 2 kept, 2 dropped by empty_caption"
    assert names(folder) == ["sub/c.png", "b.png", "a.png", "d.png"]  # none needs a caption


def test_any_range_of_rows(tmp_path):
    source = open_source(with_metadata(folder_of(tmp_path, "0.png", "1.png", "2.png"), "2.png", "x.png"))
    everything = [(row.row, row.id) for row in source.rows(0)]
    assert everything == [(0, "2.png"), (1, "x.png"), (2, "0.png"), (3, "1.png")]
    for start, stop in ((0, 2), (1, 3), (2, None), (3, 9), (4, None)):
        assert [(row.row, row.id) for row in source.rows(0, start, stop)] == everything[start:stop]


@pytest.mark.parametrize("name", ["../x.png", "/etc/x.png", "sub/../../x.png", "https://a.b/x.png", ".."])
def test_metadata_leads_to_no_file_outside(tmp_path, name):
    (tmp_path / "x.png").write_bytes(noise(0))
    folder = with_metadata(folder_of(tmp_path / "source", "a.png"), "a.png", name)
    used, (entry,), _ = read(folder)
    assert [row[0] for row in used] == ["a.png"]
    assert entry["file"] == "metadata.jsonl" and f"file_name leads out of the folder ({name})" in entry["reason"]


def test_metadata_in_several_folders(tmp_path):
    """Names start from the folder of the metadata, and may lead to another inside of the source."""
    folder = folder_of(tmp_path, "x/a.png", "x/b.png", "y/a.png", "z.png")
    with_metadata(folder / "x", "b.png", "../z.png")
    with_metadata(folder / "y", "a.png", file="metadata.csv")
    used, bad, dropped = read(folder)
    assert [row[:2] for row in used] == [("x/b.png", "b.png"), ("z.png", "../z.png"), ("y/a.png", "a.png")]
    assert not bad and dropped == 1
    (folder / "y" / "metadata.csv").write_text("file_name,said\na.png,a\n")
    with pytest.raises(ValueError, match="y/metadata.csv: none of its columns looks like a caption: image, said"):
        open_source(folder)


def test_metadata_that_is_not_clear_is_refused(tmp_path):
    folder = with_metadata(folder_of(tmp_path, "a.png"), "a.png")
    (folder / "metadata.csv").write_text("file_name,caption\na.png,another\n")
    with pytest.raises(ValueError, match="several metadata files.*metadata.csv, metadata.jsonl. Keep one"):
        open_source(folder)
    (folder / "metadata.csv").rename(folder / "Metadata.CSV")
    with pytest.raises(ValueError, match=r"Metadata.CSV: .*Rename it to metadata.csv"):
        open_source(folder)
    (folder / "Metadata.CSV").unlink()
    (folder / "metadata.jsonl").write_text('{"image": "a.png", "caption": "a"}')
    with pytest.raises(ValueError, match="metadata.jsonl: no column file_name"):
        open_source(folder)


def test_parquet_metadata_and_masks(tmp_path):
    """Images of other columns are named, too."""
    folder = folder_of(tmp_path, "a.png", "a_mask.png", "b.png")
    table = {"file_name": ["b.png", "a.png"], "mask_file_name": [None, "a_mask.png"], "caption": ["b", "a"]}
    pq.write_table(pa.table(table), folder / "metadata.parquet")
    assert names(folder, captions=True) == ["b.png", "a.png"]
    used, _, _ = read(folder, image_column="mask")
    assert [(row[0], row[2]) for row in used] == [("metadata.parquet:0", None), ("a_mask.png", noise(1))]


# Files


def test_every_image_file_is_a_row(tmp_path):
    """Also those that cannot be decoded: they are bad, and not passed over."""
    folder = folder_of(
        tmp_path, "a.PNG", "b.JPeG", "c.webp", "d.heic", "e.avif", "f.svg", "__odd/g.png", "no.txt", "README.md"
    )
    (folder / "h.png").mkdir()
    folder_of(folder, "h.png/i.png")
    os.mkfifo(folder / "j.png")
    (folder / "k.png").symlink_to("nowhere.png")
    (folder / "l.png").symlink_to("a.PNG")
    (folder / "m.png").write_bytes(b"")
    for name in ("d.heic", "e.avif", "f.svg"):
        (folder / name).write_bytes(b"of another format")
    report = RowReport()
    used = list(image_text_dataset(folder, captions=False, on_error="skip", report=report))
    assert [row["id"] for row in used] == ["__odd/g.png", "a.PNG", "b.JPeG", "c.webp", "h.png/i.png", "l.png"]
    assert [entry["id"] for entry in report.bad] == ["d.heic", "e.avif", "f.svg", "j.png", "k.png", "m.png"]


def test_hidden_files_are_no_images(tmp_path):
    folder = folder_of(tmp_path, "a.png", "._a.png", ".b.png", ".cache/c.png", "sub/.d/e.png")
    assert names(folder) == ["a.png"]


def test_links_to_folders(tmp_path, caplog):
    """Each is followed once; one that would be a loop is named, once."""
    folder = folder_of(tmp_path / "source", "a.png", "sub/b.png")
    folder_of(tmp_path / "elsewhere", "c.png", "more/d.png")
    links = {"up": "..", "self": ".", "sub/loop": "../sub", "top": "/", "one": "../elsewhere", "two": "../elsewhere"}
    for link, target in links.items():
        (folder / link).symlink_to(target)
    (tmp_path / "elsewhere" / "back").symlink_to("../elsewhere")
    assert names(folder) == ["a.png", "one/c.png", "one/more/d.png", "sub/b.png"]
    assert names(folder)  # and read again
    warned = sorted(record.getMessage().partition(":")[0] for record in caplog.records)
    assert warned == sorted(str(folder / name) for name in ("up", "self", "sub/loop", "top", "two", "one/back"))


def test_a_folder_that_cannot_be_read_is_an_error(tmp_path, monkeypatch):
    folder = folder_of(tmp_path, "a.png", "sub/b.png")
    scandir = os.scandir

    def refused(path):  # root may read everything
        if os.fspath(path).endswith("sub"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(PermissionError, match="sub"):
        open_source(folder, captions=False)


# Tars and Parquet files in a folder


def test_a_folder_of_several_formats(tmp_path, caplog):
    write_tar(tmp_path / "b.tar", rows(1))
    write_tar(tmp_path / "a.tar.gz", rows(1, 1), mode="w:gz")
    write_tar(tmp_path / "C.TAR", rows(1, 2))
    write_tar(tmp_path / "d.tar.xz", rows(1, 3), mode="w:xz")
    assert names(tmp_path) == ["id2", "id1", "id0", "id3"]  # all of them, in the order of their names
    (tmp_path / "e.tar.zst").write_bytes(b"\x28\xb5\x2f\xfd and more")
    write_parquet(tmp_path / "a.parquet", rows(1))
    used, bad, _ = read(tmp_path)
    assert len(used) == 4 and [entry["file"] for entry in bad] == ["e.tar.zst"] and "zstd" in bad[0]["reason"]
    assert "read as tars; the Parquet files in it are not (files: 5 of webdataset, 1 of parquet)" in caplog.text
    folder_of(tmp_path, "sub/a.png")
    with pytest.raises(ValueError, match="images beside other sources .*1 of imagefolder.*not clear which"):
        open_source(tmp_path)
    caplog.clear()
    assert names(with_metadata(tmp_path, "sub/a.png"), captions=True) == ["sub/a.png"]
    assert "read as a folder of images, by its metadata" in caplog.text


def test_files_of_no_split_are_named(tmp_path, caplog):
    for name in ("train.parquet", "cats.parquet", "test-0.parquet"):
        write_parquet(tmp_path / name, rows(1))
    assert names(tmp_path) == ["id0"]
    assert "1 files of no split are not read, the first cats.parquet" in caplog.text


def test_training_in_memory_reads_the_same_files(tmp_path):
    """Also those of sub-folders; metadata of images is no table of rows, and hidden files are none at all."""
    for name in ("a.parquet", "sub/b.parquet", ".hidden.parquet"):
        (tmp_path / "tables" / name).parent.mkdir(parents=True, exist_ok=True)
        write_parquet(tmp_path / "tables" / name, rows(1))
    expected = [tmp_path / "tables" / "a.parquet", tmp_path / "tables" / "sub" / "b.parquet"]
    assert parquet_files(str(tmp_path / "tables"), "train") == expected
    folder = folder_of(tmp_path / "images", "a.png")
    pq.write_table(pa.table({"file_name": ["a.png"], "caption": ["a"]}), folder / "metadata.parquet")
    assert holds_parquet(str(tmp_path / "tables")) and not holds_parquet(str(folder))


def test_a_folder_is_read_as_it_is_written(tmp_path):
    """Nothing changes for a sound folder."""
    made = rows(12)
    expected = [(row["id"], row["caption"], row["image"]) for row in made]
    assert read(write_folder(tmp_path / "a", made)) == (expected, [], 0)


# Data in another form


def test_data_in_another_form_are_told_what_to_become(tmp_path):
    """Nothing of it is read, so a job would end with no rows and no word."""
    folder = folder_of(tmp_path / "sidecar", "1.png")
    with pytest.raises(ValueError, match=r"images without captions. Add a metadata.csv .*no-captions\).$"):
        open_source(folder)
    (folder / "1.txt").write_text("a cup")
    with pytest.raises(ValueError, match="A tar of the folder has the text file"):
        open_source(folder)
    assert names(folder) == ["1.png"]
    rows = Dataset.from_dict({"caption": ["a cup"]})
    with pytest.raises(TypeError, match="got Dataset. A datasets.Dataset becomes one by to_parquet"):
        open_source(rows)
    rows.save_to_disk(tmp_path / "saved")
    with pytest.raises(FileNotFoundError, match="no Parquet file, tar or image here. It holds what save_to_disk"):
        open_source(tmp_path / "saved", captions=False)
    (tmp_path / "tables").mkdir()
    for name in ("pairs.csv", "pairs.tsv", "captions.json"):
        (tmp_path / "tables" / name).write_text("file,caption\n1.png,a cup\n")
        with pytest.raises(ValueError, match="is read as metadata.csv or metadata.jsonl"):
            open_source(tmp_path / "tables" / name)
    with pytest.raises(FileNotFoundError, match="no Parquet file, tar or image here.$"):
        open_source(tmp_path / "tables", captions=False)
