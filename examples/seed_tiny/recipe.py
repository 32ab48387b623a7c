"""The whole recipe of seed-tiny in one command: from the pictograms to a checkpoint folder.

    python examples/seed_tiny/recipe.py --data DIR --work runs/seed_tiny --out runs/seed_tiny/checkpoint

Every stage is skipped when its result is there and goes on from its last checkpoint when it was interrupted, so the
command can be killed and started again at any time. `--only` runs single stages, for two processes side by side.
`--cpu` takes as many steps as two cores of a CPU have time for in a night, `--cpu evening` fewer; without it, a GPU's
number.
`--quick` takes a few steps of each stage, to see that everything runs.
"""

import argparse
import logging
from pathlib import Path

from seed_hf.threads import prepare_threads


prepare_threads()  # before torch is imported

import assemble
import autoencoder
import codes
import contrastive
import drawing
import features
import generation
import language
import quantization
import seeing
import teacher
import unet
import vision
import vocabulary
from costs import counted


# In this order each stage finds what it needs. `teacher` and those from `seeing` to `contrastive` may run
# beside each other.
STAGES = {
    "vocabulary": vocabulary,
    "autoencoder": autoencoder,
    "teacher": teacher,
    "unet": unet,
    "seeing": seeing,
    "features": features,
    "vision": vision,
    "contrastive": contrastive,
    "quantization": quantization,
    "codes": codes,
    "generation": generation,
    "drawing": drawing,
    "language": language,
}
# What `--cpu` changes: some 14 hours or 3 of a core that multiplies bf16; by two processes side by side half of it.
CPU = {
    "night": {
        "autoencoder": ["--steps", "3200", "--batch", "64"],
        "teacher": ["--steps", "2000", "--batch", "32"],
        "unet": ["--steps", "6500", "--batch", "32"],
        "seeing": ["--steps", "9000"],
        "vision": ["--steps", "3000"],
        "generation": ["--steps", "2500"],
        "drawing": ["--steps", "1500"],
    },
    "evening": {
        "autoencoder": ["--steps", "1300", "--batch", "64"],
        "teacher": ["--steps", "350", "--batch", "32"],
        "unet": ["--steps", "1100", "--batch", "32"],
        "seeing": ["--steps", "1600", "--blocks", "400"],
        "features": ["--number", "40000", "--edits", "10000"],
        "vision": ["--steps", "600"],
        "contrastive": ["--steps", "100"],
        "quantization": ["--steps", "600"],
        "generation": ["--steps", "500"],
        "drawing": ["--steps", "300"],
        "language": ["--text-steps", "100", "--steps", "1500"],
    },
}
# What `--quick` changes.
QUICK = {
    name: ["--steps", "3"] for name in ("autoencoder", "seeing", "vision", "contrastive", "quantization", "generation")
}
QUICK |= {name: ["--steps", "3", "--batch", "16"] for name in ("teacher", "unet", "drawing")}
QUICK["seeing"] += ["--blocks", "2"]
QUICK |= {"features": ["--number", "256", "--edits", "64"], "language": ["--text-steps", "2", "--steps", "2"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder with the pictogram Parquet files")
    parser.add_argument("--work", required=True, help="folder for everything in between")
    parser.add_argument("--out", required=True, help="folder for the checkpoint")
    names = [*STAGES, "assemble"]
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="STAGE")
    length = parser.add_mutually_exclusive_group()
    time_for = "as many steps as two cores have time for, in a night if nothing else is said"
    length.add_argument("--cpu", nargs="?", const="night", choices=CPU, help=time_for)
    length.add_argument("--quick", action="store_true", help="a few steps of each stage, to see that everything runs")
    arguments = parser.parse_args()
    # A stage whose result is there is skipped: that of a few steps must not become part of a real run.
    work, mark = Path(arguments.work), Path(arguments.work) / "quick"
    if work.is_dir() and any(work.iterdir()) and mark.exists() != arguments.quick:
        parser.error(f"{work} was begun with{'' if mark.exists() else 'out'} --quick: take another folder.")
    work.mkdir(parents=True, exist_ok=True)
    if arguments.quick:
        mark.touch()
    for name in arguments.only:
        logging.info("stage %s", name)
        if name == "assemble":
            assemble.main(["--work", arguments.work, "--out", arguments.out])
        else:
            length = (QUICK if arguments.quick else CPU.get(arguments.cpu, {})).get(name, [])
            with counted(work, name):
                STAGES[name].main(["--data", arguments.data, "--work", arguments.work, *length])


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    main()
