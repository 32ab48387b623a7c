"""What the frozen ViT sees of scenes, computed once for all stages after it.

`features/train/`: scene `i` of the stage "language" is row `i`. `features/edits/`: the scenes before and after edit
`i` are rows `2 i` and `2 i + 1`. All are slightly changed at random, as in training. A file holds `SHARD` rows,
`(rows, patches + 1, width)` float16; what is there is not computed again. `vit.txt` says whose eyes they are.
"""

import logging
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset
from tqdm import tqdm
from transformers.models.blip_2.modeling_blip_2 import Blip2VisionModel

from loop import autocast, batches, device, stage_arguments
from pixels import changed_images, normalise
from seed_hf.artifacts.fingerprints import weights_fingerprint
from seed_hf.pictograms.scenes import Scene
from world import SEEDS, captions, images, scenes, two_twice, world


NUMBER, EDITS = 200_000, 40_000
BATCH, SHARD = 256, 4096


class Shards:
    """Rows of a folder of shards, read from disk as they are asked for."""

    def __init__(self, folder: Path):
        self.shards = [np.load(path, mmap_mode="r") for path in sorted(folder.glob("*.npy"))]
        if any(len(shard) != SHARD for shard in self.shards[:-1]):
            raise ValueError(f"{folder}: a shard before the last is not whole; make the stage's features again.")

    def __len__(self) -> int:
        return sum(map(len, self.shards))

    def __getitem__(self, row: int) -> np.ndarray:
        return self.shards[row // SHARD][row % SHARD]

    def batch(self, rows: Iterable[int]) -> torch.Tensor:
        return torch.from_numpy(np.stack([self[row] for row in rows]))


class SeenRows(Dataset):
    """What the ViT sees of scenes, with a caption in some wording; `full` of them are the full description."""

    def __init__(self, seen: Shards, stage: str, number: int, full: float):
        self.seen, self.stage, self.number, self.full = seen, stage, number, full
        self.order = two_twice(len(seen))

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, index: int) -> dict:
        row = int(self.order[index % len(self.order)])
        (caption,) = captions(scenes("language", row, 1), self.stage, index, self.full)
        return {"vision_embeddings": torch.from_numpy(self.seen[row].astype(np.float32)), "caption": caption}


def of_edits(start: int, count: int) -> list[Scene]:
    """Scenes before and after in turn; `start` and `count` are even."""
    edits = [world().draw_edit("train", SEEDS["language"], start // 2 + number) for number in range(count // 2)]
    return [scene for edit in edits for scene in (edit.before, edit.after)]


@torch.no_grad()
def see(
    vit: Blip2VisionModel, data: Path, scenes_of: Callable[[int, int], list[Scene]], number: int, folder: Path
) -> None:
    """Write what the ViT sees of `number` scenes `scenes_of(start, count)` into `folder`."""
    size = vit.config.image_size
    folder.mkdir(parents=True, exist_ok=True)
    eyes, own = folder / "vit.txt", weights_fingerprint(vit)
    if not any(folder.glob("*.npy")):
        eyes.write_text(own, encoding="utf-8")
    elif not eyes.exists() or eyes.read_text(encoding="utf-8") != own:
        raise SystemExit(f"{folder} holds what another ViT has seen: move it away.")

    def batch_of(part: int) -> dict[str, torch.Tensor]:
        found = scenes_of(part * BATCH, min(BATCH, number - part * BATCH))
        return {"pixels": images(found, data, size, mirror=np.random.default_rng(part))}

    total, each = -(-number // BATCH), SHARD // BATCH
    for first in tqdm(range(0, total, each), desc=folder.name):
        path = folder / f"{first // each:05d}.npy"
        rows = min(SHARD, number - first * BATCH)
        if path.exists() and len(np.load(path, mmap_mode="r")) >= rows:
            continue  # the last one of a shorter run is not whole
        parts = []
        for part, batch in enumerate(batches(batch_of, first, min(first + each, total)), first):
            torch.manual_seed(part)
            with autocast():
                pixels = normalise(changed_images(batch["pixels"].float() / 255))
                parts.append(vit(pixels).last_hidden_state.half().cpu())
        with open(path.with_suffix(".partial"), "wb") as file:
            np.save(file, torch.cat(parts).numpy())
        os.replace(path.with_suffix(".partial"), path)


def main(argv: list[str] | None = None) -> None:
    arguments = stage_arguments(__doc__, argv, number=NUMBER, edits=EDITS)
    out = arguments.work / "features"
    vit = Blip2VisionModel.from_pretrained(arguments.work / "seeing" / "model").to(device()).eval()
    see(vit, arguments.data, of_edits, 2 * arguments.edits, out / "edits")
    see(vit, arguments.data, lambda start, count: scenes("language", start, count), arguments.number, out / "train")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    main()
