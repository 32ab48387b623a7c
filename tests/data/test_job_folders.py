"""Job folders that something happened to: what is wrong is named and made again, and never taken for finished."""

import json
import os
import shutil
import time

import pytest

from job_folders import FATES, FinishedJob
from jobs import read
from tiny import tiny_tokenizer


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return {job: FinishedJob(job, "parquet", tmp_path_factory.mktemp(job)) for job in ("tokenize", "cache")}


@pytest.mark.parametrize("fate", FATES)
@pytest.mark.parametrize(
    "job, name",
    [
        ("tokenize", "manifest.json"),
        ("tokenize", "codes-00000-00001.parquet"),
        ("tokenize", ".job/codes-00000-00001.json"),
        ("tokenize", ".job/world.lock"),
        ("cache", "bad_images.jsonl"),
        ("cache", "features-00000-00003.safetensors"),
        ("cache", ".job/features-00000-00000.json"),
    ],
)
def test_what_is_damaged_or_foreign_is_named_and_made_again(finished, job, name, fate, tmp_path, caplog):
    finished[job].check(name, fate, tmp_path / "out", caplog)


def test_without_its_manifest_a_folder_does_not_mix_two_tokenizers(finished, tmp_path):
    job = finished["tokenize"]
    for damage in ("removed", "emptied"):
        out = tmp_path / damage
        shutil.copytree(job.folder, out)
        (out / "manifest.json").unlink()
        if damage == "emptied":
            (out / "manifest.json").touch()
        before = read(out)
        with pytest.raises(ValueError, match="holds shards of another source, tokenizer or setting"):
            job.run(out, tiny_tokenizer(seed=1))
        assert read(out) == before
        job.run(out)
        assert read(out) == read(job.folder)


def test_shards_and_accounts_of_another_job_are_made_again(finished, tmp_path):
    """Both of a shard, so that they fit each other."""
    job = finished["tokenize"]
    out = shutil.copytree(job.folder, tmp_path / "out")
    for name in ("codes-00000-00001.parquet", ".job/codes-00000-00001.json"):
        shutil.copy(job.others / name, out / name)
    job.run(out)
    assert read(out) == read(job.folder)
    shutil.copy(job.others / "codes-00000-00001.parquet", out / "codes-00007-00000.parquet")
    with pytest.raises(ValueError, match="not of this job: codes-00007-00000.parquet.* Move them elsewhere"):
        job.run(out)


def test_a_folder_with_a_shard_to_make_again_is_not_complete(finished, tmp_path):
    """A job that ends before the shard is there leaves a folder that says so."""
    job = finished["tokenize"]
    out = shutil.copytree(job.folder, tmp_path / "out")
    (out / "codes-00000-00002.parquet").unlink()
    (out / ".codes-without-numbers.unfinished").touch()

    class Stopped(RuntimeError):
        pass

    def stop(*_):
        raise Stopped

    model = tiny_tokenizer()
    model.vision_model.register_forward_pre_hook(stop)
    with pytest.raises(Stopped):
        job.run(out, model)
    assert json.loads((out / "manifest.json").read_text())["complete"] is False
    assert job.run(out)["complete"]


@pytest.mark.parametrize("ahead", [-3600, 3600])
def test_a_damaged_shard_is_made_again_whatever_the_clock_says(finished, ahead, tmp_path):
    """Accounts of the future: written by a machine whose clock is ahead, or before the clock was set back."""
    job = finished["tokenize"]
    out = shutil.copytree(job.folder, tmp_path / "out")
    damaged = bytearray((out / "codes-00000-00001.parquet").read_bytes())
    damaged[40] ^= 255
    (out / "codes-00000-00001.parquet").write_bytes(damaged)
    for account in (out / ".job").glob("*.json"):
        os.utime(account, (time.time() + ahead,) * 2)
    job.run(out)
    assert read(out) == read(job.folder)
