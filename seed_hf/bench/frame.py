"""What benchmarks of speed share: ways of the same work, timed in turn, each beside its floor.

A benchmark is a function that makes a [`Bench`], gives it cases and returns its `report`. A case is one piece of work
and the ways to do it; ratios are to the first way. A way that fails (out of memory, for example) is reported with its
error, and the others go on.
"""

import gc
import logging
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from seed_hf.devices import number_type, usable_device
from seed_hf.environment import environment

from .limits import measured_limits, wait_for


logger = logging.getLogger(__name__)


@dataclass
class Way:
    """One way to do the work of a case.

    Args:
        run: Does it once. What it returns is compared with what the first way returns.
        items: Images, tokens or the like that one run makes.
        flops: Operations of a run, from [`flops_of`]; 0 if unknown.
        moved: Bytes that a run reads and writes at least, weights included; 0 if unknown.
    """

    run: Callable[[], Any]
    items: float
    flops: float = 0
    moved: float = 0


class Bench:
    """A report that grows case by case. What is random after its beginning is seeded.

    Args:
        name: Of the benchmark.
        device: `"cpu"`, `"cuda"` ... By default a GPU if there is one.
        dtype: Number type. By default bf16 on a GPU and fp32 on a CPU.
        rounds: How often each way is timed, in turn.
        seconds: A timing repeats the work until it has taken about this long. 0: once, with no warm-up but the first
            call.
        threads: Of torch. By default as many as it has.
        settings: What else the report should tell.
    """

    def __init__(
        self,
        name: str,
        device: str | None = None,
        dtype: str | None = None,
        rounds: int = 5,
        seconds: float = 0.2,
        threads: int | None = None,
        **settings: Any,
    ):
        if threads:
            torch.set_num_threads(threads)
        torch.manual_seed(0)
        self.device = usable_device(device)
        self.dtype = number_type(self.device, dtype)
        self.rounds, self.seconds = rounds, seconds
        self.limits = measured_limits(self.device, self.dtype)
        self.report: dict[str, Any] = {
            "benchmark": name,
            "machine": environment(),
            "device": str(self.device),
            "dtype": str(self.dtype).removeprefix("torch."),
            "threads": torch.get_num_threads(),
            "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
            "rounds": rounds,
            "settings": settings,
            "limits": {"flops_a_second": self.limits.flops_a_second, "bytes_a_second": self.limits.bytes_a_second},
            "cases": {},
        }

    def case(
        self,
        name: str,
        ways: Callable[[], dict[str, Way]],
        unit: str = "images",
        same: Callable[[Any, Any], float] | None = None,
    ) -> dict:
        """Measure the ways of one case, add it to the report and log it.

        Args:
            name: Of the case.
            ways: Makes the models and the ways; they are forgotten after the case.
            unit: Of `Way.items`.
            same: The share of equal results of the first way and of another, from both results.

        Returns:
            The case, as it stands in the report: `unit`, and `ways` or `error`.
        """
        found: dict[str, Any] = {"unit": unit}
        self.report["cases"][name] = found
        try:
            found["ways"] = self._measured(ways(), same)
        except Exception as error:  # the next case may be smaller
            found["error"] = _words(error)
        logger.info("%s", "\n".join(_lines(name, found)))  # a benchmark that is stopped has said something
        self._forget()
        return found

    def _measured(self, ways: dict[str, Way], same) -> dict[str, dict]:
        results: dict[str, dict[str, Any]] = {}
        calls: dict[str, int] = {}
        timings: dict[str, list[tuple[float, float]]] = {}
        first: Any = None
        for name, way in ways.items():
            result: dict[str, Any] = {}
            results[name] = result
            try:
                output, result["first_seconds"], _ = self._timed(way.run, 1)
                if same is not None and first is not None:
                    result["same"] = float(same(first, output))
                first = output if first is None else first
                del output
                calls[name] = self._warm(way.run) if self.seconds else 1
            except Exception as error:
                result["error"] = _words(error)
                self._forget()
        for _ in range(self.rounds):
            for name, count in calls.items():
                before = self._start_of_peak()
                _, wall, cpu = self._timed(ways[name].run, count)
                timings.setdefault(name, []).append((wall / count, cpu / count))
                peak = self._peak()
                results[name]["peak_bytes"] = max(peak, results[name].get("peak_bytes", 0))
                results[name]["working_bytes"] = max(peak - before, results[name].get("working_bytes", 0))
        for name, times in timings.items():
            results[name] |= self._figures(ways[name], times)
        base = results[next(iter(ways))]  # without figures if it failed
        for result in results.values():
            if "seconds" in result and "seconds" in base:
                result["ratio"] = result["items_a_second"] / base["items_a_second"]
                result["cpu_ratio"] = result["items_a_cpu_second"] / base["items_a_cpu_second"]
        return results

    def _figures(self, way: Way, times: list[tuple[float, float]]) -> dict[str, float]:
        wall, cpu = (statistics.median(column) for column in zip(*times))
        floor = self.limits.floor(way.flops, way.moved)
        return {
            "seconds": wall,
            "fastest": min(times)[0],
            "slowest": max(times)[0],
            "cpu_seconds": cpu,
            "items_a_second": way.items / wall,
            "items_a_cpu_second": way.items / max(cpu, 1e-9),
            "flops": way.flops,
            "moved_bytes": way.moved,
            **({} if floor is None else {"floor_seconds": floor, "share_of_limit": floor / wall}),
        }

    def _timed(self, run: Callable[[], Any], calls: int) -> tuple[Any, float, float]:
        """What the last call returns, and seconds and CPU seconds of all."""
        wait_for(self.device)
        began, cpu_began = time.perf_counter(), time.process_time()
        for _ in range(calls):
            output = run()
        wait_for(self.device)
        return output, time.perf_counter() - began, time.process_time() - cpu_began

    def _warm(self, run: Callable[[], Any]) -> int:
        """The number of calls that take about `self.seconds`, as soon as they do not get much faster.

        What torch compiles and captures is made in the first call, or the first two.
        """
        _, seconds, _ = self._timed(run, 1)
        while (again := self._timed(run, 1)[1]) < seconds / 2:
            seconds = again
        return max(1, min(1000, round(self.seconds / seconds)))

    def _start_of_peak(self) -> int:
        """Begin to watch for the peak of memory. Returns what is in use now."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            return torch.cuda.memory_allocated(self.device)
        try:
            Path("/proc/self/clear_refs").write_text("5")
        except OSError:
            return 0
        return _status("VmRSS")

    def _peak(self) -> int:
        return torch.cuda.max_memory_allocated(self.device) if self.device.type == "cuda" else _status("VmHWM")

    def _forget(self) -> None:
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def table(report: dict) -> str:
    """Markdown of a report: a table for each case.

    Args:
        report: Of a [`Bench`].
    """
    limits, machine = report["limits"], report["machine"]
    load = "" if report["load"] is None else f", load {report['load']:.1f}"
    lines = [
        f"{report['benchmark']}: {machine['devices']}; torch {machine['torch']}, {report['dtype']}, "
        f"{report['threads']} threads{load}",
        f"measured here: {limits['flops_a_second'] / 1e12:.3g} TFLOP/s (matrix product), "
        f"{limits['bytes_a_second'] / 1e9:.3g} GB/s (copy)",
    ]
    for name, case in report["cases"].items():
        lines += ["", *_lines(name, case)]
    return "\n".join(lines)


def _lines(name: str, case: dict) -> list[str]:
    if "error" in case:
        return [f"{name}: {case['error']}"]
    heads = [case["unit"] + "/s", "ratio", "ms", "spread, ms", "of the limit", "peak MB", "same", "first, s"]
    lines = [" | ".join(["", name, *heads, ""]).strip(), "| --- " * (len(heads) + 1) + "|"]
    return lines + [f"| {way} | {_row(found)} |" for way, found in case["ways"].items()]


def _row(found: dict) -> str:
    if "error" in found:
        return found["error"] + " |" * 7
    share = f"{found['share_of_limit']:.0%}" if "share_of_limit" in found else ""
    same = f"{found['same']:.2%}" if "same" in found else ""
    return " | ".join(
        (
            f"{found['items_a_second']:.3g}",
            f"{found['ratio']:.2f}" if "ratio" in found else "",
            f"{found['seconds'] * 1e3:.3g}",
            f"{found['fastest'] * 1e3:.3g} to {found['slowest'] * 1e3:.3g}",
            share,
            f"{found['peak_bytes'] / 1e6:.0f}",
            same,
            f"{found['first_seconds']:.2f}",
        )
    )


def equal_share(first: torch.Tensor, other: torch.Tensor) -> float:
    """The share of equal elements: `same` of a case whose ways return codes or ids.

    Args:
        first, other: Of one shape.
    """
    return (first == other.to(first.device)).float().mean().item()


def _status(key: str) -> int:
    """A figure of memory of this process, in bytes; 0 where the system does not tell."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(key + ":")), 0)


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
