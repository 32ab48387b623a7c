"""Data in which each caption has a row of its own: an image of several rows is one image with all their captions."""

import json

import pytest

from seed_hf.data.sources.source import open_source
from seed_hf.evaluation.formats.opening import open_benchmark
from seed_hf.evaluation.formats.source import source_data
from seed_hf.evaluation.metrics.others import Others
from seed_hf.evaluation.running import run_task
from seed_hf.evaluation.tasks.caption import Caption
from seed_hf.evaluation.tasks.codebook import Codebook
from seed_hf.evaluation.tasks.retrieval import Retrieval
from tiny_language import tiny_processor, tiny_seed_model
from tiny_sources import noise, write_parquet


SAID = {f"{number}.png": [f"a red apple {number}", f"{number} green pears"] for number in range(4)}
PAIRS = [(name, caption) for number in range(2) for name, said in SAID.items() for caption in [said[number]]]


def grouped(folder):
    for number, name in enumerate(SAID):
        (folder / name).write_bytes(noise(number))
    lines = [json.dumps({"image": name, "captions": said}) for name, said in SAID.items()]
    (folder / "grouped.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return open_benchmark(folder / "grouped.jsonl")


def flat_lines(folder):
    lines = [json.dumps({"image": name, "caption": caption}) for name, caption in PAIRS]
    (folder / "flat.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return open_benchmark(folder / "flat.jsonl")


def flat_parquet(folder):
    rows = [
        {"id": str(number), "caption": caption, "image": (folder / name).read_bytes()}
        for number, (name, caption) in enumerate(PAIRS)
    ]
    return source_data(open_source(write_parquet(folder / "flat.parquet", rows)))


def flat_folder(folder):
    images = folder / "images"
    images.mkdir()
    for name in SAID:
        (images / name).write_bytes((folder / name).read_bytes())
    lines = [json.dumps({"file_name": name, "text": caption}) for name, caption in PAIRS]
    (images / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return source_data(open_source(images))


@pytest.fixture(scope="module")
def roomy():
    return tiny_seed_model(max_position_embeddings=400), tiny_processor()


@pytest.mark.parametrize("flat", [flat_lines, flat_parquet, flat_folder])
@pytest.mark.parametrize("task", ["retrieval", "caption", "codebook"])
def test_a_row_for_each_caption_gives_the_figures_of_a_row_for_each_image(
    flat, task, roomy, model_and_processor, tmp_path
):
    model, processor = model_and_processor
    made = {
        "retrieval": lambda: Retrieval(model.visual_tokenizer, processor.image_processor, processor.tokenizer),
        "caption": lambda: Caption(*roomy, max_new_tokens=6),
        "codebook": lambda: Codebook(model.visual_tokenizer, processor.image_processor),
    }[task]()
    whole = run_task(made, grouped(tmp_path), tmp_path / "grouped.json")
    split = run_task(made, flat(tmp_path), tmp_path / "flat.json", batch_size=3)
    assert split["data"]["rows"] == 8 and whole["data"]["rows"] == 4
    assert list(split["figures"]) == list(whole["figures"])
    for group, figures in whole["figures"].items():
        assert split["figures"][group] == pytest.approx(figures), group
        assert figures["num_images"] == 4


@pytest.mark.parametrize("order", ["0123", "00112233", "0011223300", "0000011111222223333"])
def test_another_image_is_never_the_same_one(order):
    others, found = Others(), []
    for row, number in enumerate(order):
        found.append((number, others.before({"row": row, "image": f"hash {number}"}, number)))
    assert found[0][1] is None and all(mine != other for mine, other in found)
    assert {other for _, other in found[order.rindex("3") :]} <= {"2", "3"} and found[-1][1] is not None
    alone = Others()
    assert [alone.before({"row": row, "image": None}, row) for row in range(3)] == [None, 0, 1]
