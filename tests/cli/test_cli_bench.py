"""`seed-hf bench`: every benchmark runs, prints a table and writes its report; mistakes end before the work."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from command_line import refused, run
from seed_hf.bench.memory import watched
from seed_hf.bench.threads import TASKS, WAITING
from tiny_sources import rows, write_parquet


@pytest.fixture(scope="module")
def captions(tmp_path_factory):
    return write_parquet(tmp_path_factory.mktemp("captions") / "a.parquet", rows(20))


def test_packing(captions, tmp_path):
    settings = ["--data", captions, "--pack-lengths", "64,128", "--batch-size", 4, "--rounds", 1, "--threads", 1]
    status, out, _ = run("bench", "packing", *settings, "--out", tmp_path / "a.json")
    report = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    ways = ["padded 140", "padded longest", "packed 64", "packed 128"]
    assert status == 0 and list(report["ways"]) == ways
    assert [line[:16].strip() for line in out.splitlines()] == ["batches", *ways]
    assert report["ways"]["padded 140"]["ratio"] == 1 and report["captions"] == "from a file"
    assert report["batch_size"] == 4 and report["rounds"] == 1


def test_storage(captions, tmp_path):
    settings = ["--data", captions, "--rows", 50, "--rounds", 1]
    status, out, _ = run("bench", "storage", *settings, "--out", tmp_path / "a.json")
    report = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert status == 0 and report["rows"] == 50
    assert set(report["storage"]) == {"pickles in a tar", "Parquet", "ratio"}
    assert {"storage", "ids", "  Parquet"} <= {line[:11].rstrip() for line in out.splitlines()}


def test_the_memory_of_a_job_that_is_over_at_once_is_read():
    assert len(watched(lambda: None)) == 10


def test_memory():
    status, out, _ = run("bench", "memory", "--rows", 100)
    names, numbers = zip(*(line.split(" MB after each tenth: ") for line in out.splitlines()[-2:]))
    assert status == 0 and [name.strip() for name in names] == ["tokenize", "training"]
    assert all(len(line.split()) == 10 and float(line.split()[0]) > 50 for line in numbers)


@pytest.mark.slow
def test_threads(tmp_path, monkeypatch):
    """With a limit that no timing keeps: what counts here is that it ends, and says so."""
    for name in list(WAITING)[1:]:
        monkeypatch.delitem(WAITING, name)  # each is a process that loads seed-tiny
    for name in set(TASKS) - {"a drawing", "8 tokens, 91 M weights"}:
        monkeypatch.delitem(TASKS, name)
    settings = ["--busy", 1, "--rounds", 1, "--limit", 0.1]
    status, out, _ = run("bench", "threads", *settings, "--out", tmp_path / "a.json")
    report = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert status == 0 and [list(tasks) for tasks in report["seconds"].values()] == [list(TASKS)] * 3
    assert [line[:10] for line in out.splitlines()] == ["seconds   ", "one thread", "as the com", "2 threads,"]
    assert report["seconds"]["one thread"]["a drawing"] is None and "over 0.1" in out.splitlines()[1]


def test_mistakes(tmp_path):
    refused("bench", "packing", "--pack-lengths", "0,64", words="positive numbers, separated by commas; got '0,64'")
    refused("bench", "packing", "--pack-lengths", "", words="positive numbers")
    refused("bench", "packing", "--pack-lengths", "64 128", words="positive numbers, separated by commas")
    refused("bench", "storage", "--data", tmp_path / "a.parquet", words="a.parquet: no such file")
    for name, table in (
        ("no column", pa.table({"text": ["a"]})),
        ("none", pa.table({"caption": pa.array(["a", None])})),
        ("lists", pa.table({"caption": [["a"], ["b"]]})),
        ("empty", pa.table({"caption": pa.array([], pa.string())})),
    ):
        pq.write_table(table, tmp_path / f"{name}.parquet")
        for command in ("storage", "packing"):
            words = "whose column `caption` has a text in every row"
            refused("bench", command, "--data", tmp_path / f"{name}.parquet", words=words)
    large = pa.table({"caption": pa.array(["a red apple"] * 4, pa.large_string())})
    pq.write_table(large, tmp_path / "large.parquet")
    assert run("bench", "storage", "--data", tmp_path / "large.parquet", "--rows", 4, "--rounds", 1)[0] == 0
    (tmp_path / "text.parquet").write_text("a")
    refused("bench", "storage", "--data", tmp_path / "text.parquet", words="text.parquet")
    refused("bench", "packing", "--pack-lengths", "1", "--rounds", 1, words="max_length is 1")
    refused("bench", "storage", "--out", tmp_path / "nowhere" / "a.json", words="in an existing folder")
    refused("bench", "codebook", "--data", tmp_path, words="train.parquet does not exist")


def test_encode(tmp_path):
    settings = ["--batches", 2, "--search-images", 8, "--rounds", 1, "--device", "cpu"]
    status, out, _ = run("bench", "encode", *settings, "--out", tmp_path / "a.json")
    report = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    batch, search, host = report["cases"].values()
    assert status == 0 and "batch 2" in out and report["dtype"] == "float32"
    assert batch["ways"]["encode"]["same"] > 0.99 and 0 < batch["ways"]["encode"]["share_of_limit"] < 2
    assert search["ways"]["encode"]["same"] > 0.999 and host["ways"]["bytes sent"]["same"] == 1
    refused("bench", "encode", "--size", "huge", words="--size is tiny or full, got 'huge'")


def test_startup(tmp_path):
    settings = ["--cases", "light", "--rounds", 1, "--out", tmp_path / "a.json"]
    status, out, _ = run("bench", "startup", *settings)
    light = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))["cases"]["light"]["ways"]
    assert status == 0 and list(light) == ["python", "import seed_hf", "seed-hf --help"]
    assert light["python"]["ratio"] == 1 and light["seed-hf --help"]["beyond"] > 0
    assert all(name in out for name in light)
    refused("bench", "startup", "--cases", "see,look", words="The cases are see, draw, light; got look")


def test_train(tmp_path):
    settings = ["--samples", 2, "--batches", 2, "--rounds", 1, "--device", "cpu"]
    status, out, _ = run("bench", "train", *settings, "--out", tmp_path / "a.json")
    report = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    lora, full, first, second = (case["ways"] for case in report["cases"].values())
    assert status == 0 and list(lora) == list(full) == ["padded to 140", "padded to the longest", "packed to 192"]
    # LoRA computes no gradients of frozen weights.
    assert 0 < lora["packed to 192"]["flops"] < full["packed to 192"]["flops"]
    assert all(way["ratio"] > 0 for ways in (lora, full, first, second) for way in ways.values())
    refused("bench", "train", "--stages", "stage-3", words="--stages takes language-model, stage-1, stage-2; got")
    refused("bench", "train", "--device", "cuda:1", words="set CUDA_VISIBLE_DEVICES=1, and leave out --device")


def test_tokenize(tmp_path):
    settings = ["--images", 3, "--side", 32, "--batch", 2, "--workers", "0", "--rounds", 1, "--device", "cpu"]
    status, out, _ = run("bench", "tokenize", *settings, "--out", tmp_path / "a.json")
    (case,) = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))["cases"].values()
    assert status == 0 and list(case["ways"]) == ["encode alone", "tokenize, 0 workers"]
    assert case["ways"]["tokenize, 0 workers"]["items_a_second"] > 0
    refused("bench", "tokenize", "--workers", "two", words="--workers takes numbers, separated by commas; got 'two'")
