"""Step 1 of the recipe: what the frozen reference models see and read in the pictograms, computed once.

Writes, for each split, pooled EfficientNet-Lite0 features (`<split>.effnet.npy`, float16, rows x 1280), and for the
training split also its feature maps on their 256 principal directions (`train.maps.npy`, rows x 256 x 7 x 7).
"""

import argparse
import io
import logging
import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image
from tqdm import tqdm

from seed_hf.evaluation.reference_models import EFFICIENTNET_DIM, efficientnet_maps, load_efficientnet


logger = logging.getLogger(__name__)
MAP_DIM = 256
BATCH = 32


def pictures(data: Path, split: str) -> list[bytes]:
    return [row["bytes"] for row in pq.read_table(data / f"{split}.parquet", columns=["image"])["image"].to_pylist()]


def decode(raw: bytes) -> Image.Image:
    return Image.open(io.BytesIO(raw)).convert("RGB")


def principal_directions(model, images: list[bytes]) -> tuple[torch.Tensor, torch.Tensor]:
    """(mean, directions): the 256 leading principal directions of feature vectors of a fixed sample of pictures."""
    picked = images[:: max(1, len(images) // 512)]
    maps = [efficientnet_maps(model, [decode(r) for r in picked[i : i + BATCH]]) for i in range(0, len(picked), BATCH)]
    vectors = torch.cat(maps).permute(0, 2, 3, 1).reshape(-1, EFFICIENTNET_DIM)
    mean = vectors.mean(0)
    _, values, directions = torch.pca_lowrank(vectors - mean, q=MAP_DIM, center=False, niter=4)
    logger.info("the first %d directions keep %.3f of the variance", MAP_DIM,
                (values**2).sum() / ((vectors - mean) ** 2).sum())  # fmt: skip
    return mean, directions


def compute(data: Path, out: Path, split: str, with_maps: bool) -> None:
    target = out / f"{split}.effnet.npy"
    if target.exists():
        return
    torch.manual_seed(0)
    model = load_efficientnet().to("cuda" if torch.cuda.is_available() else "cpu")
    images = pictures(data, split)
    if with_maps:
        mean, directions = principal_directions(model, images)
        maps = np.lib.format.open_memmap(out / "maps.partial.npy", "w+", np.float16, (len(images), MAP_DIM, 7, 7))
    pooled = np.zeros((len(images), EFFICIENTNET_DIM), np.float16)
    for start in tqdm(range(0, len(images), BATCH), desc=split, mininterval=10):
        features = efficientnet_maps(model, [decode(r) for r in images[start : start + BATCH]])
        pooled[start : start + BATCH] = features.mean((2, 3)).cpu().numpy()
        if with_maps:
            flat = torch.einsum("bchw,cd->bdhw", features - mean[:, None, None], directions)
            maps[start : start + BATCH] = flat.cpu().numpy()
    if with_maps:
        maps.flush()
        os.replace(out / "maps.partial.npy", out / f"{split}.maps.npy")
    np.save(out / "pooled.partial.npy", pooled)
    os.replace(out / "pooled.partial.npy", target)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with the pictogram Parquet files")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--splits", nargs="+", default=["validation", "train"])
    arguments = parser.parse_args(argv)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for split in arguments.splits:
        compute(arguments.data, arguments.out, split, with_maps=split == "train")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    main()
