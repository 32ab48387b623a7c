"""Pre-tokenizing: the codes that `encode` gives, and the same files after any interruption."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from fragile_decoder import FragileDecoder
from jobs import (
    decode_for_a_minute,
    hold_for_a_minute,
    in_a_process,
    killed,
    listening_to,
    read,
    tokenize,
    tokenize_on_a_full_disk,
)
from seed_hf.data.jobs.code_shards import CodeFolder
from seed_hf.data.jobs.decoding import DecodingPool, ImageDecoder
from seed_hf.data.jobs.job_lock import JobLock
from seed_hf.data.jobs.settings import JobSettings
from seed_hf.data.jobs.tokenizing import normalisation_table, normalise, tokenize_images
from seed_hf.data.sources.filters import RowFilters
from seed_hf.data.sources.source import open_source
from seed_hf.images import SeedImageError, load_image
from seed_hf.modeling.image_processing_seed import SeedImageProcessor
from tiny import tiny_tokenizer
from tiny_sources import damaged_rows, noise, rows, write_folder, write_parquet, write_tar


PROCESSOR = SeedImageProcessor(size={"height": 28, "width": 28})


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_tokenizer()


def table(folder) -> pa.Table:
    return pa.concat_tables([pq.read_table(path) for path in sorted(folder.glob("*.parquet"))])


# The codes


def test_normalisation_is_the_processors_bit_for_bit():
    image = load_image(noise(0, 28, 28))
    for processor in (PROCESSOR, SeedImageProcessor(size={"height": 28, "width": 28}, do_normalize=False)):
        pixels = torch.tensor([[[[value]] for value in image.getpixel((x, y))] for x in range(28) for y in range(28)])
        pixels = pixels.reshape(28, 28, 3).permute(2, 1, 0)[None].to(torch.uint8)
        expected = processor(image, return_tensors="pt")["pixel_values"]
        assert torch.equal(normalise(pixels, normalisation_table(processor)), expected)


@pytest.mark.parametrize("workers", [0, 1])
def test_codes_are_those_of_encode(tokenizer, tmp_path, workers):
    made = rows(30)
    for number, mode in enumerate(("L", "P", "CMYK", "LA")):
        path = tmp_path / "odd.tiff" if mode == "CMYK" else tmp_path / "odd.png"
        load_image(made[number]["image"]).convert(mode).save(path)
        made[number]["image"] = path.read_bytes()
    see_through = Image.new("RGBA", (30, 40), (9, 9, 9, 0))
    see_through.save(tmp_path / "odd.png")
    made[4]["image"] = (tmp_path / "odd.png").read_bytes()
    source = open_source(write_parquet(tmp_path / "a.parquet", made))
    manifest = tokenize_images(source, tokenizer, tmp_path / "out", batch_size=7, rows_per_shard=20, workers=workers)
    found = table(tmp_path / "out")
    assert found.schema.field("codes").type == pa.list_(pa.uint16(), 32)
    assert found["id"].to_pylist() == [row["id"] for row in made]
    assert found["caption"].to_pylist() == [row["caption"] for row in made]
    pixel_values = PROCESSOR([load_image(row["image"]) for row in made], return_tensors="pt")["pixel_values"]
    assert torch.equal(torch.tensor(found["codes"].to_pylist()), tokenizer.encode(pixel_values))
    assert manifest["complete"] and manifest["rows"] == {"read": 30, "written": 30, "bad": 0}
    assert [shard["rows"] for shard in manifest["shards"]] == [[0, 20], [20, 30]]


def test_reads_back_with_datasets_and_trains(tokenizer, tmp_path):
    from datasets import load_dataset

    from seed_hf.data.sources.rows import open_rows

    source = open_source(write_parquet(tmp_path / "a.parquet", rows(10)))
    out = tmp_path / "out"
    tokenize_images(source, tokenizer, out, rows_per_shard=4, workers=0)
    cache = str(tmp_path / "cache")
    expected = table(out).to_pylist()
    for found in (
        load_dataset("parquet", data_files=f"{out}/*.parquet", split="train", cache_dir=cache),
        load_dataset(str(out), split="train", streaming=True),
        open_rows(str(out), "train"),
    ):
        assert [row["codes"] for row in found] == [row["codes"] for row in expected]
        assert found.features["codes"].length == 32 and found.features["codes"].feature.dtype == "uint16"


def test_lists_of_captions_and_none(tokenizer, tmp_path):
    images = [noise(0), noise(1)]
    pq.write_table(pa.table({"image": images, "captions": [["a", "b"], [" "]]}), tmp_path / "a.parquet")
    tokenize_images(open_source(tmp_path / "a.parquet"), tokenizer, tmp_path / "lists", workers=0)
    assert table(tmp_path / "lists").select(["id", "captions"]).to_pylist() == [
        {"id": "a.parquet:0", "captions": ["a", "b"]}
    ]
    tokenize_images(open_source(tmp_path / "a.parquet", captions=False), tokenizer, tmp_path / "none", workers=0)
    assert table(tmp_path / "none").column_names == ["id", "codes"] and len(table(tmp_path / "none")) == 2


# Damage


@pytest.mark.parametrize("kind", ["parquet", "folder"])
def test_five_percent_damaged(tokenizer, tmp_path, kind):
    made, bad = damaged_rows(120)
    path = write_parquet(tmp_path / "a.parquet", made) if kind == "parquet" else write_folder(tmp_path / "a", made)
    source = open_source(path)
    manifest = tokenize_images(source, tokenizer, tmp_path / "out", rows_per_shard=50, batch_size=8, workers=0)
    assert table(tmp_path / "out")["id"].to_pylist() == [row["id"] for row in made if row["id"] not in bad]
    assert manifest["rows"] == {"read": 120, "written": 114, "bad": 6}
    report = [json.loads(line) for line in (tmp_path / "out" / "bad_images.jsonl").read_text().splitlines()]
    assert [entry["id"] for entry in report] == list(bad)
    for entry in report:
        reason = "no such file" if kind == "folder" and bad[entry["id"]] == "none" else bad[entry["id"]]
        assert any(words in entry["reason"] for words in reason.split("|")), entry
        assert entry["row"] == int(entry["id"][2:])
        assert entry["file"] == ("a.parquet" if kind == "parquet" else f"{entry['id']}.jpg")
    with pytest.raises(SeedImageError, match=r"row 10 \(id id10\)"):
        tokenize_images(source, tokenizer, tmp_path / "strict", workers=0, on_error="raise")
    assert not list((tmp_path / "strict").glob("*.parquet"))


def test_filters_are_counted(tokenizer, tmp_path):
    made = rows(6)
    made[1]["caption"], made[2]["image"], made[3]["image"] = "", noise(0, 9, 20), noise(0, 90, 20)
    source = open_source(write_parquet(tmp_path / "a.parquet", made))
    filters = RowFilters(min_side=10, max_aspect=2)
    manifest = tokenize_images(source, tokenizer, tmp_path / "out", workers=0, filters=filters)
    assert table(tmp_path / "out")["id"].to_pylist() == ["id0", "id4", "id5"]
    assert manifest["dropped"] == {"empty_caption": 1, "min_side": 1, "max_aspect": 1}


# Interruptions


def killed_and_resumed(tokenizer, tmp_path, kills: int):
    """Kill a job `kills` times, each time a random moment after a random number of its 25 shards was finished."""
    made, _ = damaged_rows(200)
    source = open_source(path := write_parquet(tmp_path / "a.parquet", made, row_group_size=30))
    settings = {"batch_size": 4, "rows_per_shard": 8, "workers": 0}
    tokenize_images(source, tokenizer, tmp_path / "unbroken", **settings)
    out, draw, done = tmp_path / "out", random.Random(kills), 0
    while done < kills:
        if (present := len(list(out.glob("*.parquet")))) == 25:
            # Finished before all kills: remove some shards and accounts, and go on.
            for file in [*out.glob("codes-*"), *(out / ".job").glob("codes-*"), out / "manifest.json"]:
                if file.exists() and draw.random() < 0.7:
                    file.unlink()
            continue
        target = draw.randint(present, 25)
        done += killed(in_a_process(tokenize, path, out, **settings), out, "*.parquet", target, draw.uniform(0, 0.02))
    manifest = tokenize_images(source, tokenizer, out, **settings)
    assert not list(out.rglob("*.unfinished"))
    assert manifest["complete"] and len(table(out)) == 190
    found, expected = read(out), read(tmp_path / "unbroken")
    assert sorted(found) == sorted(expected)
    assert [name for name in expected if found[name] != expected[name]] == []


def test_killed_and_resumed_is_the_unbroken_result(tokenizer, tmp_path):
    killed_and_resumed(tokenizer, tmp_path, kills=3)


@pytest.mark.slow
def test_killed_twenty_times(tokenizer, tmp_path):
    killed_and_resumed(tokenizer, tmp_path, kills=20)


def test_a_full_disk_leaves_nothing_half_written(tokenizer, tmp_path):
    """A limit on the size of files stands in for the disk: writing fails in the midst of a shard."""
    made = [{**row, "caption": random.Random(i).randbytes(100).hex()} for i, row in enumerate(rows(120))]
    source = open_source(path := write_parquet(tmp_path / "a.parquet", made))
    settings = {"rows_per_shard": 60, "workers": 0}
    process, message = listening_to(tokenize_on_a_full_disk, path, tmp_path / "out", **settings)
    process.join(60)
    assert "while writing into" in message and "to go on" in message
    assert not list((tmp_path / "out").rglob("codes-*")) and not list((tmp_path / "out").rglob("*.unfinished"))
    assert tokenize_images(source, tokenizer, tmp_path / "out", **settings)["rows"]["written"] == 120


def test_a_dead_worker_loses_nothing():
    images = [noise(i) for i in range(24)]
    images[9] = b"poison"
    tasks = [(number, images[number * 4 : number * 4 + 4]) for number in range(6)]
    with DecodingPool(FragileDecoder(8, 8, 3, RowFilters()), workers=1) as pool:
        done = list(pool.map(iter(tasks)))
        assert [key for key, _ in done] == list(range(6))
        assert [len(decoded.pixels) for _, decoded in done] == [4, 4, 3, 4, 4, 4]
        rejection = done[2][1].rejections[1]
        assert rejection.bad and "died" in rejection.reason
        expected, _ = ImageDecoder(8, 8, 3, RowFilters())(images[20:])
        assert (done[5][1].pixels == expected).all()

        results = pool.map(iter(tasks[:2]))
        assert next(results)[0] == 0
        for pid in list(pool._pool._processes):  # from outside, as the kernel does when memory is short
            os.kill(pid, signal.SIGKILL)
        assert [key for key, decoded in results if len(decoded.pixels) == 4] == [1]


def test_workers_end_with_a_killed_job():
    process, workers = listening_to(decode_for_a_minute)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    for _ in range(3000):  # five minutes, on a very busy machine
        if not any(is_running(pid) for pid in workers):
            return
        time.sleep(0.1)
    raise AssertionError("A worker outlived its job.")


def is_running(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# Several processes


@pytest.mark.parametrize("kind", ["parquet", "tars", "one_tar"])
def test_processes_share_the_shards(tokenizer, tmp_path, kind):
    path = tmp_path / "source"
    path.mkdir()
    for i in range({"parquet": 2, "tars": 4, "one_tar": 1}[kind]):
        if kind == "parquet":
            write_parquet(path / f"{i}.parquet", rows(20, 20 * i))
        else:
            write_tar(path / f"{i}.tar", rows(16, 16 * i))
    source, settings = open_source(path), {"rows_per_shard": 8, "workers": 0, "batch_size": 3}
    tokenize_images(source, tokenizer, tmp_path / "alone", **settings)
    written = []
    for rank in (2, 0, 1):
        manifest = tokenize_images(source, tokenizer, tmp_path / "out", rank=rank, world_size=3, **settings)
        assert manifest["complete"] == (rank == 1)
        written.append(len(list((tmp_path / "out").glob("*.parquet"))))
    assert read(tmp_path / "out") == read(tmp_path / "alone")
    assert written[0] < written[2] if kind == "one_tar" else written[0] < written[1] < written[2]
    # One process goes on for three that were stopped.
    tokenize_images(source, tokenizer, tmp_path / "again", rank=1, world_size=3, **settings)
    assert tokenize_images(source, tokenizer, tmp_path / "again", **settings)["complete"]
    assert read(tmp_path / "again") == read(tmp_path / "alone")


def test_two_jobs_on_one_folder_are_refused(tmp_path):
    process, _ = listening_to(hold_for_a_minute, tmp_path)
    with pytest.raises(BlockingIOError, match=f"process {process.pid} on .* as rank 0"):
        JobLock(tmp_path, 0, 2).__enter__()
    with pytest.raises(BlockingIOError, match="job of 2 processes"):
        JobLock(tmp_path, 0, 1).__enter__()
    with JobLock(tmp_path, 1, 2):
        pass
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    with JobLock(tmp_path, 0, 1):
        pass


# Another job


def test_another_source_tokenizer_or_setting_is_refused(tokenizer, tmp_path):
    path, out = write_parquet(tmp_path / "a.parquet", rows(4)), tmp_path / "out"
    source, settings = open_source(path), {"rows_per_shard": 2, "workers": 0}
    tokenize_images(source, tokenizer, out, **settings)
    before = read(out)
    other = open_source(write_parquet(tmp_path / "b.parquet", rows(5)))
    for words, arguments in (
        ("settings.batch_size is 64 there, 8 here", (source, tokenizer, {**settings, "batch_size": 8})),
        ("settings.rows_per_shard is 2 there, 4 here", (source, tokenizer, {**settings, "rows_per_shard": 4})),
        ("settings.filters.min_side is 0 there, 9 here", (source, tokenizer, {"filters": RowFilters(9), **settings})),
        ("source.files_sha256 is", (other, tokenizer, settings)),
        ("tokenizer.sha256 is", (source, tiny_tokenizer(seed=1), settings)),
    ):
        with pytest.raises(ValueError, match=words):
            tokenize_images(*arguments[:2], out, **arguments[2])
    assert read(out) == before
    path.rename(tmp_path / "elsewhere.parquet")
    (tmp_path / "moved").mkdir()
    (tmp_path / "elsewhere.parquet").rename(tmp_path / "moved" / "a.parquet")
    assert tokenize_images(open_source(tmp_path / "moved" / "a.parquet"), tokenizer, out, **settings)["complete"]


def test_impossible_jobs(tokenizer, tmp_path):
    (tmp_path / "a").mkdir()
    source = open_source(write_parquet(tmp_path / "a" / "a.parquet", rows(2)).parent)
    with pytest.raises(ValueError, match="lies in the source"):
        tokenize_images(source, tokenizer, tmp_path / "a" / "out")
    with pytest.raises(ValueError, match="holds Parquet files but no manifest"):
        CodeFolder(tmp_path / "a")
    for words, settings in (
        ("batch_size must be at least 1", {"batch_size": 0}),
        ("raise, skip", {"on_error": "ignore"}),
        (r"rank must be in 0\.\.1", {"rank": 2, "world_size": 2}),
        ("the tokenizer sees 28 x 28", {"image_processor": SeedImageProcessor()}),
    ):
        with pytest.raises(ValueError, match=words):
            tokenize_images(source, tokenizer, tmp_path / "out", **settings)
    assert not (tmp_path / "out").exists()


def test_options_that_are_none_have_their_default_and_unknown_ones_are_refused(tokenizer, tmp_path, monkeypatch):
    source = open_source(write_parquet(tmp_path / "a.parquet", rows(4)))
    tokenize_images(source, tokenizer, tmp_path / "given", rows_per_shard=2, workers=0)
    tokenize_images(source, tokenizer, tmp_path / "none", rows_per_shard=2, workers=0, batch_size=None, rank=None)
    assert read(tmp_path / "given") == read(tmp_path / "none")
    with pytest.raises(TypeError, match="batchsize"):
        tokenize_images(source, tokenizer, tmp_path / "out", batchsize=None)
    for name, value in (("RANK", "3"), ("WORLD_SIZE", "8"), ("LOCAL_WORLD_SIZE", "1000")):
        monkeypatch.setenv(name, value)
    found = JobSettings.of({"rank": None, "world_size": None, "workers": None})
    assert (found.rank, found.world_size, found.workers) == (3, 8, 1)


def test_the_workers_import_nothing_heavy():
    heavy = "{'torch', 'transformers', 'datasets', 'pyarrow'}"
    code = f"import sys, seed_hf.data.jobs.decoding; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    assert done.stdout.strip() == "set()", done.stderr
