"""Stage II on images against stage II on cached features: samples a second side by side, and counted FLOPs.

Both sides are `QuantizationTrainer` on the same rows. The online side gets images of the model's size and captions as
input_ids, so that only the networks are compared; the cached side reads what `cache_features` has stored. The sides
take turns, a few steps each, in one process on the CPU.
"""

import io
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel, CLIPVisionConfig, CLIPVisionModelWithProjection, set_seed
from transformers import logging as transformers_logging

from seed_hf.artifacts.bundled import bundled
from seed_hf.data.batches.image_text import ImageTextCollator
from seed_hf.data.features.cached import CachedFeatures
from seed_hf.data.features.caching import cache_features
from seed_hf.data.sources.source import open_source
from seed_hf.modeling.configuration_seed import SeedTokenizerConfig
from seed_hf.modeling.image_processing_seed import SeedImageProcessor
from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer
from seed_hf.threads import available_cores
from seed_hf.training.quantization import QuantizationConfig, QuantizationTrainer

from .encode import seeing_flops
from .limits import flops_of


class Captions:
    """Replaces a text tokenizer: made-up ids, the same number for every caption, so that no vocabulary is needed."""

    pad_token_id = 0

    def __init__(self, vocab_size: int):
        self.vocab_size = vocab_size

    def get_vocab(self) -> dict:
        return {"": self.vocab_size}

    def __call__(self, texts, max_length, **settings):
        ids = torch.stack([torch.arange(max_length) * (len(text) + 1) % self.vocab_size for text in texts])
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def measure(
    *,
    full_width: bool = False,
    blocks: int = 8,
    batch: int = 32,
    full_batch: int = 4,
    rounds: int = 3,
    threads: int = 1,
) -> dict:
    """Measure seed-tiny and count the FLOPs of the full size.

    Args:
        full_width: Also measure the full width, with random weights.
        blocks: Of the ViT at full width, out of 39.
        batch: Batch size of seed-tiny.
        full_batch: Batch size at full width.
        rounds: Timed rounds; two at most at full width.
        threads: Of torch.

    Returns:
        A report for JSON: `seed_tiny`, `full_width_<blocks>_blocks`, `computed_39_blocks`.
    """
    torch.set_num_threads(threads)
    transformers_logging.disable_progress_bar()
    set_seed(0)
    report: dict[str, Any] = {"torch": torch.__version__, "threads": threads, "cores": available_cores()}
    with tempfile.TemporaryDirectory() as folder:
        tiny = SeedTokenizer.from_pretrained(bundled("seed-tiny", "tokenizer"))
        # The text encoder of seed-tiny is not part of the checkpoint; one of the same size replaces it.
        size = {"hidden_size": 192, "intermediate_size": 768, "num_hidden_layers": 4, "num_attention_heads": 6}
        text_encoder = clip_text_encoder(**size, max_position_embeddings=tiny.config.num_generation_tokens)
        report["seed_tiny"] = compare(tiny, text_encoder, batch, 2, rounds, Path(folder))
    if full_width:
        with tempfile.TemporaryDirectory() as folder:
            model = SeedTokenizer(SeedTokenizerConfig(vision_config={"num_hidden_layers": blocks}))
            full = compare(model, clip_text_encoder(), full_batch, 1, min(rounds, 2), Path(folder))
            report[f"full_width_{blocks}_blocks"] = full
    report["computed_39_blocks"] = computed()
    return report


def table(report: dict) -> str:
    """Markdown of what `measure` returns.

    Args:
        report: Of `measure`.
    """
    lines = [
        "| stage II | online, samples/s | cached, samples/s | cached / online | by CPU time |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, result in report.items():
        if isinstance(result, dict) and "ratio" in result:
            online, cached = (f"{result[side]['samples_a_second']:.2f}" for side in ("online", "cached"))
            ratios = f"{result['ratio']:.1f} | {result['cpu_ratio']:.1f}"
            lines.append(f"| {name}, batch {result['batch']} | {online} | {cached} | {ratios} |")
    counted = report["computed_39_blocks"]
    for name in ("ratio_text_target", "ratio_text_and_image_target"):
        lines.append(f"| computed_39_blocks, {name.removeprefix('ratio_')} | | | {counted[name]:.1f} | |")
    return "\n".join(lines)


def compare(tokenizer: SeedTokenizer, text_encoder, batch: int, steps: int, rounds: int, folder: Path) -> dict:
    """Seconds a step of both sides, `rounds` times in turn after a warm-up round."""
    rows = _images(folder / "images.parquet", tokenizer.config.vision_config.image_size, batch * 2)
    words = Captions(text_encoder.config.vocab_size)
    began = time.perf_counter()
    cache_features(open_source(folder / "images.parquet"), tokenizer, folder / "features", text_encoder=text_encoder,
                   text_tokenizer=words, batch_size=batch, workers=0)  # fmt: skip
    caching = (time.perf_counter() - began) / len(rows)
    features = CachedFeatures(folder / "features")
    trainers = _trainers(tokenizer, text_encoder, words, rows, features, batch, folder)
    seconds, cpu_seconds = _timed(trainers, steps, rounds)
    result: dict[str, Any] = {
        "batch": batch,
        "steps_a_round": steps,
        "rounds": rounds,
        "caching_seconds_a_picture": caching,
    }
    for name in trainers:
        result[name] = {
            "seconds_a_step": seconds[name],
            "cpu_seconds_a_step": cpu_seconds[name],
            "samples_a_second": batch / statistics.median(seconds[name]),
        }
    result["ratio"] = result["cached"]["samples_a_second"] / result["online"]["samples_a_second"]
    # CPU time leaves out what other processes take of the machine.
    result["cpu_ratio"] = statistics.median(cpu_seconds["online"]) / statistics.median(cpu_seconds["cached"])
    result["bytes_a_picture"] = sum(shard["bytes"] for shard in features.manifest["shards"]) / len(rows)
    return result


def _trainers(
    tokenizer: SeedTokenizer, text_encoder, words: Captions, rows: list[dict], features, batch: int, folder: Path
) -> dict[str, QuantizationTrainer]:
    processor = SeedImageProcessor.for_tokenizer(tokenizer.config)
    tokens = tokenizer.config.num_generation_tokens
    collator = ImageTextCollator(processor, words, max_text_tokens=tokens, padding="max_length")
    args = QuantizationConfig(output_dir=str(folder), per_device_train_batch_size=batch, max_steps=10**6,
                              use_cpu=True, disable_tqdm=True, save_strategy="no")  # fmt: skip
    return {
        "online": QuantizationTrainer(tokenizer, args, target_encoder=text_encoder, train_dataset=rows,
                                      data_collator=collator),
        "cached": QuantizationTrainer(tokenizer, args, train_dataset=features),
    }  # fmt: skip


def _timed(trainers: dict[str, QuantizationTrainer], steps: int, rounds: int) -> tuple[dict, dict]:
    """Seconds and CPU seconds a step of each side, one number a round; the first round is a warm-up."""
    batches: dict[str, Iterator[dict]] = {}
    for name, trainer in trainers.items():
        trainer.model.train()
        trainer.create_optimizer()
        batches[name] = _endless(trainer)
    seconds: dict[str, list[float]] = {name: [] for name in trainers}
    cpu_seconds: dict[str, list[float]] = {name: [] for name in trainers}
    for number in range(rounds + 1):
        for name, trainer in trainers.items():
            began, cpu_began = time.perf_counter(), time.process_time()
            for _ in range(steps):
                trainer.compute_loss(trainer.model, next(batches[name])).backward()
                trainer.optimizer.step()
                trainer.optimizer.zero_grad()
            if number:
                seconds[name].append((time.perf_counter() - began) / steps)
                cpu_seconds[name].append((time.process_time() - cpu_began) / steps)
    return seconds, cpu_seconds


def computed() -> dict:
    """FLOPs of one image at full size, as PyTorch's FlopCounterMode counts them.

    It counts matrix products, convolutions and attention, with two FLOPs for a multiplication and an addition.
    Element-wise work, the optimizer and memory traffic are left out.
    """
    image, caption = torch.empty(1, 3, 224, 224, device="meta"), torch.ones(1, 77, dtype=torch.long, device="meta")
    with torch.device("meta"):  # counting needs no weights
        seeing = SeedTokenizer(SeedTokenizerConfig()).eval()
        text_encoder = clip_text_encoder()
        image_encoder = CLIPVisionModelWithProjection(
            CLIPVisionConfig(hidden_size=1280, intermediate_size=5120, num_hidden_layers=32, num_attention_heads=16,
                             image_size=224, patch_size=14, projection_dim=1024)
        ).eval()  # fmt: skip
    # The trained part does not run the ViT, so one block will do.
    trained = SeedTokenizer(SeedTokenizerConfig(vision_config={"num_hidden_layers": 1}))
    trained.freeze_for("quantization")
    inputs = {"causal_embeddings": torch.randn(1, 32, 768), "target_embeddings": torch.randn(1, 77, 768)}
    for frozen in (seeing, text_encoder, image_encoder):
        frozen.requires_grad_(False)
    flops = {
        "vit_g": flops_of(lambda: seeing.vision_model(image)),
        "vit_g_and_causal_qformer": seeing_flops(seeing.config),
        "clip_text_target": flops_of(lambda: text_encoder(caption)),
        "clip_vit_h_image_target": flops_of(lambda: image_encoder(image)),
    }
    flops["trained_forward_backward"] = flops_of(lambda: trained(**inputs, stage="quantization").loss.backward())
    training, seen = flops["trained_forward_backward"], flops["vit_g_and_causal_qformer"]
    with_text = seen + flops["clip_text_target"]
    return {
        "flops_a_picture": flops,
        "ratio_text_target": (with_text + training) / training,
        "ratio_text_and_image_target": (with_text + flops["clip_vit_h_image_target"] + training) / training,
        "bytes_a_picture_fp16": {"causal_embeddings_a_view": 32 * 768 * 2, "target_embeddings": 77 * 768 * 2},
    }


def clip_text_encoder(**settings) -> CLIPTextModel:
    """A text encoder with random weights, by default of the size of Stable Diffusion 1's."""
    size = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
    return CLIPTextModel(CLIPTextConfig(**{**size, **settings})).eval()


def _images(path: Path, size: int, count: int) -> list[dict]:
    """Random images of the model's size, as Parquet and as rows."""
    pixels = np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    encoded = []
    for array in pixels:
        file = io.BytesIO()
        Image.fromarray(array).save(file, "PNG", compress_level=1)
        encoded.append(file.getvalue())
    captions = [f"image {number}" for number in range(count)]
    pq.write_table(pa.table({"image": encoded, "caption": captions}), path)
    pixels = pixels.transpose(0, 3, 1, 2)
    return [{"pixels": array, "caption": caption} for array, caption in zip(pixels, captions)]


def _endless(trainer: QuantizationTrainer) -> Iterator[dict]:
    while True:
        for batch in trainer.get_train_dataloader():
            yield trainer._prepare_inputs(batch)
