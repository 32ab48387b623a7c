"""Run an experiment: `experiment.py NAME --pictograms DIR --vit DIR --out DIR`. README.md says which there are.

Stages that several arms share are trained once. A run that is there already is not made again: kill the command and
start it again at any time.
"""

import argparse
import importlib
import json
import platform
import time
from concurrent.futures import Executor, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from seed_hf.threads import prepare_threads


prepare_threads()  # before torch is imported

import torch
import transformers

from reading_codes import learn_words
from scene_features import prepare
from seed_hf.devices import usable_device
from seed_hf.evaluation.result import write_text
from seeing_codes import code, see
from setting import SCALES, Place, Setting
from summary import draw_plot, table


EXPERIMENTS = ("queries",)


def run_arm(name: str, place: Place, setting: Setting) -> dict:
    """The figures of one arm with one seed, kept in a file."""
    path = place.work / f"{name}-{setting.name('figures')}.json"
    if not path.exists():
        begun, used = time.monotonic(), time.process_time()
        found = importlib.import_module(name).measure(place, setting)
        found["seconds"] = {"wall": time.monotonic() - begun, "cpu": time.process_time() - used}
        write_text(path, json.dumps(found))
    return json.loads(path.read_text(encoding="utf-8"))


def one_thread() -> None:
    torch.set_num_threads(1)


def run_all(name: str, place: Place, seeds: list[int], workers: Executor) -> dict[str, list[dict]]:
    """The figures of each arm, by seed."""
    claim = importlib.import_module(name)
    prepare(place, workers)
    runs = {(arm, seed): Setting(seed=seed, **fields) for arm, fields in claim.ARMS.items() for seed in seeds}
    stages = [("words", learn_words)] if claim.USES_LANGUAGE else []
    first = [(stage, learn) for stage, learn in (*stages, ("seeing", see))]
    for wave in (first, [("coding", code)]):
        needed = {setting.name(stage): (learn, setting) for stage, learn in wave for setting in runs.values()}
        for job in [workers.submit(learn, place, setting) for learn, setting in needed.values()]:
            job.result()
    found = {key: workers.submit(run_arm, name, place, setting) for key, setting in runs.items()}
    return {arm: [found[arm, seed].result() for seed in seeds] for arm in claim.ARMS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=EXPERIMENTS)
    parser.add_argument("--pictograms", type=Path, required=True, help="folder with the pictograms' Parquet files")
    parser.add_argument("--vit", type=Path, required=True, help="folder of a ViT that knows the things")
    parser.add_argument("--work", type=Path, required=True, help="folder that all experiments share")
    parser.add_argument("--out", type=Path, required=True, help="folder for the result")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--scale", choices=SCALES, default="evening")
    parser.add_argument("--jobs", type=int, default=1, help="processes side by side")
    arguments = parser.parse_args()
    work = arguments.work / arguments.scale
    work.mkdir(parents=True, exist_ok=True)
    place = Place(arguments.pictograms, arguments.vit, work, arguments.scale)
    begun = time.monotonic()
    with ProcessPoolExecutor(arguments.jobs, get_context("spawn"), one_thread) as workers:
        arms = run_all(arguments.name, place, arguments.seeds, workers)
    device = usable_device()
    result = {
        "experiment": arguments.name,
        "scale": vars(place.size),
        "seeds": arguments.seeds,
        "device": torch.cuda.get_device_name() if device.type == "cuda" else platform.machine(),
        "versions": {module.__name__: module.__version__ for module in (torch, transformers)},
        "seconds": time.monotonic() - begun,
        "arms": arms,
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_text(arguments.out / f"{arguments.name}.json", json.dumps(result, indent=1) + "\n")
    write_text(arguments.out / f"{arguments.name}.md", table(arms) + "\n")
    print(table(arms))
    draw_plot(arguments.name, arms, arguments.out / f"{arguments.name}.png")


if __name__ == "__main__":
    main()
