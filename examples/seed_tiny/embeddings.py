"""What stage I sees: causal embeddings of scenes, computed once, for stage II and for the language model's codes.

`embeddings/train/`: scene `i` of the stage "language" is row `i`. `embeddings/edits/`: the scenes before and after
edit `i` are rows `2 i` and `2 i + 1`. All are slightly changed at random, as in training. A file holds `SHARD` rows,
`(rows, 32, width)` float16; what is there is not computed again.
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


NUMBER, EDITS = 200_000, 40_000
BATCH, SHARD = 256, 4096


class Embeddings:
    """Rows of a folder of shards, read from disk as they are asked for."""

    def __init__(self, folder: Path):
        self.shards = [np.load(path, mmap_mode="r") for path in sorted(folder.glob("*.npy"))]

    def __len__(self) -> int:
        return sum(map(len, self.shards))

    def __getitem__(self, row: int) -> np.ndarray:
        return self.shards[row // SHARD][row % SHARD]


def of_edits(start: int, count: int) -> list[Scene]:
    """Scenes before and after in turn; `start` and `count` are even."""
    edits = [world().draw_edit("train", SEEDS["language"], start // 2 + number) for number in range(count // 2)]
    return [scene for edit in edits for scene in (edit.before, edit.after)]


@torch.no_grad()
def embed(
    model: SeedTokenizer, data: Path, scenes_of: Callable[[int, int], list[Scene]], number: int, folder: Path
) -> None:
    """Write the embeddings of `number` scenes `scenes_of(start, count)` into `folder`."""
    size = model.config.vision_config.image_size
    folder.mkdir(parents=True, exist_ok=True)

    def batch_of(part: int) -> dict[str, torch.Tensor]:
        found = scenes_of(part * BATCH, min(BATCH, number - part * BATCH))
        return {"pixels": images(found, data, size, mirror=np.random.default_rng(part))}

    total, each = -(-number // BATCH), SHARD // BATCH
    for first in tqdm(range(0, total, each), desc=folder.name):
        path = folder / f"{first // each:05d}.npy"
        if path.exists():
            continue
        parts = []
        for part, batch in enumerate(batches(batch_of, first, min(first + each, total)), first):
            torch.manual_seed(part)
            with autocast():
                pixels = normalise(changed_images(batch["pixels"].float() / 255))
                parts.append(model.get_causal_embeddings(pixels).half().cpu())
        np.save(folder / "partial", torch.cat(parts).numpy())
        os.replace(folder / "partial.npy", path)


def main(argv: list[str] | None = None) -> None:
    arguments = stage_arguments(__doc__, argv, number=NUMBER, edits=EDITS)
    out = arguments.work / "embeddings"
    model = SeedTokenizer.from_pretrained(arguments.work / "contrastive" / "model").to(device()).eval()
    embed(model, arguments.data, of_edits, 2 * arguments.edits, out / "edits")
    embed(
        model, arguments.data, lambda start, count: scenes("language", start, count), arguments.number, out / "train"
    )


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    main()
