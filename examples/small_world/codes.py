"""What the tokenizer sees: visual codes of scenes for the language model, computed once.

`codes/train.npy` `(scenes, 32)` int16: scene `i` of the stage "language", slightly changed at random as in training.
"""

import logging
import os
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from loop import autocast, device, stage_arguments
from pixels import changed_images, normalise
from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer
from world import images, scenes


NUMBER, BATCH = 100_000, 128


@torch.no_grad()
def encode(model: SeedTokenizer, data: Path, start: int, count: int, change: bool = True) -> torch.Tensor:
    """Codes `(count, 32)` of scenes of the stage "language"."""
    size = model.config.vision_config.image_size
    mirror = np.random.default_rng(start) if change else None
    pixels = images(scenes("language", start, count), data, size, mirror=mirror).to(device()).float() / 255
    torch.manual_seed(start)
    with autocast():
        return model.encode(normalise(changed_images(pixels) if change else pixels)).cpu()


def main(argv: list[str] | None = None) -> None:
    arguments = stage_arguments(__doc__, argv, number=NUMBER)
    path = arguments.work / "codes" / "train.npy"
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    model = SeedTokenizer.from_pretrained(arguments.work / "quantization" / "model").to(device()).eval()
    starts = range(0, arguments.number, BATCH)
    parts = [encode(model, arguments.data, start, min(BATCH, arguments.number - start)) for start in tqdm(starts)]
    np.save(path.with_name("partial.npy"), torch.cat(parts).numpy().astype(np.int16))
    os.replace(path.with_name("partial.npy"), path)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    main()
