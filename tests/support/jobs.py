"""Jobs in processes of their own, which tests kill.

They are forked from a clean server and not from pytest: a fork of pytest shares tqdm's lock with it, and one that is
killed while it holds the lock leaves pytest waiting for ever.
"""

import multiprocessing
import os
import resource
import signal
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch

from seed_hf.data.features.caching import cache_features
from seed_hf.data.jobs.decoding import DecodingPool, ImageDecoder
from seed_hf.data.jobs.job_lock import JobLock
from seed_hf.data.jobs.tokenizing import tokenize_images
from seed_hf.data.sources.filters import RowFilters
from seed_hf.data.sources.source import open_source
from tiny import tiny_text_encoder, tiny_text_tokenizer, tiny_tokenizer


PATIENCE = 600  # seconds; a job of these tests takes less than one on a quiet machine
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["seed_hf.data.features.caching", "seed_hf.data.jobs.tokenizing", "transformers"])


def in_a_process(target, *arguments, **keywords) -> BaseProcess:
    process = _context.Process(target=_on_one_thread, args=(target, *arguments), kwargs=keywords)
    process.start()
    return process


def listening_to(target, *arguments, **keywords):
    """The process and the first thing that the target says; its first argument is how."""
    ours, theirs = _context.Pipe(duplex=False)
    process = in_a_process(target, theirs, *arguments, **keywords)
    theirs.close()
    assert ours.poll(PATIENCE), "The process says nothing."
    return process, ours.recv()


def killed(process: BaseProcess, out: Path, pattern: str, files: int, delay: float = 0) -> bool:
    """Kill a job `delay` seconds after so many files are there; `False` if it had ended by itself, and well."""
    patience = time.monotonic() + PATIENCE
    while process.is_alive() and len(list(out.glob(pattern))) < files:
        assert time.monotonic() < patience, "The job hangs."
        time.sleep(0.001)
    time.sleep(delay)
    process.kill()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL), "The job failed."
    return process.exitcode != 0


def read(folder) -> dict[str, bytes]:
    """Everything that a finished job is judged by: its shards, manifest and report, byte for byte."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


def _on_one_thread(target, *arguments, **keywords) -> None:
    torch.set_num_threads(1)
    target(*arguments, **keywords)


# What runs in them


def tokenize(source: Path, out: Path, **settings) -> None:
    tokenize_images(open_source(source), tiny_tokenizer(), out, **settings)


def tokenize_on_a_full_disk(pipe, source: Path, out: Path, **settings) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
    try:
        tokenize(source, out, **settings)
    except OSError as error:
        pipe.send(str(error))


def cache(source: Path, out: Path, **settings) -> None:
    text = {"text_encoder": tiny_text_encoder(), "text_tokenizer": tiny_text_tokenizer()}
    cache_features(open_source(source), tiny_tokenizer(), out, **text, **settings)


def decode_for_a_minute(pipe) -> None:
    with DecodingPool(ImageDecoder(8, 8, 3, RowFilters()), workers=1) as pool:
        pipe.send(list(pool._pool._processes))
        time.sleep(60)


def hold_for_a_minute(pipe, folder: Path) -> None:
    with JobLock(folder, 0, 2):
        pipe.send(os.getpid())
        time.sleep(60)
