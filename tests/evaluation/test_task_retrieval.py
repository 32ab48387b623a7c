"""`seed-hf evaluate retrieval`: several captions an image, counted as the paper does; controls; the command."""

import base64
import copy
import json

import numpy as np
import pytest
import torch
from tokenizers import normalizers

from benchmark_files import coco_captions, karpathy_coco, write_images
from command_line import refused, run
from seed_hf.cli.evaluate_options import open_data
from seed_hf.data.sources.source import open_source
from seed_hf.evaluation.formats.opening import open_benchmark
from seed_hf.evaluation.formats.source import source_data
from seed_hf.evaluation.metrics.codebook import codebook_use
from seed_hf.evaluation.metrics.retrieval import retrieval_recalls
from seed_hf.evaluation.rows import EvaluationData, EvaluationRow
from seed_hf.evaluation.running import run_task
from seed_hf.evaluation.tasks.retrieval import Retrieval
from seed_hf.images import load_image
from seed_hf.modeling.plain_text_seed import plain_text_encoder
from tiny_evaluation import pictogram_rows
from tiny_language import tiny_processor
from tiny_sources import rows as source_rows
from tiny_sources import write_folder, write_parquet, write_tar


@pytest.fixture(scope="module")
def task(model_and_processor):
    model, processor = model_and_processor
    return Retrieval(model.visual_tokenizer, processor.image_processor, processor.tokenizer)


def without_model():
    """The task as far as it counts."""
    task = object.__new__(Retrieval)
    task.use, task.max_text_tokens = ("codes",), 32
    task._encoder = plain_text_encoder(tiny_processor().tokenizer, framed=True)
    return task


def records(images, texts, captions):
    """Records of images and of their captions' features."""

    def written(features):
        return base64.b64encode(features.numpy().astype("<f4").tobytes()).decode()

    return [
        {"captions": said, "texts": [written(text) for text in own], "images": {"codes": written(image)}}
        for image, own, said in zip(images, texts, captions)
    ]


def test_oracle_is_perfect_and_shuffled_is_chance():
    task = without_model()
    images = torch.nn.functional.normalize(torch.randn(400, 64), dim=-1)
    texts = images[:, None] + 0.01 * torch.randn(400, 5, 64)
    captions = [[f"{i} {j}" for j in range(5)] for i in range(400)]
    figures = task.figures(records(images, texts, captions))["codes"]
    assert figures["R@m"] == figures["TR@1"] == figures["IR@1"] == 100
    assert (figures["num_images"], figures["num_captions"], figures["shared_captions"]) == (400, 2000, 0)
    shuffled = task.figures(records(images, texts[torch.randperm(400)], captions))["codes"]
    assert shuffled["IR@10"] == pytest.approx(100 * 10 / 400, abs=2.5)
    # the captions of an image lie together: 10 of 2000 captions are those of two images
    assert shuffled["TR@10"] < 3


def test_several_captions_are_counted_by_hand():
    task = without_model()

    def at(*degrees):
        radians = torch.tensor(degrees, dtype=torch.float32).deg2rad()
        return torch.stack([radians.cos(), radians.sin()], dim=-1)

    # Image 0 at 0 degrees: captions at 50 and 90. Image 1 at 60: captions at 10 and 65.
    figures = task.figures(records(at(0, 60), [at(50, 90), at(10, 65)], [["a", "b"], ["c", "d"]]))["codes"]
    assert (figures["TR@1"], figures["TR@5"]) == (50, 100)  # image 0 sees c first, then a; image 1 sees d first
    assert (figures["IR@1"], figures["IR@5"]) == (25, 100)  # a, b and c see the other image first
    shared = task.figures(records(at(0, 60), [at(50, 90), at(50, 65)], [["a", "b"], ["a", "d" * 99]]))["codes"]
    assert shared["num_captions"] == 3 and shared["shared_captions"] == shared["cut_captions"] == 1
    assert shared["TR@1"] == 100 and shared["IR@1"] == pytest.approx(200 / 3)


def test_copies_of_an_image_are_one_image(task, tmp_path):
    """A table of one caption a row has an image several times: a copy ties with the right one, and is not wrong."""
    rows = [{**row, "caption": f"{row['caption']} {number}"} for row in pictogram_rows(4) for number in range(2)]
    made = [{"id": str(i), "caption": row["caption"], "image": row["image"]["bytes"]} for i, row in enumerate(rows)]
    data = source_data(open_source(write_parquet(tmp_path / "flat.parquet", made)))
    result = run_task(task, data, tmp_path / "out.json")["figures"]["codes"]
    images = {row["image"]["bytes"]: [] for row in rows}
    for row in rows:
        images[row["image"]["bytes"]].append(row["caption"])
    whole = [EvaluationRow(str(i), image, tuple(said)) for i, (image, said) in enumerate(images.items())]
    found = run_task(task, EvaluationData("rows", whole), tmp_path / "whole.json")["figures"]["codes"]
    assert found["num_images"] == len(whole) == len(rows) // 2
    assert result == pytest.approx(found)


def test_another_text_tokenizer_is_another_evaluation(task, tmp_path):
    data = source_data(open_source(write_parquet(tmp_path / "a.parquet", source_rows(2))))
    run_task(task, data, tmp_path / "out.json")
    other = copy.copy(task)
    other.text_tokenizer = copy.deepcopy(task.text_tokenizer)
    other.text_tokenizer.backend_tokenizer.normalizer = normalizers.Replace("e", "a")
    with pytest.raises(ValueError, match="rows of another evaluation; model text_tokenizer was"):
        run_task(other, data, tmp_path / "out.json")


@pytest.mark.parametrize("broken", ["images", "texts"])
def test_features_that_are_no_numbers_are_no_perfect_score(broken):
    task = without_model()
    images, texts = torch.randn(3, 4), torch.randn(3, 1, 4)
    {"images": images, "texts": texts}[broken][1] = torch.nan
    with pytest.raises(ValueError, match="are NaN or infinite: ranks would mean nothing"):
        task.figures(records(images, texts, [["a"], ["b"], ["c"]]))


def test_retrieval_of_a_model_is_that_of_its_features(task, model_and_processor, tmp_path):
    model, processor = model_and_processor
    rows = pictogram_rows(7)
    folder = write_folder(
        tmp_path / "source",
        [{"id": str(i), "caption": row["caption"], "image": row["image"]["bytes"]} for i, row in enumerate(rows)],
    )
    data = source_data(open_source(folder))
    result = run_task(task, data, tmp_path / "out.json", batch_size=3)
    tokenizer, captions = model.visual_tokenizer, list(dict.fromkeys(row["caption"] for row in rows))
    pairs = torch.tensor([(image, captions.index(row["caption"])) for image, row in enumerate(rows)])
    with torch.no_grad():
        pixels = processor(images=[load_image(row["image"]["bytes"]) for row in rows]).pixel_values
        ids = [torch.tensor([processor.tokenizer(caption)["input_ids"]]) for caption in captions]
        texts = torch.cat([tokenizer.get_text_features(each).pooler_output for each in ids])
        for use, given in (("codes", {"codes": tokenizer.encode(pixels)}), ("embeddings", {"pixel_values": pixels})):
            expected = retrieval_recalls(tokenizer.get_image_features(**given).pooler_output, texts, pairs)
            assert {name: result["figures"][use][name] for name in expected} == pytest.approx(expected)
    assert result["model"]["sha256"] and result["data"]["format"] == "imagefolder"


def test_another_text_tokenizer_is_refused(model_and_processor):
    """A model's may not be that of stage I: its ids would be looked up as other words."""
    model, processor = copy.deepcopy(model_and_processor)
    parts = model.visual_tokenizer, processor.image_processor, processor.tokenizer
    assert Retrieval(*parts).settings["image_processor"]
    model.visual_tokenizer.config.qformer_config.vocab_size -= 1
    with pytest.raises(ValueError, match="it is not the one of stage I. Give the folder of the visual tokenizer"):
        Retrieval(*parts)


def test_batches_do_not_matter(task, tmp_path):
    said = {f"{i}.jpg": [f"a red apple {'very ' * (i * j)}" for j in range(1, 4)] for i in range(5)}
    write_images(tmp_path / "val2014", *said)
    data = open_benchmark(karpathy_coco(tmp_path, said))
    one = run_task(task, data, tmp_path / "one.json", batch_size=1)
    run_task(task, data, tmp_path / "all.json", batch_size=64)

    def features(name):
        lines = [json.loads(line) for line in (tmp_path / name).read_text().splitlines()[1:]]
        values = {line["row"]: [*line["texts"], *line["images"].values()] for line in lines}
        return np.stack([[np.frombuffer(base64.b64decode(v), "<f4") for v in values[row]] for row in range(5)])

    np.testing.assert_allclose(features("one.rows.jsonl"), features("all.rows.jsonl"), atol=1e-5)
    assert one["figures"]["codes"]["num_captions"] == 9  # i * j has nine values


def test_the_command(tmp_path, saved_model):
    said = {"a.jpg": ["a red apple", "an apple"], "b.jpg": ["a blue car"]}
    path = coco_captions(tmp_path, said)
    write_images(tmp_path, *said)
    out, again = tmp_path / "result.json", tmp_path / "again.json"
    command = ("evaluate", "retrieval", "--model", saved_model, "--data", path)
    status, printed, _ = run(*command, "--out", out, "--use", "codes")
    assert status == 0 and "| R@m |" in printed and (tmp_path / "result.md").read_text() + "\n" == printed
    result = json.loads(out.read_text())
    assert list(result["figures"]) == ["codes"] and result["settings"]["max_text_tokens"] > 0
    (tmp_path / "b.jpg").unlink()
    refused(*command, "--out", again, words="1 of 2 rows cannot be used")
    status, _, _ = run(*command, "--out", again, "--on-error", "skip")
    assert status == 0 and json.loads(again.read_text())["data"]["rows"] == 1


def test_the_codes_of_any_source_are_counted(tmp_path, saved_model, model_and_processor):
    model, processor = model_and_processor
    rows = source_rows(5)
    images = [load_image(row["image"]) for row in rows]
    codes = model.visual_tokenizer.encode(processor.image_processor(images, return_tensors="pt")["pixel_values"])
    folder, out = write_folder(tmp_path / "source", rows), tmp_path / "codebook.json"
    status, _, error = run("evaluate", "codebook", "--model", saved_model, "--data", folder, "--out", out)
    assert status == 0, error
    assert json.loads(out.read_text())["figures"]["all"] == codebook_use(codes, 64)
    model.visual_tokenizer.save_pretrained(tmp_path / "tokenizer")  # as a converted one: no text tokenizer beside it
    processor.image_processor.save_pretrained(tmp_path / "tokenizer")
    bare = ("--model", tmp_path / "tokenizer", "--data", folder, "--out", tmp_path / "bare.json")
    status, _, error = run("evaluate", "codebook", *bare)
    assert status == 0, error
    assert json.loads((tmp_path / "bare.json").read_text())["figures"] == json.loads(out.read_text())["figures"]


def test_images_without_captions_have_codes(tmp_path, saved_model):
    made = source_rows(3)
    for row in made:
        (tmp_path / "images").mkdir(exist_ok=True)
        (tmp_path / "images" / f"{row['id']}.png").write_bytes(row["image"])
    command = ("--model", saved_model, "--data", tmp_path / "images", "--out", tmp_path / "out.json")
    status, _, error = run("evaluate", "codebook", *command)
    assert status == 0, error
    assert json.loads((tmp_path / "out.json").read_text())["figures"]["all"]["num_images"] == 3
    refused("evaluate", "codebook", *command, "--caption-column", "text", words="no column 'text'")
    refused("evaluate", "retrieval", *command, words="images without captions. Add a metadata.csv")


def test_a_split_that_chooses_nothing_is_refused(tmp_path):
    """All rows would be evaluated, and the result would call them the split that was asked for."""
    made = source_rows(2)
    write_folder(tmp_path / "folder", made)
    for name in ("shards", "splits"):
        (tmp_path / name).mkdir()
    write_parquet(tmp_path / "shards" / "a.parquet", made)
    write_tar(tmp_path / "a.tar", made)
    for name in ("folder", "shards", "shards/a.parquet", "shards/*.parquet", "a.tar"):
        place = str(tmp_path / name)
        with pytest.raises(ValueError, match="it has no splits, so --split test would change nothing"):
            open_data(place, None, "test")
        for split in (None, "all"):
            assert open_data(place, None, split).identity["split"] is None
    for split in ("train", "test"):
        write_parquet(tmp_path / "splits" / f"{split}-0.parquet", made[: 1 + (split == "test")])
        found = open_data(str(tmp_path / "splits"), None, split)
        assert found.identity["split"] == split and len(list(found.rows)) == 1 + (split == "test")
    with pytest.raises(ValueError, match="1 of test, 1 of train. None is of 'validation'"):
        open_data(str(tmp_path / "splits"), None, "validation")
    for split in ("train", "test"):
        (tmp_path / "images" / split).mkdir(parents=True)
        write_folder(tmp_path / "images" / split, made[:1])
    assert open_data(str(tmp_path / "images"), None, "test").identity["split"] == "test"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data", "nowhere.json"], "nowhere.json: no such file"),
        (["--data", "nowhere"], "nowhere"),
        (["--data", "FILE", "--use", "pixels"], "use must be some of codes, embeddings; got pixels"),
        (["--data", "FILE", "--max-text-tokens", "9999"], "max_text_tokens must lie in 2.."),
        (["--data", "FOLDER", "--images", "FOLDER"], "--images goes with the annotation file"),
        (["--data", "FILE", "--caption-column", "text"], "--image-column and --caption-column go with a source"),
    ],
)
def test_mistakes_are_one_line(tmp_path, saved_model, arguments, words):
    write_folder(tmp_path / "folder", source_rows(1))
    file = coco_captions(tmp_path, {"a.jpg": ["a"]})
    write_images(tmp_path, "a.jpg")
    places = {"FILE": file, "FOLDER": tmp_path / "folder"}
    refused(
        *("evaluate", "retrieval", "--model", saved_model, "--out", tmp_path / "out.json"),
        *(places.get(argument, argument) for argument in arguments),
        words=words,
    )
