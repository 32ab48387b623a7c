"""How much of what an image shows is in the 32 causal embeddings: what the decoder of the vision stage writes of them.

`measure_vision.py --data D --work W` reads the model of stage I, or of the vision stage as long as there is none.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from pixels import normalise
from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer
from seed_hf.pictograms.scene_texts import full_description
from vision import Seer, describe
from vocabulary import load_vocabulary
from world import images, scenes


SETS = ("test", "test_colour", "test_pair", "test_art", "test_style")


def share(right: list[bool]) -> str:
    return f"{100 * np.mean(right):.1f}" if right else "-"


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--count", type=int, default=300)
    arguments = parser.parse_args()
    work = arguments.work
    tokenizer = load_vocabulary(work)
    seer = Seer(len(tokenizer)).eval()
    stage = "contrastive" if (work / "contrastive" / "model").exists() else "vision"
    seer.model = SeedTokenizer.from_pretrained(work / stage / "model").eval()
    seer.captioner.load_state_dict(torch.load(work / "vision" / "captioner.pt", map_location="cpu", weights_only=True))
    size = seer.model.config.vision_config.image_size
    print(f"of {arguments.count} images each, in percent, from the embeddings of {stage}")
    for name in SETS:
        found = scenes("measuring", 10**9, arguments.count, name)
        pixels = normalise(images(found, arguments.data, size, splits=("train", "test_style")).float() / 255)
        said = describe(seer, tokenizer, seer.model.get_causal_embeddings(pixels))
        pairs = list(zip(found, said))
        alone = [(scene.items[0], text) for scene, text in pairs if scene.layout == "one"]
        figures = {
            "all things": share([all(item.thing in text for item in scene.items) for scene, text in pairs]),
            "a single thing": share([item.thing in text for item, text in alone]),
            "its colour": share([item.colour in text.split() for item, text in alone if item.colour]),
            "the whole description": share([full_description(scene) == text for scene, text in pairs]),
        }
        print(name, figures, flush=True)


if __name__ == "__main__":
    main()
