"""A task of evaluation without a model, its data, and processes that run it until they are killed."""

import json
import multiprocessing
import os
import random
import signal
import threading
import time

from tqdm.auto import tqdm

from seed_hf.evaluation.rows import EvaluationData, EvaluationRow
from seed_hf.evaluation.running import run_task
from tiny_sources import noise


class Widths:
    """A task that measures the width of each image and keeps an account of its work."""

    name = "widths"
    protocol = {"unit": "pixels", "factor": 2}
    model = {"sha256": "none"}

    def __init__(self, unit="pixels", dies_after=None):
        self.settings = {"unit": unit, "factor": 2}
        self.seen, self.measured, self.dies_after = 0, [], dies_after

    def fault(self, row):
        return "" if row.image else "no image"

    def length(self, row):
        return len(row.question)

    def see(self, images):
        self.seen += len(images)
        return [image.width for image in images]

    def measure(self, rows, seen):
        if self.dies_after is not None and len(self.measured) >= self.dies_after:
            raise KeyboardInterrupt
        self.measured.append([row.id for row in rows])
        return [{"width": width} for width in seen]

    def figures(self, records):
        widths = [record["width"] for record in records]
        return {"all": {"mean": sum(widths) / len(widths), "last": [record["width"] for record in records][-1]}}


def rows(count=10):
    return [EvaluationRow(f"r{i}", noise(i, width=10 + i), question="?" * (i % 4)) for i in range(count)]


def data(made=None, lazy=False):
    made = rows() if made is None else made
    return EvaluationData("made", Lazy(made) if lazy else made, {"split": "test"})


class Lazy:
    """Rows that have no length and are read one by one."""

    def __init__(self, made):
        self.made = made

    def __iter__(self):
        return iter(self.made)


def without_times(path):
    """A result without what differs between an evaluation and one that was killed."""
    result = json.loads(path.read_text())
    result.pop("seconds")
    result["environment"] = {name: result["environment"][name] for name in ("torch", "processes")}
    return result


class Slow(Widths):
    """Takes some time over each batch, so that a kill can hit any of them."""

    def measure(self, rows, seen):
        time.sleep(0.003)
        return super().measure(rows, seen)


def run_killed(out, kills: int, processes: int, seed: int) -> int:
    """Evaluate, killed at random moments, until it is done; how many kills hit a process at work.

    Args:
        out: The result.
        kills: At most so many. From then on nothing is killed.
        processes: That share the rows.
        seed: Of the moments.
    """
    chance, hit = random.Random(seed), 0
    fork = multiprocessing.get_context("fork")
    while not out.exists():
        started = [fork.Process(target=_run, args=(out, rank, processes)) for rank in range(processes)]
        for process in started:
            process.start()
        if hit < kills:
            time.sleep(chance.uniform(0.0, 0.06))
            for process in started:
                if process.is_alive():
                    os.kill(process.pid, signal.SIGKILL)
                    hit += 1
        for process in started:
            process.join(60)
    return hit


def _run(out, rank, processes):
    tqdm.set_lock(threading.RLock())  # forked processes share tqdm's own, and a killed one would keep it
    run_task(Slow(), data(rows(60)), out, batch_size=2, rank=rank, world_size=processes)
