"""Copies the eight pictures of the demo out of the held-out sets; they were chosen before the model was trained.

Also checks that the demo's new prompts are new: that no training picture has such a caption or description.
"""

import argparse
import json
from pathlib import Path

from seed_hf.demo.see_and_draw import NEW_PROMPTS
from seed_hf.pictograms.reading import load_pictograms
from seed_hf.pictograms.wordings import caption_variants


CHOSEN = [
    ("validation", "noto/emoji:1F352", "What is its main colour?"),
    ("validation", "fxemoji/emoji:1F424", "What kind of animal is it?"),
    ("validation", "fluent-flat/emoji:1F428", "What kind of thing is it?"),
    ("validation", "streamline/emoji:1F682", "Is it a land, water or air vehicle?"),
    ("test_style", "openmoji/emoji:1F34B", "What kind of food is it?"),
    ("test_style", "openmoji/emoji:1F436", "What kind of animal is it?"),
    ("test_concept", "fxemoji/emoji:1F693", "Is it a land, water or air vehicle?"),
    ("test_concept", "streamline/emoji:1F339", "What is its main colour?"),
]
NOVELTY = {
    "validation": "(this picture was never trained on)",
    "test_style": "(a style never trained on)",
    "test_concept": "(a concept never trained on)",
}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args(argv)
    trained = {
        text
        for row in load_pictograms(arguments.data, "train").remove_columns("image")
        for text in caption_variants(row)
    }
    if known := trained & set(NEW_PROMPTS):
        raise ValueError(f"The demo calls these prompts new, but they were trained on: {sorted(known)}.")
    arguments.out.mkdir(parents=True, exist_ok=True)
    found = []
    for split, wanted, question in CHOSEN:
        rows = load_pictograms(arguments.data, split)
        row = rows[rows["id"].index(wanted)]
        name = wanted.replace("/", "_").replace("emoji:", "") + ".png"
        row["image"].save(arguments.out / name, optimize=True)
        kept = {key: row[key] for key in ("id", "caption", "style", "licence")}
        found.append({"file": name, **kept, "split": split, "novelty": NOVELTY[split], "question": question})
    (arguments.out / "pictures.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
