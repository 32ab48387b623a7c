"""Test claims: `experiment.py NAME ... --pictograms DIR --vit DIR --work DIR --out DIR`; `claims.py` has the names.

Stages that several arms share are trained once. A run that is there already is not made again: kill the command and
start it again at any time.
"""

import argparse
import json
import platform
import sys
import time
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

from seed_hf.threads import prepare_threads


prepare_threads()  # before torch is imported
sys.path.append(str(Path(__file__).parents[1] / "seed_tiny"))  # its captioner and its optimizer

import torch
import transformers

from claims import CLAIMS, Claim
from measuring import of_codes, of_language_model
from reading_codes import learn_words, read
from scene_features import prepare
from seed_hf.artifacts.fingerprints import files_fingerprint
from seed_hf.devices import usable_device
from seed_hf.files import write_text
from seeing_codes import code, load_coded, see
from setting import SCALES, Place, Setting
from summary import MOST_SEEDS, save_plot, table


def measured(place: Place, setting: Setting, language: bool) -> dict:
    """The figures of a setting, kept in a file."""
    path = place.work / f"{setting.name('language' if language else 'coding')}.json"
    if not path.exists():
        begun, used = time.monotonic(), time.process_time()
        tokenizer, codes, causal = load_coded(place, setting)
        found: dict = of_codes(tokenizer, codes["test"], causal)
        if language:
            model, looks = read(place, setting)
            found |= of_language_model(model, tokenizer, codes, setting.seed) | {"looks": looks}
        found["seconds"] = {"wall": time.monotonic() - begun, "cpu": time.process_time() - used}
        write_text(path, json.dumps(found))
    return json.loads(path.read_text(encoding="utf-8"))


def one_thread() -> None:
    torch.set_num_threads(1)


def same_origin(place: Place) -> bool:
    """Whether what is in the working folder was made of this ViT and these pictograms; notes them in a new one.

    Args:
        place: Where everything is.
    """
    if not (place.vit / "config.json").is_file():
        raise FileNotFoundError(f"{place.vit}: there is no ViT in this folder (config.json).")
    origin = {
        "vit": files_fingerprint([*place.vit.glob("*.safetensors"), *place.vit.glob("config.json")]),
        "pictograms": files_fingerprint(place.pictograms.glob("*.parquet")),
    }
    file = place.work / "origin.json"
    if file.exists():
        return json.loads(file.read_text(encoding="utf-8")) == origin
    write_text(file, json.dumps(origin, indent=1) + "\n")
    return True


def run_all(claims: dict[str, Claim], place: Place, seeds: list[int], workers: Executor) -> dict[str, dict]:
    """The figures of each claim, arm and seed. What several arms have in common is done once."""
    prepare(place, workers)
    runs = {
        (name, arm, seed): (Setting(seed=seed, **fields), claim.language)
        for name, claim in claims.items()
        for arm, fields in claim.arms.items()
        for seed in seeds
    }
    for wave in ({"words": learn_words, "seeing": see}, {"coding": code}):
        needed = {
            setting.name(stage): (learn, setting)
            for stage, learn in wave.items()
            for setting, language in runs.values()
            if language or stage != "words"
        }
        for job in [workers.submit(learn, place, setting) for learn, setting in needed.values()]:
            job.result()
    jobs = {run: workers.submit(measured, place, *run) for run in dict.fromkeys(runs.values())}
    return {
        name: {arm: [jobs[runs[name, arm, seed]].result() for seed in seeds] for arm in claim.arms}
        for name, claim in claims.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", choices=CLAIMS, nargs="+", metavar="NAME", help=", ".join(CLAIMS))
    parser.add_argument("--pictograms", type=Path, required=True, help="folder with the pictograms' Parquet files")
    parser.add_argument("--vit", type=Path, required=True, help="folder of a ViT that knows the things")
    parser.add_argument("--work", type=Path, required=True, help="folder for all that is trained")
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--scale", choices=SCALES, default="evening")
    parser.add_argument(
        "--codes-only", action="store_true", help="train no language models: retrieval and use of codes"
    )
    parser.add_argument("--jobs", type=int, default=1, help="processes side by side")
    arguments = parser.parse_args()
    work = arguments.work / arguments.scale
    work.mkdir(parents=True, exist_ok=True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    place = Place(arguments.pictograms, arguments.vit, work, arguments.scale)
    if len(arguments.seeds) > MOST_SEEDS:
        parser.error(f"--seeds: at most {MOST_SEEDS}, for which the intervals are known.")
    if not same_origin(place):
        parser.error(f"{work} was begun with another ViT or other pictograms: take another --work.")
    claims = {name: CLAIMS[name] for name in arguments.names}
    if arguments.codes_only:
        claims = {name: replace(claim, language=False, plot=None) for name, claim in claims.items()}
    begun = time.monotonic()
    with ProcessPoolExecutor(arguments.jobs, get_context("spawn"), one_thread) as workers:
        found = run_all(claims, place, arguments.seeds, workers)
    device = usable_device()
    facts = {
        "scale": vars(place.size),
        "seeds": arguments.seeds,
        "device": torch.cuda.get_device_name() if device.type == "cuda" else platform.machine(),
        "versions": {module.__name__: module.__version__ for module in (torch, transformers)},
        "seconds of this call": time.monotonic() - begun,
    }
    for name, arms in found.items():
        write_text(arguments.out / f"{name}.json", json.dumps({"claim": name, **facts, "arms": arms}) + "\n")
        print(f"\n{CLAIMS[name].question}\n\n{table(arms)}")
        save_plot(claims[name].plot, arms, arguments.out / f"{name}.png")


if __name__ == "__main__":
    main()
