"""Image-text sources: the same rows whatever they are stored in, filters and a count of what they leave out."""

import shutil
import tracemalloc

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from seed_hf.data.sources.filters import RowDropped, RowFilters
from seed_hf.data.sources.folder_files import files_of_split, is_of_split
from seed_hf.data.sources.image_text import image_text_dataset
from seed_hf.data.sources.locating import locate_rows
from seed_hf.data.sources.row_checks import RowReport, read_image
from seed_hf.data.sources.sequence_rows import sequence_rows
from seed_hf.data.sources.source import open_source
from seed_hf.images import SeedImageError
from tiny_sources import bomb, damaged_rows, noise, rows, write_folder, write_parquet, write_tar


def content(source, **columns):
    """(id, caption, image) of all rows."""
    opened = open_source(source, **columns)
    found = []
    for part in range(len(opened)):
        for row in opened.rows(part):
            image = row.image
            found.append((row.id, row.caption, open(image, "rb").read() if isinstance(image, str) else image))
    return found


EXPECTED = [(row["id"], row["caption"], row["image"]) for row in rows(12)]


# Where the rows are


def test_parquet_file_folder_glob_and_list(tmp_path):
    first, second = (
        write_parquet(tmp_path / f"train-{i}.parquet", rows(6, 6 * i), row_group_size=4) for i in range(2)
    )
    assert content(first) == EXPECTED[:6]
    assert content(tmp_path) == content(str(tmp_path / "*.parquet")) == content([first, second]) == EXPECTED
    assert content(tmp_path / "train-{0..1}.parquet") == EXPECTED
    shutil.copy(first, tmp_path / "validation-0.parquet")
    assert content(tmp_path) == EXPECTED and content(tmp_path, split="validation") == EXPECTED[:6]


def test_splits_of_files_are_never_mixed(tmp_path, caplog):
    """By words in names, too, and by sub-folders, as `datasets` reads them; a split that is not there is an error."""
    for name, first in (("train-0", 0), ("val-0", 4), ("loose", 8)):
        write_parquet(tmp_path / f"{name}.parquet", rows(4, first))
    assert content(tmp_path) == EXPECTED[:4] and "1 files of no split are not read" in caplog.text
    assert content(tmp_path, split="validation") == content(tmp_path, split="val") == EXPECTED[4:8]
    assert sorted(content(tmp_path, split="all")) == sorted(EXPECTED)
    with pytest.raises(ValueError, match="1 of train, 1 of validation.* None is of 'test'"):
        content(tmp_path, split="test")
    for split, first in (("train", 0), ("test", 4)):
        (tmp_path / "folders" / split).mkdir(parents=True)
        write_tar(tmp_path / "folders" / split / "0.tar", rows(4, first))
    assert [row[1] for row in content(tmp_path / "folders", split="test")] == [row[1] for row in EXPECTED[4:8]]
    assert [row[1] for row in content(tmp_path / "folders")] == [row[1] for row in EXPECTED[:4]]
    # one split alone, and the default: there is nothing to choose from
    assert len(content(tmp_path / "folders" / "test")) == 4
    (tmp_path / "alone").mkdir()
    write_parquet(tmp_path / "alone" / "test-0.parquet", rows(4))
    caplog.clear()
    assert content(tmp_path / "alone") == EXPECTED[:4]
    assert "all its files are of the split test; they are read as train" in caplog.text
    with pytest.raises(ValueError, match="1 of test. None is of 'validation'"):
        content(tmp_path / "alone", split="validation")


@pytest.mark.parametrize(
    ("split", "names", "chosen"),
    [
        ("train", ["train/0", "train/1", "train-extra", "test/0"], ["train/0", "train/1", "train-extra"]),
        ("train", ["train-0", "coco_train-1", "val-0"], ["train-0", "coco_train-1"]),
        ("train", ["test/train-0", "train/0", "val-1"], ["test/train-0", "train/0"]),  # the nearest name counts
        ("val", ["validity-0", "val-0"], ["val-0"]),
        ("test_pair", ["test", "test_art", "test_pair"], ["test_pair"]),  # no word of a split: a beginning
    ],
)
def test_what_belongs_to_a_split(split, names, chosen):
    assert files_of_split(names, split, "here") == chosen
    assert [name for name in names if is_of_split(name, split)] == chosen


def test_rows_of_json_lines_have_splits_too(tmp_path, caplog):
    for name in ("train-a", "val", "more"):
        (tmp_path / f"{name}.jsonl").write_text(f'{{"text": "{name}"}}\n')
    found = {split: sequence_rows(str(tmp_path), split)["text"] for split in ("train", "validation", "all")}
    assert found["train"] == ["train-a"] and found["validation"] == ["val"] and len(found["all"]) == 3
    assert "1 files of no split are not read" in caplog.text and "more.jsonl" in caplog.text


@pytest.mark.parametrize("name", ["x-{9..0}.parquet", "x-{9..0}.jsonl"])
def test_a_range_that_falls_is_refused(name):
    with pytest.raises(ValueError, match="stands for no number"):
        locate_rows(name, "train")


def test_a_data_set_on_the_hub_may_have_a_dot_in_its_name(monkeypatch):
    asked = []
    monkeypatch.setattr("datasets.load_dataset_builder", lambda path, **settings: asked.append(path) or 1 / 0)
    monkeypatch.setattr("seed_hf.data.sources.locating._check_card", lambda *_: None)
    for name in ("teknium/OpenHermes-2.5", "you/pairs-v1.5"):
        for find in (locate_rows, open_source):
            with pytest.raises(ZeroDivisionError):
                find(name, "train") if find is locate_rows else find(name)
    assert len(asked) == 4
    for name in ("you/pairs.parquet", "you/pairs.tar", "you/picture.png"):
        with pytest.raises(FileNotFoundError, match="no such file"):
            open_source(name)


def test_any_range_of_rows(tmp_path):
    sources = [
        open_source(write_parquet(tmp_path / "a.parquet", rows(12), row_group_size=5)),
        open_source(write_tar(tmp_path / "a.tar", rows(12))),
    ]
    for source in sources:
        for start, stop in ((0, None), (3, 11), (5, 10), (11, 12), (12, None), (4, 4)):
            found = [(row.row, row.id) for row in source.rows(0, start, stop)]
            assert found == [(i, f"id{i}") for i in range(start, 12 if stop is None else stop)], (start, stop)


def test_tars(tmp_path):
    write_tar(tmp_path / "00.tar", rows(6), caption="json")
    write_tar(tmp_path / "01.tar.gz", rows(6, 6), mode="w:gz")
    assert content(tmp_path / "00.tar") == EXPECTED[:6]
    assert content([tmp_path / "00.tar", tmp_path / "01.tar.gz"]) == EXPECTED
    with_jpg = rows(2) + [{**row, "image": noise(99, kind="JPEG")} for row in rows(2, 2)]
    write_tar(tmp_path / "a.tar", with_jpg[:2], image="png")
    write_tar(tmp_path / "b.tar", with_jpg[2:], image="jpg")
    assert [row[0] for row in content(str(tmp_path / "[ab].tar"))] == ["id0", "id1", "id2", "id3"]


def test_a_file_in_the_working_directory_is_not_the_one_in_the_tar(tmp_path, monkeypatch):
    write_tar(tmp_path / "a.tar", rows(1))
    (tmp_path / "id0.png").write_bytes(noise(5))
    monkeypatch.chdir(tmp_path)
    assert content("a.tar") == EXPECTED[:1]


def test_remote_files_stream(tmp_path):
    files = fsspec.filesystem("memory")
    for name, path in (
        ("a.parquet", write_parquet(tmp_path / "a.parquet", rows(12))),
        ("b0.tar", write_tar(tmp_path / "b0.tar", rows(6))),
        ("b1.tar", write_tar(tmp_path / "b1.tar", rows(6, 6))),
    ):
        files.pipe(f"/seed/{name}", path.read_bytes())
    assert content("memory://seed/a.parquet") == EXPECTED
    assert content("memory://seed/b{0..1}.tar") == EXPECTED


def test_a_folder_of_images(tmp_path):
    write_folder(tmp_path / "a", rows(12))
    assert content(tmp_path / "a") == EXPECTED
    (tmp_path / "a" / "metadata.jsonl").unlink()
    with pytest.raises(ValueError, match="captions=False"):
        open_source(tmp_path / "a")
    found = content(tmp_path / "a", captions=False)
    assert [row[0] for row in found] == sorted(f"id{i}.jpg" for i in range(12)) and found[0][1] is None


def test_columns_by_name(tmp_path):
    table = pa.table({"pic": [noise(0)], "said": [["a", "b"]], "meta": [{"n": 7, "text": "c"}]})
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="pic, said, meta, meta.n, meta.text.*image_column"):
        open_source(tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="no column 'words' for the caption; it has pic"):
        open_source(tmp_path / "a.parquet", image_column="pic", caption_column="words")
    with pytest.raises(ValueError, match="looks like a caption"):
        open_source(tmp_path / "a.parquet", image_column="pic")
    columns = {"image_column": "pic", "id_column": "meta.n"}
    assert content(tmp_path / "a.parquet", **columns, caption_column="said") == [("7", ["a", "b"], noise(0))]
    assert content(tmp_path / "a.parquet", **columns, caption_column="meta.text") == [("7", "c", noise(0))]
    found = content(tmp_path / "a.parquet", image_column="pic", captions=False)
    assert found == [("a.parquet:0", None, noise(0))]


def test_what_is_no_source(tmp_path):
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 but not really")
    tar = write_tar(tmp_path / "cut.tar", rows(3)).read_bytes()
    (tmp_path / "cut.tar").write_bytes(tar[:1800])
    for name, error, words in (
        ("a.txt", ValueError, "a .parquet or .tar file"),
        ("b.parquet", FileNotFoundError, "no such file"),
        ("*.tgz", FileNotFoundError, "no file has such a name"),
        ("bad.parquet", ValueError, "bad.parquet: not an intact Parquet file"),
        ("cut.tar", ValueError, "cut.tar: not an intact tar"),
    ):
        with pytest.raises(error, match=words):
            content(tmp_path / name)
    with pytest.raises(ValueError, match="of one format"):
        open_source([write_tar(tmp_path / "a.tar", rows(1)), write_parquet(tmp_path / "a.parquet", rows(1))])


# Which rows are used


def test_filters():
    filters = RowFilters(min_side=180, max_aspect=1.82)
    filters.check_size(180, 327)
    for size, name in (((179, 300), "min_side"), ((328, 180), "max_aspect"), ((180, 328), "max_aspect")):
        with pytest.raises(RowDropped, match=name):
            filters.check_size(*size)
    for caption in ("", " \n", None, [], [" "]):
        with pytest.raises(RowDropped, match="empty_caption"):
            filters.check_caption(caption)
        RowFilters(empty_captions=True).check_caption(caption)
    filters.check_caption("a")
    for wrong in ({"min_side": -1}, {"max_aspect": 0.55}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            RowFilters(**wrong)


def test_a_bomb_is_not_decoded():
    data = bomb()  # 50 MB of pixels once decoded
    tracemalloc.start()
    with pytest.raises(SeedImageError, match="at most 64 million"):
        read_image(data, RowFilters())
    assert tracemalloc.get_traced_memory()[1] < 2e6
    tracemalloc.stop()


# The dataset


def test_image_text_dataset_streams(tmp_path):
    for i in range(2):
        write_parquet(tmp_path / f"{i}.parquet", rows(6, 6 * i))
    dataset = image_text_dataset(tmp_path)
    assert dataset.num_shards == 2
    found = list(dataset)
    assert [row["id"] for row in found] == [f"id{i}" for i in range(12)]
    assert isinstance(found[0]["image"], Image.Image) and found[3]["caption"] == "caption 3"
    assert found[0]["image"].size == (20, 16)
    assert [row["id"] for row in dataset.shard(2, 1)] == [f"id{i}" for i in range(6, 12)]

    reader = iter(dataset)
    for _ in range(8):
        next(reader)
    again = image_text_dataset(tmp_path)
    again.load_state_dict(dataset.state_dict())
    assert [row["id"] for row in again] == [f"id{i}" for i in range(8, 12)]


def test_image_text_dataset_skips_and_counts_or_raises(tmp_path, caplog):
    made, bad = damaged_rows(60, every=10)
    made[0]["caption"] = " "
    made[1]["image"] = noise(1, 300, 20)
    path = write_parquet(tmp_path / "a.parquet", made)
    report = RowReport()
    dataset = image_text_dataset(path, on_error="skip", filters=RowFilters(max_aspect=2), report=report)
    assert [row["id"] for row in dataset] == [row["id"] for row in made[2:] if row["id"] not in bad]
    assert (report.read, report.kept, report.bad_count) == (60, 52, 6)
    assert report.dropped == {"empty_caption": 1, "max_aspect": 1}
    assert [entry["id"] for entry in report.bad] == list(bad) and report.bad[0]["file"] == "a.parquet"
    assert "6 bad rows, first a.parquet row 5" in caplog.text
    with pytest.raises(SeedImageError, match=r"a.parquet, row 5 \(id id5\): damaged or cut off"):
        list(image_text_dataset(path))
    with pytest.raises(ValueError, match="raise, skip"):
        image_text_dataset(path, on_error="ignore")


def test_missing_images_of_a_folder(tmp_path):
    made = rows(4)
    made[2]["image"] = None
    report = RowReport()
    dataset = image_text_dataset(write_folder(tmp_path / "a", made), on_error="skip", report=report)
    assert [row["id"] for row in dataset] == ["id0", "id1", "id3"]
    assert report.bad == [{"file": "id2.jpg", "row": 2, "id": "id2", "reason": "no such file. Check the path."}]


def test_memory_does_not_grow_with_the_rows(tmp_path):
    """A row group holds all rows here; only a few are in memory at once."""

    def peak(count: int) -> int:
        source = open_source(write_parquet(tmp_path / "a.parquet", rows(50) * (count // 50), row_group_size=count))
        tracemalloc.start()
        assert sum(1 for _ in source.rows(0)) == count
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    assert peak(4000) < 1.5 * peak(500) + 50_000
