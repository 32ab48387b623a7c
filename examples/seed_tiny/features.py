"""Step 1 of the recipe: what two frozen reference models see and read in the training set, computed once.

`features/effnet.npy`   pooled EfficientNet-Lite0 features of every picture, float16, rows x 1280
`features/maps.npy`     its feature maps on their 256 principal directions, float16, rows x 256 x 7 x 7
`features/minilm.pt`    MiniLM's sentence vectors of every text, float16
"""

import io
import logging
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image
from tqdm import tqdm

from loop import device, stage_arguments
from seed_hf.evaluation.reference_models import (
    EFFICIENTNET_DIM,
    efficientnet_maps,
    load_efficientnet,
    load_minilm,
    minilm_features,
)
from seed_hf.pictograms.reading import load_pictograms
from seed_hf.pictograms.wordings import caption_variants


logger = logging.getLogger(__name__)
MAP_DIM = 256
BATCH = 32


def rows_of(data: Path, split: str = "train") -> list[dict]:
    """The rows of a split without their pictures."""
    return load_pictograms(data, split).remove_columns("image").to_list()


def pictures_of(data: Path, split: str = "train") -> list[bytes]:
    """The picture files of a split."""
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


def see(data: Path, out: Path) -> None:
    """EfficientNet's features of the training pictures."""
    if (out / "effnet.npy").exists():
        return
    torch.manual_seed(0)
    model = load_efficientnet().to(device())
    images = pictures_of(data)
    mean, directions = principal_directions(model, images)
    maps = np.lib.format.open_memmap(out / "maps.partial.npy", "w+", np.float16, (len(images), MAP_DIM, 7, 7))
    pooled = np.zeros((len(images), EFFICIENTNET_DIM), np.float16)
    for start in tqdm(range(0, len(images), BATCH), desc="pictures", mininterval=10):
        features = efficientnet_maps(model, [decode(r) for r in images[start : start + BATCH]])
        pooled[start : start + BATCH] = features.mean((2, 3)).cpu().numpy()
        flat = torch.einsum("bchw,cd->bdhw", features - mean[:, None, None], directions)
        maps[start : start + BATCH] = flat.cpu().numpy()
    maps.flush()
    os.replace(out / "maps.partial.npy", out / "maps.npy")
    np.save(out / "effnet.partial.npy", pooled)
    os.replace(out / "effnet.partial.npy", out / "effnet.npy")


def training_texts(rows: list[dict]) -> tuple[list[str], list[str]]:
    """(captions and keywords, the longer wordings), each sorted and without repetitions."""
    short = {row["caption"].lower() for row in rows} | {word for row in rows for word in row["keywords"]}
    long = {variant for row in rows for variant in caption_variants(row)} - short
    return sorted(short), sorted(long)


def read(data: Path, out: Path) -> None:
    """MiniLM's vectors of the training texts, and of the validation captions, by which a stage measures itself."""
    if (out / "minilm.pt").exists():
        return
    short, long = training_texts(rows_of(data))
    texts = sorted({*short, *long, *(row["caption"].lower() for row in rows_of(data, "validation"))})
    tokenizer, model = load_minilm()
    vectors = minilm_features((tokenizer, model.to(device())), texts).half().cpu()
    torch.save({"texts": texts, "vectors": vectors}, out / "minilm.partial.pt")
    os.replace(out / "minilm.partial.pt", out / "minilm.pt")


def sentence_vectors(work: Path, texts: Sequence[str]) -> torch.Tensor:
    """MiniLM's vectors of these texts, `(texts, 384)`, as this stage computed them."""
    file = work / "features" / "minilm.pt"
    known = torch.load(file, weights_only=True)
    place = {text: row for row, text in enumerate(known["texts"])}
    if missing := [text for text in texts if text not in place]:
        raise ValueError(f"{file} lacks {len(missing)} texts, such as {missing[0]!r}: it is of other data. Remove it.")
    return known["vectors"][[place[text] for text in texts]].float()


def main(argv: list[str] | None = None) -> None:
    arguments = stage_arguments(__doc__, argv)
    out = arguments.work / "features"
    out.mkdir(parents=True, exist_ok=True)
    see(arguments.data, out)
    read(arguments.data, out)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    main()
