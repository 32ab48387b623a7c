"""What the two remedies for an unused codebook change in stage II, on the pictograms.

The same short run of stage II four times, with the same seeds, on the causal embeddings of seed-tiny: as in the paper,
with the k-means start, with unused codes revived, and with both. Then, on the validation images: how many codes are
used, their perplexity, how many different codes an image has, and how well the causal embeddings are reconstructed
(1 - cosine).
"""

import logging
import platform
import tempfile
from pathlib import Path
from typing import Any

import torch

from seed_hf.artifacts.bundled import bundled
from seed_hf.evaluation.metrics.codebook import codebook_use
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


COLUMNS = ("used_codes", "perplexity", "distinct_per_image", "reconstruction_loss")
logger = logging.getLogger(__name__)


def measure(
    data: Path, *, images: int = 3000, steps: int = 150, batch_size: int = 64, learning_rate: float = 1e-3
) -> dict:
    """One run for each of `WAYS`.

    Args:
        data: Folder of the pictograms.
        images: Number of training images, the first of the split.
        steps: Of each run.
        batch_size: Of each run.
        learning_rate: Of each run.

    Returns:
        A report for JSON: `ways`, from the name of a way to its figures.
    """
    seen = SeedTokenizer.from_pretrained(bundled("seed-tiny", "tokenizer")).eval()
    train = causal_embeddings(seen, data, "train", images)
    validation = causal_embeddings(seen, data, "validation", None)
    machine = platform.processor() or platform.machine()
    report: dict[str, Any] = {"machine": machine, "steps": steps, "ways": {}}
    settings: dict[str, Any] = {
        "max_steps": steps,
        "per_device_train_batch_size": batch_size,
        "learning_rate": learning_rate,
    }
    for name, options in WAYS.items():
        logger.info("Training: %s", name)
        report["ways"][name] = run(seen, train, validation, {**settings, **options})
    return report


def table(report: dict) -> str:
    """The figures as lines of text, one for each way.

    Args:
        report: Of `measure`.
    """
    lines = [f"{'':<18}" + "".join(f"{name:>21}" for name in COLUMNS)]
    for name, found in report["ways"].items():
        lines.append(f"{name:<18}" + "".join(f"{found[column]:>21.4g}" for column in COLUMNS))
    return "\n".join(lines)


@torch.no_grad()
def causal_embeddings(model: SeedTokenizer, data: Path, split: str, number: int | None) -> torch.Tensor:
    """Of the first `number` images of a split, `(number, 32, 768)` at full size; `None` for all of them."""
    rows = load_pictograms(data, split)
    processor = SeedImageProcessor.from_pretrained(bundled("seed-tiny", "tokenizer"))
    number = len(rows) if number is None else min(number, len(rows))
    parts = []
    for start in range(0, number, 64):
        images = [rows[i]["image"] for i in range(start, min(start + 64, number))]
        parts.append(model.get_causal_embeddings(processor(images, return_tensors="pt")["pixel_values"]))
    return torch.cat(parts)


def run(seen: SeedTokenizer, train: torch.Tensor, validation: torch.Tensor, settings: dict) -> dict:
    """Stage II with these settings of `QuantizationConfig`, and the figures on the validation embeddings."""
    torch.manual_seed(0)
    model = SeedTokenizer.from_stage_one(seen, feature_loss_weight=0.0)
    with tempfile.TemporaryDirectory() as folder:
        config = QuantizationConfig(
            output_dir=folder,
            warmup_steps=0.05,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=not torch.cuda.is_available(),
            seed=0,
            **settings,
        )
        rows = [{"causal_embeddings": row} for row in train]
        QuantizationTrainer(model, config, train_dataset=rows).train()
    model = model.cpu().eval()
    with torch.no_grad():
        outputs = [model(causal_embeddings=part) for part in validation.split(256)]
        codes = torch.cat([output.codes for output in outputs])
        back = torch.cat([output.reconstructed_embeddings for output in outputs])
    loss = 1 - torch.nn.functional.cosine_similarity(back, validation, -1).mean()
    return {**codebook_use(codes, model.config.codebook_size), "reconstruction_loss": loss.item()}
