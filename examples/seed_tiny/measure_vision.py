"""How much of what an image shows is in the 32 causal embeddings: what the decoder of the vision stage writes of them.

`measure_vision.py --data D --work W` reads the model of stage I, or of the vision stage as long as there is none; with
`--codes` that of stage II, and the decoder writes of what is reconstructed from the codes.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer
from seed_hf.pictograms.scene_texts import full_description
from vision import Seer, describe
from vocabulary import load_vocabulary
from world import normalised_images, scenes


SETS = ("test", "test_colour", "test_pair", "test_art", "test_style")


def share(right: list[bool]) -> str:
    return f"{100 * np.mean(right):.1f}" if right else "-"


def said_of(description: str) -> str:
    """A description without the style."""
    return description.partition(" drawing of ")[2]


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--codes", action="store_true", help="of embeddings reconstructed from codes")
    arguments = parser.parse_args()
    work = arguments.work
    tokenizer = load_vocabulary(work)
    seer = Seer(len(tokenizer)).eval()
    latest = "contrastive" if (work / "contrastive" / "model").exists() else "vision"
    stage = "quantization" if arguments.codes else latest
    seer.model = SeedTokenizer.from_pretrained(work / stage / "model").eval()
    seer.captioner.load_state_dict(torch.load(work / "vision" / "captioner.pt", map_location="cpu", weights_only=True))
    size = seer.model.config.vision_config.image_size
    kind = "codes" if arguments.codes else "embeddings"
    print(f"of {arguments.count} images each, in percent, from the {kind} of {stage}")
    for name in SETS:
        found = scenes("measuring", 10**9, arguments.count, name)
        pixels = normalised_images(found, arguments.data, size)
        embeddings = seer.model.get_causal_embeddings(pixels)
        if arguments.codes:
            embeddings = seer.model.embed_codes(seer.model.encode(causal_embeddings=embeddings))
        said = describe(seer, tokenizer, embeddings)
        pairs = list(zip(found, said))
        alone = [(scene.items[0], text) for scene, text in pairs if scene.layout == "one"]
        two = [(scene, text) for scene, text in pairs if scene.layout == "two"]
        figures = {
            "all things": share([all(item.thing in text for item in scene.items) for scene, text in pairs]),
            "both of two": share([all(item.thing in text for item in scene.items) for scene, text in two]),
            "two in order, with colours": share(
                [said_of(full_description(scene)) == said_of(text) for scene, text in two]
            ),
            "a single thing": share([item.thing in text for item, text in alone]),
            "its colour": share([item.colour in text.split() for item, text in alone if item.colour]),
            "the whole description": share([full_description(scene) == text for scene, text in pairs]),
        }
        print(name, figures, flush=True)


if __name__ == "__main__":
    main()
