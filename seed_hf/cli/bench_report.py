"""What the commands of `seed-hf bench` share: options, and where the report goes."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from seed_hf.files import write_text

from .shared import Device, comma_separated, plain_errors, say
from .source import NumberType


Out = Annotated[Path | None, typer.Option("--out", help="JSON file to write.")]
Rounds = Annotated[int, typer.Option(help="How often each way is timed, in turn.", min=1)]
Threads = Annotated[int, typer.Option(help="Threads of torch.", min=1)]
# Of the benchmarks of speed
Size = Annotated[str, typer.Option(help="tiny: seed-tiny. full: the published sizes, with random weights.")]
Layers = Annotated[int | None, typer.Option(help="Blocks of a full-size model. Default: all of them.", min=1)]
MaybeThreads = Annotated[int | None, typer.Option("--threads", help="Threads of torch. Default: torch's.", min=1)]


@dataclass
class Timing:
    """What every benchmark of speed on one model takes."""

    device: Device = None
    dtype: NumberType = None
    rounds: Rounds = 5
    threads: MaybeThreads = None


@dataclass
class LongTiming(Timing):
    rounds: Rounds = 3


def check_size(size: str) -> None:
    """Refuse another size than `tiny` and `full`."""
    if size not in ("tiny", "full"):
        raise ValueError(f"--size is tiny or full, got {size!r}.")


def positive_numbers(option: str, text: str) -> list[int]:
    """The numbers of `"1,8,64"`."""
    found = comma_separated(text)
    if not found or not all(number.isdecimal() and int(number) for number in found):
        raise ValueError(f"{option} takes positive numbers, separated by commas; got {text!r}.")
    return [int(number) for number in found]


def check_out(out: Path | None) -> None:
    """Refuse a report that cannot be written, before the work."""
    if out is not None and (out.is_dir() or not out.parent.is_dir()):
        raise ValueError(f"{out}: cannot be written. --out takes the name of a file in an existing folder.")


def show(table: Callable[[dict], str], report: dict, out: Path | None) -> None:
    """Print a report, and write it as JSON. Exit with 1 if none of its ways could be timed."""
    say(table(report))
    if out is not None:
        with plain_errors():
            write_text(out, json.dumps(report, indent=2) + "\n")
    ways = [way for case in report.get("cases", {}).values() for way in (case.get("ways") or {"": {}}).values()]
    if ways and not any("seconds" in way for way in ways):
        raise typer.Exit(1)
