"""`seed-hf tokenize`: from images to codes, one line for a mistake."""

import json

import pyarrow.parquet as pq
import pytest

from command_line import refused, run
from seed_hf.modeling.image_processing_seed import SeedImageProcessor
from tiny import tiny_tokenizer
from tiny_sources import damaged_rows, write_parquet


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer")
    tiny_tokenizer().save_pretrained(path)
    SeedImageProcessor(size={"height": 28, "width": 28}, image_mean=[0.5, 0.5, 0.5]).save_pretrained(path)
    return path


def test_tokenize(tokenizer, tmp_path):
    made, _ = damaged_rows(40)
    source, out = write_parquet(tmp_path / "a.parquet", made), tmp_path / "out"
    command = ["tokenize", source, "--tokenizer", tokenizer, "--out", out, "--device", "cpu", "--workers", 0]
    status, text, _ = run(*command, "--rows-per-shard", 32)
    assert status == 0
    assert text == f"{out}: 38 of 40 rows, 2 bad rows, listed in {out / 'bad_images.jsonl'}\n"
    assert [len(pq.read_table(out / f"codes-00000-0000{i}.parquet")) for i in range(2)] == [30, 8]
    settings = json.loads((out / "manifest.json").read_text())["settings"]
    assert settings["image_processor"]["mean"] == [0.5, 0.5, 0.5] and settings["dtype"] == "float32"
    assert run(*command, "--rows-per-shard", 32)[1] == text
    refused(*command, words="settings.rows_per_shard is 32 there, 4096 here")
    refused(*command[:5], tmp_path / "strict", *command[6:], "--on-error", "raise", words="row 10 (id id10)")


def test_mistakes(tokenizer, tmp_path):
    source, out = write_parquet(tmp_path / "a.parquet", damaged_rows(2)[0]), tmp_path / "out"
    refused("tokenize", source, words="--out")
    refused("tokenize", source, "--out", out, "--tokenizer", tmp_path, words="holds no artifact")
    refused("tokenize", tmp_path / "b.parquet", "--out", out, "--tokenizer", tokenizer, words="no such file")
    refused("tokenize", source, "--out", out, "--tokenizer", tokenizer, "--max-aspect", 0.55, words="at least 1")
    refused("tokenize", source, "--out", out, "--caption-column", "said", words="no column 'said'")
    refused("tokenize", source, "--out", out, "--on-error", "ignore", words="--on-error")
    assert not out.exists()


def test_every_option_has_a_default(tokenizer, tmp_path):
    source, out = write_parquet(tmp_path / "a.parquet", damaged_rows(2)[0]), tmp_path / "out"
    status, text, error = run("tokenize", source, "--tokenizer", tokenizer, "--out", out)
    assert status == 0, error
    assert text == f"{out}: 2 of 2 rows\n"
