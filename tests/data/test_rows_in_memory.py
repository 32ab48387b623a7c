"""Training data in memory: what is no text is refused or named by its row, and blank captions are left out."""

import io
import logging

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from datasets import Dataset, Image
from PIL import Image as PILImage

from hostile_texts import TEXTS, between_sound_rows, parquet_of, text_array
from seed_hf.data.batches.image_text import ImageTextCollator
from seed_hf.data.batches.language_model import LanguageModelCollator
from seed_hf.data.sources.checked_table import ROW
from seed_hf.data.sources.filters import RowFilters
from seed_hf.data.sources.rows import open_rows
from seed_hf.images import SeedImageError
from seed_hf.modeling.image_processing_seed import SeedImageProcessor
from seed_hf.training.contrastive import ContrastiveTrainer
from stage_one import config
from tiny import tiny_text_tokenizer, tiny_tokenizer
from tiny_language import picture, tiny_language_model
from tiny_sources import damaged_rows, noise, rows, write_parquet


IMAGES = {"image": "image", "caption": "caption"}
CODES = list(range(32))
PROCESSOR = SeedImageProcessor(size={"height": 28, "width": 28})
NOT_TEXT = ([1, 2], [1.5, None], [True, False], [{"en": "a"}, {"en": "b"}], [[1], [2]])


def sequences(path, **columns):
    pq.write_table(pa.table(columns), path)
    return str(path)


@pytest.mark.parametrize("kind", ["string", "binary", "list"])
def test_captions_that_are_no_text(tmp_path, kind, caplog):
    contents, captions = between_sound_rows(TEXTS)
    column = pa.array(contents, pa.binary()) if kind == "binary" else text_array(contents)
    if kind == "list":
        column = pa.ListArray.from_arrays(pa.array(range(len(contents) + 1), pa.int32()), column)
        captions = [caption and [caption] for caption in captions]
    path = str(parquet_of(tmp_path / "a.parquet", caption=column))
    with pytest.raises(SeedImageError, match=r"a.parquet, row 1 \(id a.parquet:1\): captions?: not UTF-8"):
        open_rows(path, "train", IMAGES)
    found = open_rows(path, "train", IMAGES, on_error="skip")
    name = "captions" if kind == "list" else "caption"
    assert found[name] == [caption for caption in captions if caption is not None]
    assert found[ROW] == [f"a.parquet, row {row}" for row, caption in enumerate(captions) if caption is not None]
    assert f"{captions.count(None)} bad rows, first a.parquet row 1" in caplog.text


def test_missing_and_blank_captions_are_left_out(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    for name, values, kept in (
        ("a", [None, "a", "", " \n", "b"], ["a", "b"]),
        ("b", [None, ["a", " ", None], [], ["b"], [None]], [["a"], ["b"]]),
    ):
        path = str(parquet_of(tmp_path / f"{name}.parquet", caption=values))
        found = open_rows(path, "train", IMAGES)
        assert found["captions" if name == "b" else "caption"] == kept
        assert f"data.train: {path}: 5 rows read, 2 kept, 3 dropped by empty_caption" in caplog.text
    with pytest.raises(ValueError, match="no row can be used: 2 rows read, 0 kept"):
        open_rows(str(parquet_of(tmp_path / "c.parquet", caption=pa.array([None, " "]))), "train", IMAGES)


@pytest.mark.parametrize("values", NOT_TEXT, ids=str)
def test_columns_of_other_types_are_refused_by_name(tmp_path, values):
    path = str(parquet_of(tmp_path / "a.parquet", caption=values))
    with pytest.raises(ValueError, match=r"data.train: .*a.parquet: the column 'caption' holds .*, not text"):
        open_rows(path, "train", IMAGES)
    path = sequences(tmp_path / "codes.parquet", codes=[CODES] * 2, caption=values)
    with pytest.raises(ValueError, match="the column 'caption' holds .*, not text"):
        open_rows(path, "train")
    path = sequences(tmp_path / "text.parquet", text=values)
    with pytest.raises(ValueError, match="the column 'text' holds .*, not text"):
        open_rows(path, "train")


def test_a_field_of_a_mapping_is_a_caption(tmp_path):
    values = [{"en": "a cat", "de": None}, {"en": "a dog", "de": "x"}, None]
    path = str(parquet_of(tmp_path / "a.parquet", caption=values))
    assert open_rows(path, "train", {"image": "image", "caption.en": "caption"})["caption"] == ["a cat", "a dog"]
    with pytest.raises(ValueError, match="no column caption.fr; it has image, caption, caption.en, caption.de"):
        open_rows(path, "train", {"image": "image", "caption.fr": "caption"})
    path = sequences(tmp_path / "codes.parquet", codes=[CODES] * 3, caption=values)
    assert open_rows(path, "train", caption_column="caption.en")["caption"] == ["a cat", "a dog"]


def test_sound_rows_are_as_they_were(tmp_path):
    path = str(write_parquet(tmp_path / "a.parquet", rows(3)))
    found = open_rows(path, "train", IMAGES)
    assert found["caption"] == ["caption 0", "caption 1", "caption 2"]
    assert [row["image"]["bytes"] for row in found] == [noise(row) for row in range(3)]
    pairs = [[{"question": "what?", "answer": "a cat"}], None]
    path = sequences(tmp_path / "codes.parquet", codes=[CODES] * 2, captions=[["a", "b"], ["c"]], questions=pairs)
    found = open_rows(path, "train").remove_columns(ROW)
    assert found.to_dict() == {"codes": [CODES] * 2, "captions": [["a", "b"], ["c"]], "questions": pairs}


def collated(found, **options):
    collator = ImageTextCollator(PROCESSOR, tiny_text_tokenizer(), **options)
    return collator([found[number] for number in range(len(found))])


def test_damaged_images_are_named_or_left_out(tmp_path, caplog):
    made, bad = damaged_rows(20, every=4)
    path = str(write_parquet(tmp_path / "a.parquet", made))
    with pytest.raises(ValueError, match=r"^a.parquet, row 2: image: damaged or cut off"):
        collated(open_rows(path, "train", IMAGES))
    found = open_rows(path, "train", IMAGES, on_error="skip")
    assert found["caption"] == [row["caption"] for row in made if row["id"] not in bad]
    assert "5 bad rows, first a.parquet row 2: damaged or cut off" in caplog.text
    assert collated(found)["pixel_values"].shape[0] == 15
    assert collated(found)["row_ids"][:3] == ["a.parquet, row 0", "a.parquet, row 1", "a.parquet, row 3"]


def test_rows_of_a_batch_are_named_one_by_one():
    rows = [{"caption": "a", ROW: "a.parquet, row 7"}, {"caption": "b", "id": "q"}, {"caption": "c"}]
    make = ImageTextCollator(tokenizer=tiny_text_tokenizer())
    assert make(rows)["row_ids"] == ["a.parquet, row 7", "q", "row 2 of the batch"]
    assert make(rows[::-1])["row_ids"] == ["row 0 of the batch", "q", "a.parquet, row 7"]
    assert "row_ids" not in make(rows[2:])


def test_pixels_are_normalised_as_the_processor_says():
    image = PILImage.open(io.BytesIO(noise(1, 28, 28)))
    for normalises in (True, False):
        processor = SeedImageProcessor(size={"height": 28, "width": 28}, do_normalize=normalises)
        rows = [{"image": image, "caption": "a"}]
        plain, augmented = (
            ImageTextCollator(processor, tiny_text_tokenizer(), augment=augment)(rows)["pixel_values"]
            for augment in (None, lambda pixels: pixels)
        )
        torch.testing.assert_close(plain, augmented)


def test_sizes_are_filtered(tmp_path):
    made = rows(3)
    made[1]["image"] = noise(1, 100, 10)
    path = str(write_parquet(tmp_path / "a.parquet", made))
    assert open_rows(path, "train", IMAGES, filters=RowFilters(max_aspect=2))["caption"] == ["caption 0", "caption 2"]


def test_encoded_images_are_the_decoded_ones(tmp_path):
    path = str(write_parquet(tmp_path / "a.parquet", rows(4)))
    encoded = open_rows(path, "train", IMAGES)
    decoded = encoded.cast_column("image", Image())
    assert (collated(encoded)["pixel_values"] == collated(decoded)["pixel_values"]).all()


@pytest.mark.parametrize("kind", ["text", "large", "view", "dictionary", "struct", "path only"])
def test_relative_paths_start_from_the_folder_of_each_file(tmp_path, monkeypatch, kind):
    """As in a stream: an image of the same name below the working directory is another one."""
    for number, place in enumerate(("a", "b", ".")):
        (tmp_path / place / "img").mkdir(parents=True)
        (tmp_path / place / "img" / "0.png").write_bytes(noise(number))
    monkeypatch.chdir(tmp_path)
    types = {"large": pa.large_string(), "view": pa.string_view(), "path only": pa.struct([("path", pa.string())])}
    both = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    for name in "ab":
        paths = ["img/0.png", str(tmp_path / "img" / "0.png")]
        stored = pa.array(paths, types.get(kind) if kind in ("large", "view") else None)
        if kind == "dictionary":
            stored = stored.dictionary_encode()
        if kind == "struct":
            stored = pa.array([{"bytes": None, "path": paths[0]}, {"bytes": noise(2), "path": paths[0]}], both)
        if kind == "path only":
            stored = pa.array([{"path": path} for path in paths], types[kind])
        pq.write_table(pa.table({"image": stored, "caption": ["x", "y"]}), f"{name}/{name}.parquet")
    for number, name in enumerate("ab"):
        wanted = collated([{"image": noise(image), "caption": "x"} for image in (number, 2)])["pixel_values"]
        for on_error in ("raise", "skip"):
            found = open_rows(f"{name}/{name}.parquet", "train", IMAGES, on_error=on_error)
            assert (collated(found)["pixel_values"] == wanted).all()


def test_columns_of_unusual_types(tmp_path):
    """Views are read like what they view; a message about a type that is not read names the column."""
    views = pa.struct([("bytes", pa.binary_view()), ("path", pa.string_view())])
    for stored in (pa.array([noise(0)], pa.binary_view()), pa.array([{"bytes": noise(0), "path": None}], views)):
        path = sequences(tmp_path / "views.parquet", image=stored, caption=pa.array(["a"], pa.string_view()))
        for on_error in ("raise", "skip"):
            assert open_rows(path, "train", IMAGES, on_error=on_error)[0]["image"]["bytes"] == noise(0)
    pairs = pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64()))
    path = sequences(tmp_path / "map.parquet", image=[noise(0)], caption=["a"], pairs=pairs)
    assert len(open_rows(path, "train", IMAGES)) == 1
    with pytest.raises(ValueError, match=r"data.train: .*map.parquet: the column 'pairs' holds map<.*Leave it out"):
        open_rows(path, "train")


def test_questions(tmp_path, caplog):
    """Blank ones are left out; what is no pair of texts is refused."""
    columns = {"codes": [CODES] * 3, "caption": ["a", "b", "c"]}
    asked = {"question": "q", "answer": "a"}
    pairs = [[asked, {"question": "q", "answer": None}], None, [{"question": " ", "answer": "a"}]]
    found = open_rows(sequences(tmp_path / "a.parquet", **columns, questions=pairs), "train")
    assert found["questions"] == [[asked], None, []]
    assert "2 questions are left out" in caplog.text
    found = open_rows(sequences(tmp_path / "b.parquet", **columns, questions=[[["q", "a"]], [], None]), "train")
    assert found["questions"] == [[asked], [], None]
    for one in (["q"], "q", [{"question": "q", "answer": 1}], [{"question": "q"}], 1):
        with pytest.raises(ValueError, match="the column 'questions' holds .*, not lists of pairs"):
            open_rows(sequences(tmp_path / "c.parquet", **columns, questions=[one] * 3), "train")
    with pytest.raises(SeedImageError, match=r"d.parquet, row 1 .*questions: a list in the place of a pair"):
        three = [[["q", "a"]], [["q", "a", "more"]], None]
        open_rows(sequences(tmp_path / "d.parquet", **columns, questions=three), "train")


def test_rows_of_text_and_of_codes(tmp_path):
    columns = {"codes": [CODES, None, CODES, None], "caption": ["a", None, None, "b"], "text": [None, "t", "t", " "]}
    found = open_rows(sequences(tmp_path / "a.parquet", **columns), "train")
    assert found[ROW] == ["a.parquet, row 0", "a.parquet, row 1"]
    del columns["text"]
    with pytest.raises(SeedImageError, match="row 1 .*neither codes nor text"):
        open_rows(sequences(tmp_path / "b.parquet", **columns), "train")


BAD_CAPTIONS = {
    "missing": {"caption": None},
    "no list": {"captions": []},
    "blank list": {"captions": [" ", None]},
    "number": {"caption": 7},
    "fraction": {"captions": [1.5]},
    "mapping": {"caption": {"en": "a"}},
    "bytes": {"caption": b"\xff"},
    "surrogate": {"captions": ["a", "\ud800"]},
}


@pytest.mark.parametrize("kind", list(BAD_CAPTIONS))
def test_collators_name_the_row(kind):
    """Of rows that came from anywhere: by id, or else by the place in the batch."""
    model, several = tiny_language_model(), "captions" in BAD_CAPTIONS[kind]
    sound = {"image": picture(), "codes": CODES, **({"captions": ["a"]} if several else {"caption": "a"})}
    bad = {**sound, **BAD_CAPTIONS[kind]}
    for collator in (
        ImageTextCollator(PROCESSOR, tiny_text_tokenizer()),
        LanguageModelCollator(tiny_text_tokenizer(), model.config),
    ):
        with pytest.raises(ValueError, match="^row 1 of a batch: caption"):
            collator([sound, bad])
        with pytest.raises(ValueError, match="^the row with the id x: caption"):
            collator([{**sound, "id": "y"}, {**bad, "id": "x"}])


def test_the_language_models_collator_names_the_row():
    collator = LanguageModelCollator(tiny_text_tokenizer(), tiny_language_model().config)
    for bad, words in (
        ({"text": 7}, "text is a whole number, not text"),
        ({"text": "\udce9"}, "text: not UTF-8"),
        ({"codes": [1, 2], "caption": "a"}, "codes must be 32 integers"),
        ({"codes": None}, "A row needs codes"),
        ({"codes": CODES, "caption": "a", "questions": ["what?"]}, "questions: text in the place of a pair"),
        ({"codes": CODES, "caption": "a", "questions": [("what?", 3)]}, "questions is a whole number, not text"),
    ):
        with pytest.raises(ValueError, match=f"^{ROW}: {words}"):
            collator([{**bad, ROW: ROW}])


def test_images_that_no_source_checked_are_named():
    cut = PILImage.open(io.BytesIO(noise(1, 64, 64)[:4000]))
    for image in (cut, {"bytes": b"no image", "path": None}, b"", None, {"bytes": None, "path": "missing.png"}):
        with pytest.raises(ValueError, match="^the row with the id 5: "):
            ImageTextCollator(PROCESSOR)([{"image": image, "id": 5}])


@pytest.mark.parametrize("decode", [True, False])
def test_trainers_name_the_rows_of_any_dataset(tmp_path, decode):
    """By number, where they have no ids; also where `datasets` itself decodes the images."""
    images = [{"bytes": noise(row)[: 300 if row == 2 else None], "path": None} for row in range(4)]
    data = Dataset.from_dict({"image": images, "caption": ["a", "b", "c", None]})
    data = data.cast_column("image", Image(decode=decode))
    args = config(tmp_path, per_device_train_batch_size=4, dataloader_drop_last=False)
    collator = ImageTextCollator(PROCESSOR, tiny_text_tokenizer())
    for numbers, named in (
        ([2], "row 0 of the training data: "),
        ([0, 1, 2], "row 2 of the training data: "),
        ([0, 3], "row 1 of the training data: caption is missing"),
    ):
        model, rows_ = tiny_tokenizer(text_tower=True), data.select(numbers)
        trainer = ContrastiveTrainer(model, args, train_dataset=rows_, data_collator=collator)
        with pytest.raises(ValueError, match=f"^{named}"):
            next(iter(trainer.get_train_dataloader()))
