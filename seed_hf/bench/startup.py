"""`seed-hf bench startup`: what a command costs on top of the bare imports of the classes that it uses.

Whole processes, started in turn, by the CPU seconds (user and system) that the kernel has counted for each. Unlike
seconds on the wall they hardly depend on what else the machine does.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seed_hf.artifacts.bundled import bundled
from seed_hf.environment import environment


_SEEING = """
import torch
from PIL import Image
from transformers import (
    Blip2QFormerModel, Blip2VisionModel, GenerationMixin, OPTForCausalLM, PreTrainedModel, PreTrainedTokenizerFast,
    ProcessorMixin,
)
"""
_DRAWING = (
    _SEEING
    + """
from diffusers import AutoencoderKL, DiffusionPipeline, DPMSolverMultistepScheduler, UNet2DConditionModel
"""
)
CASES = ("see", "draw", "light")
# CPU seconds that a command may cost beyond the bare imports
TARGETS = {"see": 1.0, "draw": 1.8}


def measure(*, rounds: int = 5, cases: Sequence[str] = CASES, against: str | None = None) -> dict[str, Any]:
    """Start every command several times, in turn with the bare imports.

    Args:
        rounds: How often each process is started.
        cases: Which of `CASES`.
        against: A Python in whose environment another version of this package is installed. Its commands are started
            in turn with ours.

    Raises:
        ValueError: There is no such case, or a process fails; the message has the end of what it said.
    """
    if unknown := set(cases) - set(CASES):
        raise ValueError(f"The cases are {', '.join(CASES)}; got {', '.join(sorted(unknown))}.")
    image = str(next(bundled("seed-tiny", "demo").glob("*.png")))
    report: dict[str, Any] = {
        "benchmark": "startup",
        "machine": environment(),
        "load": os.getloadavg()[0],
        "rounds": rounds,
        "cases": {},
    }
    with tempfile.TemporaryDirectory() as folder:
        commands = {
            "see": (_SEEING, ["see", image]),
            "draw": (_DRAWING, ["draw", "a red apple", "-o", str(Path(folder) / "apple.png")]),
        }
        for name in (name for name in commands if name in cases):
            imports, arguments = commands[name]
            ways = {
                "bare imports": [sys.executable, "-c", imports],
                "the same, uncollected": [sys.executable, "-c", _uncollected(imports)],
                f"seed-hf {name}": [sys.executable, "-m", "seed_hf.cli", *arguments],
            }
            if against:
                ways["the other version"] = [against, "-m", "seed_hf.cli", *arguments]
            report["cases"][name] = _case(ways, rounds, TARGETS[name])
    if "light" in cases:
        light = {
            "python": [sys.executable, "-c", "pass"],
            "import seed_hf": [sys.executable, "-c", "import seed_hf"],
            "seed-hf --help": [sys.executable, "-m", "seed_hf.cli", "--help"],
        }
        report["cases"]["light"] = _case(light, rounds)
    return report


def table(report: dict[str, Any]) -> str:
    """Markdown of a report.

    Args:
        report: From `measure`.
    """
    lines = [
        f"startup: {report['machine']['devices']}, {report['machine']['threads']}, load {report['load']:.1f}; CPU "
        f"seconds of whole processes, medians of {report['rounds']}"
    ]
    for case, found in report["cases"].items():
        target = f", target {found['target']}" if "target" in found else ""
        lines += ["", f"| {case}{target} | CPU s | fastest to slowest | beyond the first | ratio | wall s |"]
        lines += ["| --- " * 6 + "|"]
        for name, way in found["ways"].items():
            lines.append(
                f"| {name} | {way['cpu_seconds']:.2f} | {way['fastest']:.2f} to {way['slowest']:.2f} | "
                f"{way['beyond']:+.2f} | {way['ratio']:.2f} | {way['seconds']:.2f} |"
            )
    return "\n".join(lines)


def _uncollected(imports: str) -> str:
    return f"from seed_hf.garbage import uncollected\nwith uncollected():{imports.replace(chr(10), chr(10) + '    ')}"


def _case(ways: dict[str, list[str]], rounds: int, target: float | None = None) -> dict[str, Any]:
    for command in ways.values():
        _started(command)  # the files are in memory, and compiled, from here on
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, command in ways.items():
            times[name].append(_started(command))
    base = next(iter(times.values()))
    found = {}
    for name, timed in times.items():
        cpu, wall = ([pair[column] for pair in timed] for column in (0, 1))
        found[name] = {
            "cpu_seconds": statistics.median(cpu),
            "fastest": min(cpu),
            "slowest": max(cpu),
            "beyond": statistics.median(here - first[0] for here, first in zip(cpu, base)),
            "ratio": statistics.median(here / first[0] for here, first in zip(cpu, base)),
            "seconds": statistics.median(wall),
        }
    return {"unit": "CPU seconds", **({} if target is None else {"target": target}), "ways": found}


def _started(command: list[str]) -> tuple[float, float]:
    """CPU seconds and seconds of a process."""
    with tempfile.TemporaryFile() as said:
        began = time.perf_counter()
        # Elsewhere, so that a checkout in the current folder is not taken for the package.
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, cwd=tempfile.gettempdir()
        )
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            end = " ".join(said.read().decode(errors="replace").split())[-500:]
            raise ValueError(f"{' '.join(command[:3])} ... ended with status {process.returncode}: {end}")
    return used.ru_utime + used.ru_stime, seconds
