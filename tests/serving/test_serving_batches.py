"""The queue of a server: batches of a kind, in their order; a bad row and a row that nobody wants stop no other."""

import asyncio
import threading
import weakref

import pytest

from seed_hf.serving.batches import Batches
from seed_hf.serving.metrics import Metrics


def collected(work, runners, size=4, window=0.02):
    """The results of a coroutine function that gets the queue."""

    async def run():
        batches = Batches(runners, size, window, Metrics())
        batches.start()
        try:
            return await work(batches)
        finally:
            await batches.stop()

    return asyncio.run(run())


class Doubling:
    """A runner that remembers its batches, and refuses what is no number."""

    def __init__(self):
        self.batches, self.threads = [], set()

    def __call__(self, jobs):
        self.batches.append([job.work for job in jobs])
        self.threads.add(threading.get_ident())
        for job, result in zip(jobs, [job.work * 2 + 0 for job in jobs]):
            job.finish(result)


def test_what_comes_together_is_done_together():
    double, other = Doubling(), Doubling()

    async def work(batches):
        numbers = [batches.run("double", number, number % 2) for number in range(10)]
        return await asyncio.gather(*numbers, batches.run("other", 7))

    assert collected(work, {"double": double, "other": other}) == [*range(0, 20, 2), 14]
    assert double.batches == [[0, 2, 4, 6], [1, 3, 5, 7], [8], [9]]  # by key, whoever waits longest first
    assert len(double.threads | other.threads) == 1


def test_a_bad_row_takes_no_other_with_it():
    async def work(batches):
        rows = [batches.run("double", row) for row in (1, "two", 3)]
        return await asyncio.gather(*rows, return_exceptions=True)

    one, two, three = collected(work, {"double": Doubling()})
    assert (one, three) == (2, 6) and isinstance(two, TypeError)


def test_a_batch_that_was_too_large_is_not_in_memory_while_its_rows_are_done(caplog):
    held = []

    class Tensors:
        """As large as the batch."""

    def run(jobs):
        assert all(each() is None for each in held)
        tensors = Tensors()
        held.append(weakref.ref(tensors))
        if len(jobs) > 1 or jobs[0].work == 0:
            raise MemoryError("out of memory")
        jobs[0].finish(jobs[0].work)

    async def work(batches):
        return await asyncio.gather(*[batches.run("large", row) for row in (1, 0, 2)], return_exceptions=True)

    one, none, two = collected(work, {"large": run})
    assert (one, two) == (1, 2) and isinstance(none, MemoryError) and len(held) == 4
    assert "raise MemoryError" in caplog.text  # where it was


def test_a_row_that_nobody_wants_leaves_the_queue_and_its_batch():
    begun, go, gone = threading.Event(), threading.Event(), []

    def slow(jobs):
        begun.set()
        go.wait(60)
        gone.append([job.gone for job in jobs])
        for job in jobs:
            job.finish(job.work)

    async def work(batches):
        first = [asyncio.ensure_future(batches.run("slow", row)) for row in (1, 2)]
        await asyncio.to_thread(begun.wait, 60)
        later = [asyncio.ensure_future(batches.run("slow", row)) for row in (3, 4)]
        await asyncio.sleep(0)
        assert batches.count_waiting() == 2
        for task in (first[1], later[0]):
            task.cancel()
        await asyncio.wait([first[1], later[0]])
        assert batches.count_waiting() == 1
        go.set()
        return await asyncio.gather(first[0], later[1])

    assert collected(work, {"slow": slow}) == [1, 4]
    assert gone == [[False, True], [False]]


def test_parts_come_in_order_before_the_result():
    def counting(jobs):
        for job in jobs:
            for part in range(3):
                job.give(part)
            job.finish("end")

    async def work(batches):
        parts = []
        return await batches.run("count", None, on_part=parts.append), parts

    assert collected(work, {"count": counting}) == ("end", [0, 1, 2])


def test_a_job_that_is_forgotten_is_an_error():
    with pytest.raises(RuntimeError, match="left a job undone"):
        collected(lambda batches: batches.run("idle", 1), {"idle": lambda jobs: None})
