"""The whole recipe of seed-tiny in one command: from the pictograms to a checkpoint folder.

    python examples/seed_tiny/recipe.py --data data/pictograms --work runs/seed_tiny --out runs/seed_tiny/checkpoint

Every stage is skipped when its result is there and goes on from its last checkpoint when it was interrupted, so the
command can be killed and started again at any time. `--only` runs single stages, for two processes side by side.
`--quick` takes a few steps of each stage, to see that everything runs; a hundred pictures are enough for it.
"""

import argparse
import logging
from pathlib import Path

from seed_hf.threads import prepare_threads


prepare_threads()  # before torch is imported

import assemble
import autoencoder
import contrastive
import decoder
import demo_pictures
import diffusion
import drawing
import features
import language
import memory
import quantization
import spoken
import text
import vision


# In this order each stage finds what it needs. Two processes can train side by side: `autoencoder` and `diffusion`
# beside `vision` to `quantization`.
STAGES = {
    "features": lambda a: features.main(["--data", a.data, "--work", a.work]),
    "autoencoder": lambda a: autoencoder.main(["--data", a.data, "--work", a.work]),
    "text": lambda a: text.main(["--data", a.data, "--work", a.work]),
    "diffusion": lambda a: diffusion.main(["--data", a.data, "--work", a.work]),
    "vision": lambda a: vision.main(["--data", a.data, "--work", a.work]),
    "contrastive": lambda a: contrastive.main(["--data", a.data, "--work", a.work]),
    "quantization": lambda a: quantization.main(["--data", a.data, "--work", a.work]),
    "language": lambda a: language.main(["--data", a.data, "--work", a.work]),
    "spoken": lambda a: spoken.main(["--data", a.data, "--work", a.work]),
    "memory": lambda a: memory.main(["--data", a.data, "--work", a.work]),
    "drawing": lambda a: drawing.main(["--data", a.data, "--work", a.work]),
    "decoder": lambda a: decoder.main(["--data", a.data, "--work", a.work]),
    "assemble": lambda a: assemble.main(["--work", a.work, "--out", a.out]),
    "demo_pictures": lambda a: demo_pictures.main(["--data", a.data, "--out", f"{a.out}/demo"]),
}


def _few(stage, *options: str):
    return lambda a: stage.main(["--data", a.data, "--work", a.work, *options])


# The stages as `--quick` runs them.
QUICK = STAGES | {
    **{stage.__name__: _few(stage, "--steps", "3") for stage in (text, diffusion, vision, memory, drawing, decoder)},
    "autoencoder": _few(autoencoder, "--steps", "3", "--decoder-steps", "3"),
    **{stage.__name__: _few(stage, "--epochs", "0.01") for stage in (contrastive, quantization)},
    "language": _few(language, "--text-epochs", "0.01", "--epochs", "0.01"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder with the pictogram Parquet files")
    parser.add_argument("--work", required=True, help="folder for everything in between")
    parser.add_argument("--out", required=True, help="folder for the checkpoint")
    parser.add_argument("--only", nargs="+", choices=list(STAGES), default=list(STAGES), metavar="STAGE")
    parser.add_argument("--quick", action="store_true", help="a few steps of each stage, to see that everything runs")
    arguments = parser.parse_args()
    # A stage whose result is there is skipped: that of a few steps must not become part of a real run.
    work, mark = Path(arguments.work), Path(arguments.work) / "quick"
    if work.is_dir() and any(work.iterdir()) and mark.exists() != arguments.quick:
        parser.error(f"{work} was begun with{'' if mark.exists() else 'out'} --quick: take another folder.")
    work.mkdir(parents=True, exist_ok=True)
    if arguments.quick:
        mark.touch()
    for name, stage in (QUICK if arguments.quick else STAGES).items():
        if name in arguments.only:
            logging.info("stage %s", name)
            stage(arguments)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    main()
