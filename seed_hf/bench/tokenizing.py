"""`seed-hf bench tokenize`: the job over a source of files against the encoding alone.

Both have the same images. The job also reads, decodes and resizes them and writes shards; its workers are processes
beside the one that encodes. It is timed as a whole, with the start of its workers.
"""

import io
import shutil
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from seed_hf.artifacts.bundled import bundled
from seed_hf.data.jobs.tokenizing import tokenize_images
from seed_hf.data.sources.source import open_source
from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer

from .encode import encoding_flops
from .frame import Bench, Way
from .full_size import visual_tokenizer


def measure(
    *,
    size: str = "tiny",
    layers: int | None = None,
    images: int = 512,
    side: int = 256,
    workers: Sequence[int] = (0, 2),
    batch: int = 64,
    device: str | None = None,
    dtype: str | None = None,
    rounds: int = 3,
    threads: int | None = None,
) -> dict:
    """Measure the job.

    Args:
        size: `"tiny"` is seed-tiny; `"full"` the published size, with random weights.
        layers: Blocks of the ViT at full size; all by default.
        images: JPEG files of the source, in one Parquet file.
        side: Of the images, which are noise with a few shapes.
        workers: Numbers of decoding processes, a way each.
        batch: Images encoded at once.
        device, dtype, rounds: Of [`Bench`].
        threads: Of torch.

    Returns:
        A report for JSON.
    """
    bench = Bench("tokenize", device, dtype, rounds, 0.0, threads, size=size, layers=layers, side=side)
    with tempfile.TemporaryDirectory() as folder:
        ways = partial(_ways, bench, size, layers, images, side, workers, batch, Path(folder))
        bench.case(f"{images} images, batch {batch}", ways)
    return bench.report


def _ways(bench, size, layers, images, side, workers, batch, folder) -> dict[str, Way]:
    if size == "full":
        tokenizer = visual_tokenizer(bench.device, bench.dtype, **({"layers": layers} if layers else {}))
    else:
        tokenizer = SeedTokenizer.from_pretrained(bundled("seed-tiny", "tokenizer")).to(bench.device, bench.dtype)
    source = open_source(_file(folder / "images.parquet", images, side))
    own = tokenizer.config.vision_config.image_size
    pixels = torch.randn(batch, 3, own, own, device=bench.device)

    def encode() -> None:
        for first in range(0, images, batch):
            tokenizer.encode(pixels[: images - first])

    def job(workers: int) -> None:
        shutil.rmtree(folder / "codes", ignore_errors=True)
        manifest = tokenize_images(source, tokenizer.eval(), folder / "codes", workers=workers, batch_size=batch)
        assert manifest["complete"]

    flops = images * encoding_flops(tokenizer.config)
    ways = {"encode alone": Way(encode, images, flops)}
    return ways | {f"tokenize, {number} workers": Way(partial(job, number), images, flops) for number in workers}


def _file(path: Path, images: int, side: int) -> Path:
    """A Parquet file of JPEG images that take as long to decode as photographs of that size."""
    draw, encoded = np.random.default_rng(0), []
    for _ in range(min(images, 64)):
        coarse = draw.integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)).astype(int)
        noisy = (smooth + draw.integers(-20, 21, smooth.shape)).clip(0, 255).astype(np.uint8)
        file = io.BytesIO()
        Image.fromarray(noisy).save(file, "JPEG", quality=90)
        encoded.append(file.getvalue())
    rows = [encoded[number % len(encoded)] for number in range(images)]
    pq.write_table(pa.table({"image": rows, "caption": [f"image {number}" for number in range(images)]}), path)
    return path
