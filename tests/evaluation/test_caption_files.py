"""Published files of captions are read as they are, and what is wrong with one is said in one line."""

import json

import pytest

from benchmark_files import (
    coco_captions,
    flickr_annotations,
    flickr_results,
    flickr_tokens,
    karpathy_coco,
    write_images,
    write_json,
)
from seed_hf.evaluation.formats.opening import open_benchmark


SAID = {
    "a.jpg": ["A dog runs across the grass .", "A dog, on grass.", "Dog | run"],
    "b.jpg": ["Two people sit.", "A couple on a bench", "a couple"],
}


def read(path, **options):
    found = open_benchmark(path, **options)
    return found, {row.image.rpartition("/")[2]: row for row in found.rows}


def test_karpathy_coco(tmp_path):
    found, rows = read(karpathy_coco(tmp_path, SAID))
    assert found.format == "coco-karpathy" and found.identity["split"] == "test" and found.identity["files"]
    assert {name: list(row.captions) for name, row in rows.items()} == SAID
    assert [row.id for row in found.rows] == ["391895", "391896"]
    assert found.rows[0].image == str(tmp_path / "val2014" / "a.jpg")
    _, train = read(tmp_path / "dataset_coco.json", split="train")
    assert list(train) == ["COCO_val2014_000000000009.jpg"]
    with pytest.raises(ValueError, match="no images of the split 'val'; it has test, train"):
        read(tmp_path / "dataset_coco.json", split="val")


def test_images_are_found_with_and_without_the_folder_of_coco(tmp_path):
    folder = tmp_path / "images"
    write_images(folder, "val2014/a.jpg", "b.jpg")
    found, rows = read(karpathy_coco(tmp_path, SAID), images=folder)
    assert rows["a.jpg"].image == str(folder / "val2014/a.jpg") and rows["b.jpg"].image == str(folder / "b.jpg")


def test_coco_captions_and_nocaps(tmp_path):
    found, rows = read(coco_captions(tmp_path, SAID))
    assert found.format == "coco-captions" and {name: list(row.captions) for name, row in rows.items()} == SAID
    path = coco_captions(tmp_path, SAID, "nocaps_val_4500_captions.json", domain=["in-domain", "out-domain"])
    found, rows = read(path)
    assert found.format == "nocaps" and [row.group for row in found.rows] == ["in-domain", "out-domain"]


@pytest.mark.parametrize("write", [flickr_tokens, flickr_results, flickr_annotations])
def test_flickr30k(tmp_path, write):
    found, rows = read(write(tmp_path, SAID))
    assert found.format == "flickr30k"
    expected = {"b.jpg": SAID["b.jpg"]} if write is flickr_annotations else SAID
    assert {name: list(row.captions) for name, row in rows.items()} == expected


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (lambda value: value["images"][1].pop("filename"), r"images\[1\] has no field 'filename'; it has filepath"),
        (
            lambda value: value["images"][0]["sentences"][1].pop("raw"),
            r"0\]: sentences\[1\] has no field 'raw'",
        ),
        (lambda value: value["images"][0].update(sentences="a"), "sentences must be list, got str"),
        (lambda value: value["images"].append(3), r"images\[3\]: expected an object with fields, got int"),
        (lambda value: value.pop("images"), "which is no benchmark that is read. Known are the files of COCO"),
    ],
)
def test_missing_fields_are_named_in_one_line(tmp_path, break_it, words):
    path = karpathy_coco(tmp_path, SAID)
    value = json.loads(path.read_text())
    break_it(value)
    with pytest.raises(ValueError, match=words) as error:
        open_benchmark(write_json(path, value))
    assert "\n" not in str(error.value)


def test_captions_as_a_table_and_lines_within_texts(tmp_path):
    (tmp_path / "captions.txt").write_text(
        'image,caption\na.jpg,"A dog, on grass."\na.jpg,A dog\u2028runs\nb.jpg,Two\n'
    )
    _, rows = read(tmp_path / "captions.txt")
    assert rows["a.jpg"].captions == ("A dog, on grass.", "A dog\u2028runs") and rows["b.jpg"].captions == ("Two",)
    (tmp_path / "rows.jsonl").write_text('{"image": "a.jpg", "caption": "A dog\u2028runs"}\r\n', encoding="utf-8")
    _, rows = read(tmp_path / "rows.jsonl")
    assert rows["a.jpg"].captions == ("A dog\u2028runs",)


def test_names_of_columns_may_have_blanks(tmp_path):
    (tmp_path / "captions.txt").write_text("image , caption\na.jpg, A dog\n")
    _, rows = read(tmp_path / "captions.txt")
    assert rows["a.jpg"].captions == ("A dog",)


def test_images_of_coco_2017_lie_in_a_folder_of_their_own(tmp_path):
    write_images(tmp_path, "val2017/a.jpg")
    _, rows = read(coco_captions(tmp_path, SAID, "captions_val2017.json"))
    assert rows["a.jpg"].image == str(tmp_path / "val2017/a.jpg") and rows["b.jpg"].image == str(tmp_path / "b.jpg")


@pytest.mark.parametrize("name", ["../a.jpg", "/etc/hostname", "x/../../a.jpg"])
def test_annotations_do_not_lead_out_of_the_folder_of_images(tmp_path, name):
    path = coco_captions(tmp_path, {name: ["a"]})
    with pytest.raises(ValueError, match="leads out of .* Give --images the folder"):
        open_benchmark(path)
    assert open_benchmark(path, images="/").rows if name.startswith("/") else True


def test_missing_and_foreign_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        open_benchmark(tmp_path / "dataset_coco.json")
    with pytest.raises(FileNotFoundError, match="no such folder of images"):
        open_benchmark(coco_captions(tmp_path, SAID), images=tmp_path / "nowhere")
    for name, text, words in (
        ("cut.json", '{"images": [', "not readable as JSON"),
        ("list.json", "[]", "no objects, which is no benchmark"),
        ("names.token", "a.jpg#0\n", "line 1 has no caption"),
        ("table.csv", "raw,filename\n[],a.jpg\n", "no column split"),
        ("short.csv", "image,caption\na.jpg,\n", "row 1 has no image or no caption"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(ValueError, match=words):
            open_benchmark(tmp_path / name)
    (tmp_path / "latin.token").write_bytes("a.jpg#0\tcaf\u00e9\n".encode("latin-1"))
    with pytest.raises(ValueError, match="latin.token: not UTF-8"):
        open_benchmark(tmp_path / "latin.token")
    value = json.loads(coco_captions(tmp_path, SAID).read_text())
    value["annotations"][0]["image_id"] = 7
    with pytest.raises(ValueError, match=r"annotations\[0\]: image_id 7 is of no image"):
        open_benchmark(write_json(tmp_path / "other.json", value))
    with pytest.raises(ValueError, match="one split"):
        open_benchmark(coco_captions(tmp_path, SAID), split="test")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("image,caption\na.jpg,a dog, running\n", "row 1 has more values than there are columns"),
        ("image,caption\na.jpg\n", "row 1 has fewer values than there are columns"),
        ('image,caption\na.jpg,"a dog\nb.jpg,a cat\n', "Is a quotation mark not closed"),
        ('image,caption\na.jpg,"' + "a dog " * 30000, "Is a quotation mark not closed"),
        ("image_name,comment_number,comment\na.jpg,0\n", "row 1 has fewer values"),
        ('raw,split,filename\n"[""a""]",test\n', "row 1 has fewer values"),
        ('raw,split,filename\n"[""a""]"\n', "row 1 has fewer values"),
        ('raw,split,filename\n"[""a""]",test,a.jpg,b\n', "row 1 has more values"),
        ('raw,split,filename\n"[""a""]",test,a.jpg\n"[""b""]",test,a.jpg\n', "the image: a.jpg is there twice"),
        ("raw,split,filename\n", "it has no rows"),
    ],
)
def test_tables_lose_no_words_and_no_rows(tmp_path, text, words):
    """A comma or a quotation mark too many cut captions, and swallowed the rows behind it."""
    (tmp_path / "captions.csv").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=words):
        open_benchmark(tmp_path / "captions.csv")


def test_an_image_that_is_there_twice_is_refused(tmp_path):
    """It would count twice, in a file that is not the published one."""
    said = {"a.jpg": ["a dog"], "b.jpg": ["a cat"]}
    for path in (coco_captions(tmp_path, said), karpathy_coco(tmp_path, said)):
        value = json.loads(path.read_text())
        value["images"].append(value["images"][1])
        path.write_text(json.dumps(value))
        with pytest.raises(ValueError, match=f"{path.name}: the image: 391896 is there twice"):
            open_benchmark(path)


def test_blanks_are_no_captions(tmp_path):
    said = {"a.jpg": ["", "a dog", " \n"], "b.jpg": [" "]}
    (tmp_path / "own.jsonl").write_text("\n".join(json.dumps({"image": k, "captions": v}) for k, v in said.items()))
    made = (coco_captions(tmp_path, said), karpathy_coco(tmp_path, said), tmp_path / "own.jsonl")
    for path in made:
        assert [row.captions for row in open_benchmark(path).rows] == [("a dog",), ()], path
