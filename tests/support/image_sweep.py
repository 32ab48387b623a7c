"""Hostile and damaged images through every way in: what each takes, and that sound ones beside them are kept."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from datasets import load_dataset

import read_images
from seed_hf.data.jobs.tokenizing import tokenize_images
from seed_hf.data.sources.source import open_source
from tiny import tiny_tokenizer
from tiny_sources import rows, write_parquet


SECONDS, MEGABYTES = 10, 500


def check_costs(folder: Path, files: Mapping[str, bytes], space: Path | None = None) -> dict[str, str | None]:
    """Read files in a process of their own; the error of each, `None` for those that were read.

    Args:
        folder: To write them to.
        files: By name.
        space: The Space's folder, to read as it does.
    """
    folder.mkdir(exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    command = [sys.executable, read_images.__file__, folder, *([space] if space else [])]
    run = subprocess.run(command, capture_output=True, text=True)
    found = [json.loads(line) for line in run.stdout.splitlines()]
    assert run.returncode == 0, (run.returncode, found[-1:])
    for row in found:
        assert row["seconds"] < SECONDS and row["megabytes"] < MEGABYTES, row
    assert {row["name"] for row in found} == set(files)
    return {row["name"]: row["error"] for row in found}


def check_job(folder: Path, files: Mapping[str, bytes], sound: int, workers: int = 0) -> None:
    """Tokenize damaged images among sound ones: the sound get the codes that they have alone, the others are told.

    Args:
        folder: For the source and the results.
        files: Damaged images by name.
        sound: How many sound rows are mixed with them.
        workers: Of the job.
    """
    good, damaged = rows(sound), [{"id": name, "caption": name, "image": data} for name, data in files.items()]
    step = max(1, len(damaged) // sound)
    mixed = [row for at in range(sound) for row in (*damaged[at * step : (at + 1) * step], good[at])]
    mixed += damaged[sound * step :]
    codes = {}
    for name, made in (("alone", good), ("mixed", mixed)):
        source = open_source(write_parquet(folder / f"{name}.parquet", made))
        manifest = tokenize_images(source, tiny_tokenizer(), folder / name, workers=workers, rows_per_shard=100)
        stored = load_dataset("parquet", data_files=str(folder / name / "*.parquet"), split="train")
        codes[name] = {row["id"]: row["codes"] for row in stored}
        bad = folder / name / "bad_images.jsonl"
        told = {json.loads(line)["id"] for line in bad.read_text().splitlines()} if bad.exists() else set()
        assert told | set(codes[name]) == {row["id"] for row in made} and not told & set(codes[name])
        assert manifest["complete"]
    assert codes["alone"].items() <= codes["mixed"].items()
