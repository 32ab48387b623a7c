"""What the stages cost: time by the clock and of CPU cores, and energy as CodeCarbon estimates it, over all sittings.

`recipe.py` counts while CodeCarbon is installed (`pip install codecarbon`); `costs.py --work W` prints the table. A
line is written every minute, so a run that is killed loses no more than that.
"""

import argparse
import json
import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib.util import find_spec
from pathlib import Path


FILE = "costs.jsonl"
COUNTED = ("seconds", "core_seconds", "kwh")


def counted(work: Path, stage: str):
    """A context that adds what happens in it to the costs of a stage."""
    if find_spec("codecarbon") is None:
        logging.info("CodeCarbon is not installed, so nobody counts what this costs.")
        return nullcontext()
    return _counted(work / FILE, stage)


@contextmanager
def _counted(path: Path, stage: str) -> Iterator[None]:
    from codecarbon import OfflineEmissionsTracker
    from codecarbon.output_methods.base_output import BaseOutput

    class Lines(BaseOutput):
        computed = time.process_time()

        def out(self, total, delta):
            before, self.computed = self.computed, time.process_time()
            cores = self.computed - before
            row = {"stage": stage, "seconds": delta.duration, "core_seconds": cores, "kwh": delta.energy_consumed}
            with open(path, "a", encoding="utf-8") as lines:
                lines.write(json.dumps(row) + "\n")

        live_out = out

    tracker = OfflineEmissionsTracker(
        country_iso_code="DEU",  # it must be told one, for grams of CO2 that are not used here
        tracking_mode="process",
        measure_power_secs=30,
        api_call_interval=2,  # measurements between lines
        save_to_file=False,
        output_handlers=[Lines()],
        log_level="error",
    )
    tracker.start()
    try:
        yield
    finally:
        tracker.stop()


def totals(lines: list[str]) -> dict[str, dict[str, float]]:
    """Seconds, seconds of a core and kilowatt hours of each stage, in the order in which they began."""
    found: dict[str, dict[str, float]] = {}
    for line in lines:
        row = json.loads(line)
        sums = found.setdefault(row["stage"], dict.fromkeys(COUNTED, 0.0))
        for name in sums:
            sums[name] += row[name]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder of the run")
    path = parser.parse_args().work / FILE
    if not path.is_file():
        sys.exit(f"{path} is not there: nothing was counted. Run recipe.py with CodeCarbon installed.")
    found = totals(path.read_text(encoding="utf-8").splitlines())
    found["all"] = {name: sum(row[name] for row in found.values()) for name in COUNTED}
    print("| stage | minutes | minutes of a core | watt hours |\n| --- | --- | --- | --- |")
    for stage, row in found.items():
        minutes, cores = row["seconds"] / 60, row["core_seconds"] / 60
        print(f"| `{stage}` | {minutes:.1f} | {cores:.1f} | {row['kwh'] * 1000:.1f} |")


if __name__ == "__main__":
    main()
