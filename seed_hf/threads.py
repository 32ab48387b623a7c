"""The number of CPU threads, and how they wait for each other.

torch splits a layer among OpenMP threads, which wait for each other at its end. By default a waiting thread spins for
some milliseconds. On a busy machine this uses up its time slice just before it is needed, thousands of times in a
drawing. A thread that sleeps wakes slowly, so small models have one. docs/performance.md has the figures.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any


SMALL = 50_000_000  # weights: one thread writes with 29 M faster than two that sleep in between, with 91 M slower
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
    """One thread, if the models that write and draw are small and on a CPU; else as many as before.

    Step by step, such a model computes for less time between two waits than a sleeping thread needs to wake up.
    Of a program's own: it changes the threads of the whole process, and is not for one that also trains.

    Args:
        parts: Models among whatever else there is. The largest counts.
    """
    import torch

    models = [part for part in parts if isinstance(part, torch.nn.Module)]
    weights = [list(model.parameters()) for model in models]
    if any(weight.device.type != "cpu" for own in weights for weight in own):
        return
    if models and max(sum(weight.numel() for weight in own) for own in weights) < SMALL:
        torch.set_num_threads(1)


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
