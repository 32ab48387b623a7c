"""Where a caption should be called a guess (`SURE` in `assemble.py`): what each limit says of whom.

`measure_sureness.py --pictograms D --scenes SCENES --checkpoint C` asks for the likeliest captions of scenes of the
validation set, and of pictograms of things that are not in the world.
"""

import argparse
import io
from pathlib import Path

import pyarrow.parquet as pq
from PIL import Image

from seed_hf.artifacts.known_words import read_known_words
from seed_hf.artifacts.loading import load_model
from seed_hf.inference import encode_images
from seed_hf.texts import likely_texts


BATCH, LIMITS = 32, (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)


def likeliest(model, processor, images: list[Image.Image]) -> list[tuple[str, float]]:
    """The likeliest caption of each image, and how likely it is."""
    found = []
    for start in range(0, len(images), BATCH):
        codes = encode_images(model.visual_tokenizer, processor.image_processor, images[start : start + BATCH])
        rows = likely_texts(model, processor, processor.caption(codes=codes))
        found += [(row[0].text, row[0].probability) for row in rows]
    return found


def rows_of(file: Path, columns: list[str]) -> list[dict]:
    return pq.read_table(file, columns=["image", *columns]).to_pylist()


def image_of(row: dict) -> Image.Image:
    return Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictograms", type=Path, required=True)
    parser.add_argument("--scenes", type=Path, required=True, help="folder of `seed-hf data scenes`")
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--count", type=int, default=250)
    arguments = parser.parse_args()
    model, processor = load_model(arguments.checkpoint / "model", device="cpu")
    known = read_known_words(arguments.checkpoint / "model", "model")
    scenes = rows_of(arguments.scenes / "validation.parquet", ["captions"])[: arguments.count]
    foreign = [
        row
        for row in rows_of(arguments.pictograms / "test_concept.parquet", ["caption"])
        if known.unknown(row["caption"])
    ][: arguments.count]
    said = likeliest(model, processor, [image_of(row) for row in scenes])
    right = [score for (text, score), row in zip(said, scenes) if text in row["captions"]]
    wrong = [score for (text, score), row in zip(said, scenes) if text not in row["captions"]]
    other = [score for _, score in likeliest(model, processor, [image_of(row) for row in foreign])]
    print(f"{len(right)} captions right, {len(wrong)} wrong, {len(other)} images of other things")
    print("| limit | right ones called a guess | wrong ones | of other things |\n| --- | --- | --- | --- |")
    for limit in LIMITS:
        shares = [sum(score < limit for score in group) / max(1, len(group)) for group in (right, wrong, other)]
        print(f"| {limit} | {' | '.join(f'{share:.0%}' for share in shares)} |")


if __name__ == "__main__":
    main()
