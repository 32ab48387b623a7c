"""Memory of `seed-hf tokenize` and of training from a stream, over a growing number of rows.

Synthetic images in Parquet files of 2,500 rows, a very small tokenizer with random weights, one process. Both jobs run
once through all rows; the resident memory is read after every tenth of the time. What matters is whether it keeps
growing: the first tenth fills caches and buffers.
"""

import io
import platform
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from seed_hf.data.jobs.tokenizing import tokenize_images
from seed_hf.data.sources.image_text import image_text_dataset
from seed_hf.data.sources.source import open_source
from seed_hf.modeling.configuration_seed import SeedTokenizerConfig
from seed_hf.modeling.image_processing_seed import SeedImageProcessor
from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer
from seed_hf.training import ImageTextCollator, QuantizationConfig, QuantizationTrainer


ROWS_A_FILE, BATCH = 2500, 50


def measure(*, rows: int = 50_000) -> dict:
    """Resident megabytes of both jobs after each tenth of their time.

    Args:
        rows: Rows that each job runs through.

    Returns:
        A report for JSON: `tokenize` and `training`, ten numbers each.
    """
    torch.set_num_threads(1)
    report = {"machine": platform.processor() or platform.machine(), "rows": rows}
    with tempfile.TemporaryDirectory() as folder:
        write_rows(Path(folder) / "rows", rows)
        report["tokenize"] = watched(lambda: tokenize(Path(folder)))
        report["training"] = watched(lambda: train(Path(folder), rows))
    return report


def table(report: dict) -> str:
    """The figures as lines of text, one for each job.

    Args:
        report: Of `measure`.
    """
    return "\n".join(
        f"{name:<10} MB after each tenth: " + "  ".join(f"{value:.0f}" for value in report[name])
        for name in ("tokenize", "training")
    )


def write_rows(folder: Path, rows: int) -> None:
    folder.mkdir()
    noise = np.random.default_rng(0)
    for start in range(0, rows, ROWS_A_FILE):
        images = []
        for pixels in noise.integers(0, 255, (min(ROWS_A_FILE, rows - start), 40, 40, 3), np.uint8):
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, "PNG")
            images.append({"bytes": file.getvalue(), "path": None})
        table = pa.table({"image": images, "caption": ["an image of noise"] * len(images)})
        pq.write_table(table, folder / f"{start // ROWS_A_FILE:05d}.parquet", row_group_size=500)


def model() -> SeedTokenizer:
    torch.manual_seed(0)
    layers = {"hidden_size": 24, "intermediate_size": 48, "num_attention_heads": 2}
    config = SeedTokenizerConfig(
        vision_config={**layers, "num_hidden_layers": 1, "image_size": 28, "patch_size": 14, "initializer_range": 0.2},
        qformer_config={**layers, "num_hidden_layers": 1},
        reverse_qformer_config={**layers, "num_hidden_layers": 1, "encoder_hidden_size": 24},
        decoder_config={**layers, "num_hidden_layers": 1},
        codebook_size=64,
        code_dim=8,
        num_generation_tokens=4,
        generation_dim=8,
    )
    return SeedTokenizer(config).eval()


def processor() -> SeedImageProcessor:
    return SeedImageProcessor(size={"height": 28, "width": 28})


def watched(job: Callable[[], object]) -> list[float]:
    """Resident megabytes after each tenth of the job's time."""
    found, over = [], threading.Event()

    def read():
        # The first reading before any wait: a job may be over within a tenth of a second.
        found.append(psutil.Process().memory_info().rss / 2**20)
        while not over.wait(0.1):
            found.append(psutil.Process().memory_info().rss / 2**20)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    job()
    over.set()
    thread.join()
    return [found[max(0, len(found) * tenth // 10 - 1)] for tenth in range(1, 11)]


def tokenize(folder: Path) -> object:
    source = open_source(str(folder / "rows"))
    return tokenize_images(source, model(), folder / "codes", image_processor=processor(), workers=0)


def train(folder: Path, rows: int) -> object:
    config = QuantizationConfig(
        output_dir=str(folder / "trainer"),
        max_steps=rows // BATCH,
        per_device_train_batch_size=BATCH,
        logging_steps=100,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
    )
    rows = image_text_dataset(str(folder / "rows")).shuffle(seed=0, buffer_size=1000)
    collator = ImageTextCollator(processor())
    return QuantizationTrainer(model(), config, train_dataset=rows, data_collator=collator).train()
