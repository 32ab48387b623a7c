"""Jobs of the same kind, done together as they come. One thread owns the model."""

import asyncio
import logging
import time
import traceback
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from .metrics import Metrics


logger = logging.getLogger(__name__)


class Job:
    """One row of a batch.

    Args:
        kind: Which runner does it.
        work: What the runner takes.
        key: Only jobs with the same key are done together.
        on_part: Called in the event loop with every part that the runner gives before the result.
    """

    def __init__(self, kind: str, work: Any, key: Hashable, on_part: Callable[[Any], None] | None):
        self.kind, self.work, self.key, self.on_part = kind, work, key, on_part
        self.since = time.monotonic()
        self.gone = False  # nobody waits for it any more
        self.given = False  # some part of it
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Any] = self.loop.create_future()

    def give(self, part: Any) -> None:
        """Hand over a part of the result; called by the runner's thread.

        Args:
            part: For `on_part`.
        """
        self.given = True
        if self.on_part is not None:
            self.loop.call_soon_threadsafe(self.on_part, part)

    def finish(self, result: Any = None, error: Exception | None = None) -> None:
        """Hand over the result, or what went wrong; called by the runner's thread. The first call counts.

        Args:
            result: Of the job.
            error: Instead of a result.
        """
        self.loop.call_soon_threadsafe(self._finish, result, error)

    def _finish(self, result: Any, error: Exception | None) -> None:
        if self.future.done():
            return
        if error is None:
            self.future.set_result(result)
        else:
            self.future.set_exception(error)


class Batches:
    """Queues of jobs, one for each kind, and the thread that does them.

    A runner takes a list of jobs with the same key, and calls `finish` of each. It looks at `gone` as often as it can.
    A batch that fails is done again one by one, so that a bad row takes no other with it.

    Args:
        runners: For each kind, what does its jobs.
        size: Jobs that are done together.
        window: Seconds that an idle thread waits for more jobs of the kind that came first.
        metrics: Counts batches, jobs and seconds.
    """

    def __init__(self, runners: dict[str, Callable[[list[Job]], None]], size: int, window: float, metrics: Metrics):
        self.runners, self.size, self.window, self.metrics = runners, size, window, metrics
        self.waiting: dict[str, list[Job]] = {kind: [] for kind in runners}
        self._thread = ThreadPoolExecutor(1, "model")
        self._task: asyncio.Task[None] | None = None
        self._arrived = asyncio.Event()
        metrics.counter("seed_hf_jobs_total", "Rows that the model worked on.")
        metrics.counter("seed_hf_batches_total", "Batches that the model worked on.")
        metrics.counter("seed_hf_model_seconds_total", "Seconds that the model worked.")
        metrics.gauge("seed_hf_jobs_waiting", "Rows that wait for the model.", self.count_waiting)

    def start(self) -> None:
        """Begin to work, in the running event loop."""
        self._task = asyncio.get_running_loop().create_task(self._serve())

    async def stop(self) -> None:
        """End after the running batch."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        self._thread.shutdown(wait=True)

    def count_waiting(self) -> int:
        """Jobs that nobody works on yet."""
        return sum(map(len, self.waiting.values()))

    async def run(
        self, kind: str, work: Any, key: Hashable = None, on_part: Callable[[Any], None] | None = None
    ) -> Any:
        """The result of a job. Cancelled, it leaves the queue, or the runner stops it.

        Args:
            kind: One of the runners.
            work, key, on_part: As of a [`Job`].
        """
        job = Job(kind, work, key, on_part)
        self.waiting[kind].append(job)
        self._arrived.set()
        try:
            return await job.future
        finally:
            job.gone = True
            with suppress(ValueError):
                self.waiting[kind].remove(job)

    async def _serve(self) -> None:
        while True:
            await self._arrived.wait()
            jobs = await self._next()
            if not jobs:
                continue
            kind, begin = jobs[0].kind, time.monotonic()
            await asyncio.get_running_loop().run_in_executor(self._thread, self._work, jobs)
            self.metrics.add("seed_hf_jobs_total", len(jobs), kind=kind)
            self.metrics.add("seed_hf_batches_total", kind=kind)
            self.metrics.add("seed_hf_model_seconds_total", time.monotonic() - begin, kind=kind)

    async def _next(self) -> list[Job]:
        """The job that has waited longest, and those that can be done with it."""
        fellows = self._fellows()
        if fellows and len(fellows) < self.size:
            # Whoever waited for the model has waited long enough.
            if (left := fellows[0].since + self.window - time.monotonic()) > 0:
                await asyncio.sleep(left)
                fellows = self._fellows()
        for job in fellows:
            self.waiting[job.kind].remove(job)
        if not self.count_waiting():
            self._arrived.clear()
        return fellows

    def _fellows(self) -> list[Job]:
        heads = [jobs[0] for jobs in self.waiting.values() if jobs]
        if not heads:
            return []
        first = min(heads, key=lambda job: job.since)
        return [job for job in self.waiting[first.kind] if job.key == first.key][: self.size]

    def _work(self, jobs: list[Job]) -> None:
        """In the model's thread."""
        kind = jobs[0].kind
        try:
            self.runners[kind](jobs)
        except Exception as error:
            traceback.clear_frames(error.__traceback__)  # which hold the tensors of a batch that was too large
            self._one_by_one(jobs, error)
        for job in jobs:
            if not job.gone:
                job.finish(error=RuntimeError(f"the runner of {kind!r} left a job undone"))  # if it has no result

    def _one_by_one(self, jobs: Sequence[Job], error: Exception) -> None:
        for job in jobs:
            if job.gone:
                continue
            if len(jobs) == 1 or job.given:
                logger.error("A job of the kind %r failed.", job.kind, exc_info=error)
                job.finish(error=error)
                continue
            try:
                self.runners[job.kind]([job])
            except Exception as own:
                traceback.clear_frames(own.__traceback__)
                logger.error("A job of the kind %r failed.", job.kind, exc_info=own)
                job.finish(error=own)


__all__ = ["Batches", "Job"]
