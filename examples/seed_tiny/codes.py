"""Visual codes of the scenes for the language model, from what the ViT sees of them.

`codes/train.npy` `(scenes, 32)` int16: scene `i` of the stage "language". `codes/edits.npy` `(edits, 2, 32)`: the
scenes before and after edit `i`.
"""

import logging
import os

import numpy as np
import torch

from features import Shards
from loop import device, stage_arguments
from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer


BATCH = 512


@torch.no_grad()
def encode(model: SeedTokenizer, seen: Shards) -> np.ndarray:
    """Codes `(rows, 32)` int16."""
    parts = []
    for shard in seen.shards:
        for start in range(0, len(shard), BATCH):
            part = torch.from_numpy(shard[start : start + BATCH].astype(np.float32)).to(device())
            causal = model.get_causal_embeddings(vision_embeddings=part)
            parts.append(model.encode(causal_embeddings=causal).cpu())
    return torch.cat(parts).numpy().astype(np.int16)


def main(argv: list[str] | None = None) -> None:
    arguments = stage_arguments(__doc__, argv)
    out = arguments.work / "codes"
    if (out / "edits.npy").exists():
        return
    out.mkdir(parents=True, exist_ok=True)
    model = SeedTokenizer.from_pretrained(arguments.work / "quantization" / "model").to(device()).eval()
    train, edits = (encode(model, Shards(arguments.work / "features" / name)) for name in ("train", "edits"))
    for name, found in (("train", train), ("edits", edits.reshape(-1, 2, edits.shape[1]))):
        np.save(out / "partial.npy", found)
        os.replace(out / "partial.npy", out / f"{name}.npy")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    main()
