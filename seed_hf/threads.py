"""The number of CPU threads, and how they wait for each other.

torch splits a layer among OpenMP threads, which wait for each other at its end. By default a waiting thread spins for
some milliseconds. On a busy machine this uses up its time slice just before it is needed, thousands of times in a
drawing. A thread that sleeps wakes slowly, so small models have one: for a single image the process has one, for
batches each thread has a part of the batch to itself. docs/performance.md has the figures.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar


if TYPE_CHECKING:
    import torch

SMALL = 50_000_000  # weights: one thread writes with 29 M faster than two that sleep in between, with 91 M slower
LEAST = 4  # rows of a part: with fewer, Python's work is most of it, and threads do that one after another
Result = TypeVar("Result")
_WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY")


def prepare_threads() -> None:
    """Let OpenMP's waiting threads sleep, and use no more of them than the container has cores.

    Sets environment variables that the user has not set, for this process and those that it starts. To be called
    before torch is imported, which reads them.
    """
    if not any(name in os.environ for name in _WAITING):
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    if (cores := available_cores()) < _cores_of_the_process():  # which torch would use
        os.environ.setdefault("OMP_NUM_THREADS", str(cores))


def fit_threads(*parts: Any) -> None:
    """One torch thread for models that are small and on a CPU, and a part of each batch on each core.

    Step by step, such a model computes for less time between two waits than a sleeping thread needs to wake up. So
    batches go through [`on_all_cores`], which from now on computes as many parts at once as torch had threads.
    Of a program's own: it changes the threads of the whole process, and is not for one that also trains. Larger
    models, and those on a GPU, have as many torch threads as before.

    Args:
        parts: Models among whatever else there is. The largest counts.
    """
    global _cores
    import torch

    threads = torch.get_num_threads() if _cores is None else _cores.number
    small = _small_on_cpu(parts)
    if threads > 1 and small != (_cores is not None):
        _cores = _Cores(threads) if small else None
        torch.set_num_threads(1 if small else threads)


def on_all_cores(work: Callable[[slice], Result], rows: int) -> list[Result]:
    """What `work` makes of a batch: of all of it, or, after [`fit_threads`] of a small model, of a part on each core.

        codes = torch.cat(on_all_cores(lambda part: tokenizer.encode(pixels[part]), len(pixels)))

    Args:
        work: From the rows of a part, as a slice. Parts are computed at the same time and without gradients, so it
            may use models, but nothing that keeps a state, such as a text tokenizer or a scheduler.
        rows: How many the batch has.

    Returns:
        One result for each part, in their order.

    Raises:
        Whatever `work` raises, for the first part that does, after all have ended.
    """
    return [work(slice(0, rows))] if _cores is None or rows < 2 * LEAST else _cores.map(work, rows)


class _Cores:
    """Threads of which each computes a part of a batch alone."""

    def __init__(self, number: int):
        self.number = number
        self._pool = ThreadPoolExecutor(number, thread_name_prefix="core")
        self._inside = threading.local()

    def map(self, work: Callable[[slice], Result], rows: int) -> list[Result]:
        import torch

        if getattr(self._inside, "a_part", False):  # its batch was shared out already
            return [work(slice(0, rows))]
        number = min(self.number, rows // LEAST)
        parts = [slice(part * rows // number, (part + 1) * rows // number) for part in range(number)]
        half = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None
        running = [self._pool.submit(self._compute, work, part, half) for part in parts]
        wait(running)
        return [each.result() for each in running]

    def _compute(self, work: Callable[[slice], Result], part: slice, half: torch.dtype | None) -> Result:
        import torch

        self._inside.a_part = True
        with torch.inference_mode(), torch.autocast("cpu", half, enabled=half is not None):  # of this thread alone
            return work(part)


_cores: _Cores | None = None  # while the process has small models


def _renew_cores() -> None:
    global _cores
    _cores = _cores and _Cores(_cores.number)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_cores)  # a child has none of the threads


def _small_on_cpu(parts: tuple[Any, ...]) -> bool:
    import torch

    weights = [list(part.parameters()) for part in parts if isinstance(part, torch.nn.Module)]
    if any(weight.device.type != "cpu" for own in weights for weight in own):
        return False
    return bool(weights) and max(sum(weight.numel() for weight in own) for own in weights) < SMALL


def available_cores(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """The number of CPU cores that this process may use: those it may run on, or its container's share of them.

    Args:
        cgroup: Where Linux shows the control group of the container.
    """
    return max(1, int(min(_cores_of_the_process(), _quota(cgroup)) + 0.5))


def _cores_of_the_process() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _quota(cgroup: Path) -> float:
    """The cores that a control group grants; infinite without a limit."""
    for files in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):  # version 2, version 1
        try:
            quota, period = " ".join((cgroup / file).read_text() for file in files).split()
        except (OSError, ValueError):
            continue
        return float("inf") if quota in ("max", "-1") else int(quota) / int(period)
    return float("inf")
