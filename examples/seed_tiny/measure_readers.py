"""What a linear reader finds in codes, beside one of the embeddings: the thing and the colour of single things.

`measure_readers.py --data D --model FOLDER` fits a softmax regression on scenes of training and reads test scenes.
"""

import argparse
from pathlib import Path

import torch
from torch.nn import functional as F

from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer
from world import normalised_images, scenes


STEPS, RATE, DECAY = 300, 3e-2, 1e-3


@torch.no_grad()
def features(model: SeedTokenizer, data: Path, found: list) -> dict[str, torch.Tensor]:
    """For each kind, `(scenes, features)`: causal embeddings, and the vectors of their codes, flat."""
    size = model.config.vision_config.image_size
    pixels = normalised_images(found, data, size)
    causal = torch.cat([model.get_causal_embeddings(part) for part in pixels.split(128)])
    vectors = model.quantizer.lookup(model.encode(causal_embeddings=causal))
    return {"embeddings": causal.flatten(1), "codes": vectors.flatten(1)}


def fit(inputs: torch.Tensor, labels: torch.Tensor, classes: int) -> torch.nn.Linear:
    torch.manual_seed(0)
    reader = torch.nn.Linear(inputs.shape[1], classes)
    optimizer = torch.optim.AdamW(reader.parameters(), RATE / inputs.shape[1] ** 0.5, weight_decay=DECAY)
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = RATE / inputs.shape[1] ** 0.5 * (1 - step / STEPS)
        optimizer.zero_grad()
        F.cross_entropy(reader(inputs), labels).backward()
        optimizer.step()
    return reader


def single(name: str, count: int) -> list:
    """The first single things with a colour of a set."""
    found, start = [], 4 * 10**9
    while len(found) < count:
        found += [s for s in scenes("measuring", start, 1000, name) if len(s.items) == 1 and s.items[0].colour]
        start += 1000
    return found[:count]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--train", type=int, default=8000)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--sets", nargs="+", default=["test", "test_colour"])
    arguments = parser.parse_args()
    model = SeedTokenizer.from_pretrained(arguments.model).eval()
    sets = {name: single(name, arguments.count) for name in arguments.sets}
    learned = single("train", arguments.train)
    inputs = {name: features(model, arguments.data, found) for name, found in {"train": learned, **sets}.items()}
    for label in ("thing", "colour"):
        names = sorted({getattr(scene.items[0], label) for scene in learned})
        wanted = {
            name: torch.tensor([names.index(getattr(scene.items[0], label)) for scene in found])
            for name, found in {"train": learned, **sets}.items()
        }
        for kind in ("embeddings", "codes"):
            mean, spread = inputs["train"][kind].mean(0), inputs["train"][kind].std(0) + 1e-6
            reader = fit((inputs["train"][kind] - mean) / spread, wanted["train"], len(names))
            for name in sets:
                read = reader((inputs[name][kind] - mean) / spread).argmax(1)
                print(label, kind, name, f"{(read == wanted[name]).float().mean():.1%}", flush=True)


if __name__ == "__main__":
    main()
