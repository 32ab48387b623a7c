"""What the two remedies for an unused codebook change in stage II, on the pictograms.

    python seed_hf/bench/codebook_remedies.py --data data/pictograms --out codebook_remedies.json

The same short run of stage II four times, from the same seeds, on the causal embeddings of seed-tiny: as the paper has
it, with the k-means start, with unused codes revived, and with both. Then the codes of validation pictures: how many
of the codebook are used, their perplexity, how many different ones a picture has, and how well the causal embeddings
come back (1 - cosine).
"""

import argparse
import json
import platform
import tempfile
from pathlib import Path
from typing import Any

import torch

from seed_hf.artifacts.bundled import bundled
from seed_hf.evaluation.codebook import codebook_use
from seed_hf.modeling.image_processing_seed import SeedImageProcessor
from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer
from seed_hf.pictograms.reading import load_pictograms
from seed_hf.training import QuantizationConfig, QuantizationTrainer


WAYS: dict[str, dict[str, Any]] = {
    "as the paper": {},
    "k-means start": {"codebook_init": "kmeans"},
    "revival every 20": {"revive_dead_codes_every": 20},
    "both": {"codebook_init": "kmeans", "revive_dead_codes_every": 20},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the pictogram Parquet files")
    parser.add_argument("--pictures", type=int, default=3000, help="training pictures, the first of the split")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    arguments = parser.parse_args()
    seen = SeedTokenizer.from_pretrained(bundled("seed-tiny", "tokenizer")).eval()
    train, validation = (
        causal_embeddings(seen, arguments.data, split, number)
        for split, number in (("train", arguments.pictures), ("validation", None))
    )
    report: dict[str, Any] = {
        "machine": platform.processor() or platform.machine(),
        "steps": arguments.steps,
        "ways": {},
    }
    columns = ("used_codes", "perplexity", "distinct_per_image", "reconstruction_loss")
    print(f"{'':<18}" + "".join(f"{name:>21}" for name in columns))
    for name, options in WAYS.items():
        found = report["ways"][name] = run(seen, train, validation, arguments, options)
        print(f"{name:<18}" + "".join(f"{found[column]:>21.4g}" for column in columns), flush=True)
    if arguments.out:
        arguments.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


@torch.no_grad()
def causal_embeddings(model: SeedTokenizer, data: Path, split: str, number: int | None) -> torch.Tensor:
    rows = load_pictograms(data, split)
    processor = SeedImageProcessor.from_pretrained(bundled("seed-tiny", "tokenizer"))
    number = len(rows) if number is None else min(number, len(rows))
    parts = []
    for start in range(0, number, 64):
        images = [rows[i]["image"] for i in range(start, min(start + 64, number))]
        parts.append(model.get_causal_embeddings(processor(images, return_tensors="pt")["pixel_values"]))
    return torch.cat(parts)


def run(seen: SeedTokenizer, train: torch.Tensor, validation: torch.Tensor, arguments, options: dict) -> dict:
    torch.manual_seed(0)
    model = SeedTokenizer.from_stage_one(seen, feature_loss_weight=0.0)
    with tempfile.TemporaryDirectory() as folder:
        config = QuantizationConfig(
            output_dir=folder,
            max_steps=arguments.steps,
            per_device_train_batch_size=arguments.batch_size,
            learning_rate=arguments.rate,
            warmup_steps=0.05,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=not torch.cuda.is_available(),
            seed=0,
            **options,
        )
        rows = [{"causal_embeddings": row} for row in train]
        QuantizationTrainer(model, config, train_dataset=rows).train()
    model = model.cpu().eval()
    with torch.no_grad():
        outputs = [model(causal_embeddings=part) for part in validation.split(256)]
        codes = torch.cat([output.codes for output in outputs])
        back = torch.cat([output.reconstructed_embeddings for output in outputs])
    loss = 1 - torch.nn.functional.cosine_similarity(back, validation, -1).mean()
    return {**codebook_use(codes, model.config.codebook_size).to_dict(), "reconstruction_loss": loss.item()}


if __name__ == "__main__":
    main()
