"""What the tokenizer sees: visual codes of scenes for the language model, computed once.

`codes/train.npy` `(scenes, 32)` int16: scene `i` of the stage "language". `codes/edits.npy` `(edits, 2, 32)`: the
scenes before and after edit `i`. All are slightly changed at random, as in training.
"""

import logging
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from loop import autocast, batches, device, stage_arguments
from pixels import changed_images, normalise
from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer
from seed_hf.pictograms.scenes import Scene
from world import SEEDS, images, scenes, world


NUMBER, EDITS, BATCH = 200_000, 40_000, 256


@torch.no_grad()
def encode(model: SeedTokenizer, data: Path, scenes_of: Callable[[int, int], list[Scene]], number: int) -> np.ndarray:
    """Codes `(number, 32)` int16 of the scenes `scenes_of(start, count)`."""
    size = model.config.vision_config.image_size

    def batch_of(part: int) -> dict[str, torch.Tensor]:
        found = scenes_of(part * BATCH, min(BATCH, number - part * BATCH))
        return {"pixels": images(found, data, size, mirror=np.random.default_rng(part))}

    parts, total = [], -(-number // BATCH)
    for batch in tqdm(batches(batch_of, 0, total), total=total):
        torch.manual_seed(len(parts))
        with autocast():
            parts.append(model.encode(normalise(changed_images(batch["pixels"].float() / 255))).cpu())
    return torch.cat(parts).numpy().astype(np.int16)


def of_edits(start: int, count: int) -> list[Scene]:
    """Scenes before and after in turn; `start` and `count` are even."""
    edits = [world().draw_edit("train", SEEDS["language"], start // 2 + number) for number in range(count // 2)]
    return [scene for edit in edits for scene in (edit.before, edit.after)]


def main(argv: list[str] | None = None) -> None:
    arguments = stage_arguments(__doc__, argv, number=NUMBER, edits=EDITS)
    out = arguments.work / "codes"
    if (out / "edits.npy").exists():
        return
    out.mkdir(parents=True, exist_ok=True)
    model = SeedTokenizer.from_pretrained(arguments.work / "quantization" / "model").to(device()).eval()
    train = encode(model, arguments.data, lambda start, count: scenes("language", start, count), arguments.number)
    edits = encode(model, arguments.data, of_edits, 2 * arguments.edits).reshape(-1, 2, train.shape[1])
    for name, found in (("train", train), ("edits", edits)):
        np.save(out / "partial.npy", found)
        os.replace(out / "partial.npy", out / f"{name}.npy")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    main()
