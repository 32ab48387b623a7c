"""A passing shortage stops a job and names the cause; no sound image counts as bad, and the next start goes on."""

import errno
import os
import re
import signal
import subprocess
import sys

import PIL.Image
import pytest
import torch

from fragile_decoder import DyingAtStart, FragileDecoder
from jobs import read
from seed_hf.data.features.cached import CachedFeatures
from seed_hf.data.features.caching import cache_features
from seed_hf.data.jobs.code_shards import CodeFolder
from seed_hf.data.jobs.decoding import DecodingPool
from seed_hf.data.jobs.shard_folder import ShardRows
from seed_hf.data.jobs.tokenizing import tokenize_images
from seed_hf.data.sources.filters import RowFilters
from seed_hf.data.sources.source import open_source
from seed_hf.data.sources.source_row import SourceRow
from seed_hf.modeling.image_processing_seed import SeedImageProcessor
from seed_hf.shortages import ShortageError
from tiny import tiny_text_encoder, tiny_text_tokenizer, tiny_tokenizer
from tiny_sources import noise, rows, write_folder, write_parquet


SETTINGS = {"rows_per_shard": 4, "batch_size": 2, "workers": 0}


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_tokenizer()


# Decoding


def decoded(image: bytes, workers: int = 1, seconds: float = 60):
    """What a pool makes of sound images and this one among them."""
    tasks = [("a", [noise(0)]), ("b", [image]), ("c", []), ("d", [noise(3)])]
    with DecodingPool(FragileDecoder(8, 8, 3, RowFilters(), seconds), workers) as pool:
        return {key: done.rejections for key, done in pool.map(tasks)}


def test_an_image_that_crashes_its_process_is_bad():
    found = decoded(b"crash")
    assert found["b"][0].bad and "died each time (ended by SIGSEGV)" in found["b"][0].reason
    assert found["a"] == found["d"] == [None] and found["c"] == []


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no timer of computing")
def test_an_image_that_takes_too_long_is_bad():
    """What counting does not find is ended by the computing that it takes, not by the clock."""
    found = decoded(b"endless", seconds=0.2)
    assert found["b"][0].bad and "died each time (ended by SIGPROF)" in found["b"][0].reason
    assert found["a"] == found["d"] == [None] and found["c"] == []


@pytest.mark.parametrize(
    "image, error, words",
    [
        (b"killed", ChildProcessError, "b: the process .* was ended by SIGKILL each time; .* short of memory"),
        (b"memory", ShortageError, "b: .*out of memory"),
        (b"disk", ShortageError, "b: .*Input/output error"),
    ],
)
def test_a_shortage_ends_the_job(image, error, words):
    with pytest.raises(error, match=words):
        decoded(image)


def test_no_images_are_never_given_to_a_process():
    with DecodingPool(FragileDecoder(8, 8, 3, RowFilters()), workers=1) as pool:
        results = pool.map([("a", [noise(0)]), ("b", []), ("c", [])])
        assert next(results)[0] == "a"
        for pid in list(pool._pool._processes):
            os.kill(pid, signal.SIGKILL)
        assert [len(done.pixels) for _, done in results] == [0, 0]
        assert len(pool._decode_alone([]).pixels) == 0


def test_processes_that_are_killed_while_they_start(tmp_path):
    """One of them, or all, before they come to decoding."""
    decoder = DyingAtStart(8, 8, 3, RowFilters(), folder=str(tmp_path), lives=1)
    with DecodingPool(decoder, workers=1) as pool:
        assert [len(done.pixels) for _, done in pool.map([("a", [noise(0)])])] == [1]
    with pytest.raises(ChildProcessError, match="was ended by SIGKILL each time; .* short of memory"):
        DecodingPool(DyingAtStart(8, 8, 3, RowFilters(), folder=str(tmp_path), lives=99), workers=1).__enter__()


def test_processes_that_cannot_all_start_leave_none_behind():
    code = """if True:
        import os, resource
        from seed_hf.data.jobs.decoding import DecodingPool, ImageDecoder
        from seed_hf.data.sources.filters import RowFilters
        free = os.open(os.devnull, os.O_RDONLY)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free + 14, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        with DecodingPool(ImageDecoder(8, 8, 3, RowFilters()), workers=8) as pool:
            list(pool.map((number, [b"x"]) for number in range(24)))
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    assert done.returncode == 1 and "Too many open files" in done.stderr


# Jobs


def stops_and_goes_on(tokenizer, source, out, error: type, words: str, monkeypatch, fail_at: int, failure: Exception):
    """A job that fails at one image ends with the cause, and when started again has the result of an unbroken one."""
    tokenize_images(open_source(source), tokenizer, out / "unbroken", **SETTINGS)
    opened, calls = PIL.Image.open, [0]

    def fail(*arguments, **options):
        calls[0] += 1
        if calls[0] >= fail_at:
            raise failure
        return opened(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(PIL.Image, "open", fail)
        with pytest.raises(error, match=words):
            tokenize_images(open_source(source), tokenizer, out / "broken", **SETTINGS)
    assert len(list((out / "broken").glob("*.parquet"))) == 1
    tokenize_images(open_source(source), tokenizer, out / "broken", **SETTINGS)
    assert read(out / "broken") == read(out / "unbroken")


@pytest.mark.parametrize(
    "kind, failure",
    [
        ("parquet", MemoryError()),
        ("parquet", OSError(errno.EIO, "Input/output error")),
        ("folder", OSError(errno.EMFILE, "Too many open files")),
    ],
)
def test_a_job_stops_and_goes_on(tokenizer, tmp_path, monkeypatch, kind, failure):
    made = rows(10)
    source = write_parquet(tmp_path / "a.parquet", made) if kind == "parquet" else write_folder(tmp_path / "a", made)
    words = r"rows 4 to 7: .*this machine ran short \(.*The image may be sound"
    stops_and_goes_on(tokenizer, source, tmp_path, ShortageError, words, monkeypatch, 7, failure)


def test_a_folder_that_cannot_be_written(tokenizer, tmp_path, monkeypatch):
    """Whatever cannot be written, the message says what to do, and the next start goes on."""
    source = open_source(write_parquet(tmp_path / "a.parquet", rows(10)))
    tokenize_images(source, tokenizer, tmp_path / "unbroken", **SETTINGS)
    names = set()

    def full(broken: re.Pattern):
        replace = os.replace

        def maybe(old, new):
            names.add(os.path.basename(new))
            if broken.fullmatch(os.path.basename(new)):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return replace(old, new)

        return maybe

    for name in ("manifest.json", "codes-00000-00001.parquet", "codes-00000-00002.json", "bad_images.jsonl"):
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", full(re.compile(re.escape(name))))
            with pytest.raises(OSError, match="No space left on device while writing into .* to go on"):
                tokenize_images(source, tokenizer, tmp_path / "out", **SETTINGS)
        assert name in names and not list((tmp_path / "out").rglob("*.unfinished"))
    tokenize_images(source, tokenizer, tmp_path / "out", **SETTINGS)
    assert read(tmp_path / "out") == read(tmp_path / "unbroken")


def test_a_lock_that_cannot_be_written(tokenizer, tmp_path):
    source = open_source(write_parquet(tmp_path / "a.parquet", rows(2)))
    tokenize_images(source, tokenizer, tmp_path / "out", **SETTINGS)
    lock = tmp_path / "out" / ".job" / "world.lock"
    lock.unlink()
    lock.mkdir()
    with pytest.raises(OSError, match="while writing into"):
        tokenize_images(source, tokenizer, tmp_path / "out", **SETTINGS)


# Numbers that are none


def broken_weight(model, value: float):
    name, weight = next((n, w) for n, w in model.named_parameters() if n.startswith("qformer") and w.ndim == 2)
    with torch.no_grad():
        weight[0, 0] = value
    return name


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("job", [tokenize_images, cache_features])
def test_broken_weights_are_named_before_anything_is_written(tmp_path, job, value):
    source, model = open_source(write_parquet(tmp_path / "a.parquet", rows(3))), tiny_tokenizer()
    name = broken_weight(model, value)
    with pytest.raises(ValueError, match=f"tokenizer: the weight {re.escape(name)} holds .* NaN or infinite"):
        job(source, model, tmp_path / "out", **SETTINGS)
    assert not (tmp_path / "out").exists()


def test_broken_weights_of_the_codebook_and_of_encoders(tokenizer, tmp_path):
    source, model = open_source(write_parquet(tmp_path / "a.parquet", rows(3))), tiny_tokenizer()
    with torch.no_grad():
        model.quantizer.embedding.weight[3, 1] = float("nan")
    with pytest.raises(ValueError, match="the weight quantizer.embedding.weight"):
        tokenize_images(source, model, tmp_path / "out", **SETTINGS)
    assert cache_features(source, model, tmp_path / "features", **SETTINGS)["complete"]  # which has no part in it
    text = {"text_encoder": tiny_text_encoder(), "text_tokenizer": tiny_text_tokenizer()}
    with torch.no_grad():
        next(text["text_encoder"].parameters())[0] = float("nan")
    with pytest.raises(ValueError, match="text encoder: the weight "):
        cache_features(source, tokenizer, tmp_path / "out", **SETTINGS, **text)
    assert not (tmp_path / "out").exists()


def test_an_image_processor_that_divides_by_zero(tokenizer, tmp_path):
    source = open_source(write_parquet(tmp_path / "a.parquet", rows(3)))
    processor = SeedImageProcessor(size={"height": 28, "width": 28}, image_std=[0.0, 1.0, 1.0])
    for job in (tokenize_images, cache_features):
        with pytest.raises(ValueError, match="image processor makes pixels that are NaN or infinite: .*image_std"):
            job(source, tokenizer, tmp_path / "out", **SETTINGS, image_processor=processor)
    assert not (tmp_path / "out").exists()


def test_no_rows_in_no_rows_out(tokenizer, tmp_path):
    source = open_source(write_parquet(tmp_path / "a.parquet", rows(0)))
    for job in (tokenize_images, cache_features):
        manifest = job(source, tokenizer, tmp_path / job.__name__, **SETTINGS)
        assert manifest["complete"] and manifest["rows"] == {"read": 0, "written": 0, "bad": 0}
    assert len(CachedFeatures(tmp_path / "cache_features")) == 0


def test_codes_that_a_gpu_marked_as_not_finite_are_not_written(tmp_path):
    made = [SourceRow(number, f"id{number}", None, None, "a.tar") for number in range(3)]
    codes = torch.zeros(3, 32, dtype=torch.int32)
    codes[1] = -1
    shard = ShardRows(0, 0, made, {"codes": [codes]})
    with pytest.raises(ValueError, match=r"a.tar, row 1 \(id id1\): its features are NaN or infinite"):
        CodeFolder(tmp_path / "out").write_file(tmp_path / "codes.parquet", shard)
    assert not (tmp_path / "codes.parquet").exists()
