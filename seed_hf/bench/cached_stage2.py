"""Stage II on pictures against stage II on cached features: samples a second, side by side, and FLOPs by counting.

    python seed_hf/bench/cached_stage2.py --out cached_stage2.json                # seed-tiny, and what counting gives
    python seed_hf/bench/cached_stage2.py --full-width --out cached_stage2.json   # also 8 of ViT-g's 39 blocks, random

Both sides are `QuantizationTrainer` on the same rows: online with the picture already at the model's size and the
caption as input_ids, so that only the networks are compared; cached with what `cache_features` stores, read from its
folder. The sides take turns, a few steps each, in one process on the CPU.
"""

import argparse
import io
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    set_seed,
)
from transformers import (
    logging as transformers_logging,
)

from seed_hf.artifacts.bundled import bundled
from seed_hf.data.batches.image_text import ImageTextCollator
from seed_hf.data.features.cached import CachedFeatures
from seed_hf.data.features.caching import cache_features
from seed_hf.data.sources.source import open_source
from seed_hf.modeling.configuration_seed import SeedTokenizerConfig
from seed_hf.modeling.image_processing_seed import SeedImageProcessor
from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer
from seed_hf.training.quantization import QuantizationConfig, QuantizationTrainer


class Captions:
    """Stands for a text tokenizer: random ids, so that no vocabulary is needed; as many for every caption."""

    pad_token_id = 0

    def __init__(self, vocab_size: int):
        self.vocab_size = vocab_size

    def get_vocab(self) -> dict:
        return {"": self.vocab_size}

    def __call__(self, texts, max_length, **settings):
        ids = torch.stack([torch.arange(max_length) * (len(text) + 1) % self.vocab_size for text in texts])
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def compare(tokenizer: SeedTokenizer, text_encoder, batch: int, steps: int, rounds: int, folder: Path) -> dict:
    """Seconds a step of both sides, `rounds` times in turn; the first round warms up and does not count."""
    size = tokenizer.config.vision_config.image_size
    rows = _pictures(folder / "pictures.parquet", size, batch * 2)
    words = Captions(text_encoder.config.vocab_size)
    began = time.perf_counter()
    cache_features(open_source(folder / "pictures.parquet"), tokenizer, folder / "features", text_encoder=text_encoder,
                   text_tokenizer=words, batch_size=batch, workers=0)  # fmt: skip
    caching = (time.perf_counter() - began) / len(rows)
    features = CachedFeatures(folder / "features")
    processor = SeedImageProcessor(size={"height": size, "width": size})
    tokens = tokenizer.config.num_generation_tokens
    collator = ImageTextCollator(processor, words, max_text_tokens=tokens, padding="max_length")
    args = QuantizationConfig(output_dir=str(folder), per_device_train_batch_size=batch, max_steps=10**6,
                              use_cpu=True, disable_tqdm=True, save_strategy="no")  # fmt: skip
    sides = {
        "online": QuantizationTrainer(tokenizer, args, target_encoder=text_encoder, train_dataset=rows,
                                      data_collator=collator),
        "cached": QuantizationTrainer(tokenizer, args, train_dataset=features),
    }  # fmt: skip
    tokenizer.train()
    batches = {}
    for name, trainer in sides.items():
        trainer.create_optimizer()
        batches[name] = _endless(trainer)
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    cpu_seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, trainer in sides.items():
            began, cpu_began = time.perf_counter(), time.process_time()
            for _ in range(steps):
                trainer.compute_loss(tokenizer, next(batches[name])).backward()
                trainer.optimizer.step()
                trainer.optimizer.zero_grad()
            if number:
                seconds[name].append((time.perf_counter() - began) / steps)
                cpu_seconds[name].append((time.process_time() - cpu_began) / steps)
    result: dict[str, Any] = {
        "batch": batch,
        "steps_a_round": steps,
        "rounds": rounds,
        "caching_seconds_a_picture": caching,
    }
    for name in sides:
        result[name] = {
            "seconds_a_step": seconds[name],
            "cpu_seconds_a_step": cpu_seconds[name],
            "samples_a_second": batch / statistics.median(seconds[name]),
        }
    result["ratio"] = result["cached"]["samples_a_second"] / result["online"]["samples_a_second"]
    # What other processes take of the machine does not show in this one.
    result["cpu_ratio"] = statistics.median(cpu_seconds["online"]) / statistics.median(cpu_seconds["cached"])
    result["bytes_a_picture"] = sum(shard["bytes"] for shard in features.manifest["shards"]) / len(rows)
    return result


def computed() -> dict:
    """FLOPs of one picture at full size, as PyTorch's FlopCounterMode counts them: matrix products, convolutions and
    attention, a multiplication and an addition as two. Element-wise work, the optimizer and memory do not count."""
    picture, caption = torch.empty(1, 3, 224, 224, device="meta"), torch.ones(1, 77, dtype=torch.long, device="meta")
    with torch.device("meta"):  # no weights are needed to count
        seeing = SeedTokenizer(SeedTokenizerConfig()).eval()
        text_encoder = clip_text_encoder()
        image_encoder = CLIPVisionModelWithProjection(
            CLIPVisionConfig(hidden_size=1280, intermediate_size=5120, num_hidden_layers=32, num_attention_heads=16,
                             image_size=224, patch_size=14, projection_dim=1024)
        ).eval()  # fmt: skip
    trained = SeedTokenizer(
        SeedTokenizerConfig(vision_config={"num_hidden_layers": 1})
    )  # what follows does not see it
    trained.freeze_for("quantization")
    inputs = {"causal_embeddings": torch.randn(1, 32, 768), "target_embeddings": torch.randn(1, 77, 768)}
    for frozen in (seeing, text_encoder, image_encoder):
        frozen.requires_grad_(False)
    flops = {
        "vit_g": _flops(lambda: seeing.vision_model(picture)),
        "vit_g_and_causal_qformer": _flops(lambda: seeing.get_causal_embeddings(picture)),
        "clip_text_target": _flops(lambda: text_encoder(caption)),
        "clip_vit_h_image_target": _flops(lambda: image_encoder(picture)),
    }
    flops["trained_forward_backward"] = _flops(lambda: trained(**inputs, stage="quantization").loss.backward())
    training, seen = flops["trained_forward_backward"], flops["vit_g_and_causal_qformer"]
    with_text = seen + flops["clip_text_target"]
    return {
        "flops_a_picture": flops,
        "ratio_text_target": (with_text + training) / training,
        "ratio_text_and_image_target": (with_text + flops["clip_vit_h_image_target"] + training) / training,
        "bytes_a_picture_fp16": {"causal_embeddings_a_view": 32 * 768 * 2, "target_embeddings": 77 * 768 * 2},
    }


def clip_text_encoder(**settings) -> CLIPTextModel:
    """Of the size of Stable Diffusion 1's, with random weights."""
    size = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
    return CLIPTextModel(CLIPTextConfig(**{**size, **settings})).eval()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full-width", action="store_true", help="also the full width, with --blocks of the ViT")
    parser.add_argument("--blocks", type=int, default=8, help="of the ViT at full width (default: %(default)s of 39)")
    parser.add_argument("--batch", type=int, default=32, help="of seed-tiny (default: %(default)s)")
    parser.add_argument("--full-batch", type=int, default=4, help="at full width (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="(default: %(default)s)")
    parser.add_argument("--out", type=Path, help="JSON file")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    transformers_logging.disable_progress_bar()
    set_seed(0)
    results = {"torch": torch.__version__, "threads": options.threads, "cores": os.cpu_count()}
    with tempfile.TemporaryDirectory() as folder:
        tiny = SeedTokenizer.from_pretrained(bundled("seed-tiny", "tokenizer"))
        # Its text encoder is not shipped with it: one of the same size stands for it.
        size = {"hidden_size": 192, "intermediate_size": 768, "num_hidden_layers": 4, "num_attention_heads": 6}
        text_encoder = clip_text_encoder(**size, max_position_embeddings=tiny.config.num_generation_tokens)
        results["seed_tiny"] = compare(tiny, text_encoder, options.batch, 2, options.rounds, Path(folder))
    if options.full_width:
        with tempfile.TemporaryDirectory() as folder:
            config = SeedTokenizerConfig(vision_config={"num_hidden_layers": options.blocks})
            model = SeedTokenizer(config)
            full = compare(model, clip_text_encoder(), options.full_batch, 1, min(options.rounds, 2), Path(folder))
            results[f"full_width_{options.blocks}_blocks"] = full
            del model
    results["computed_39_blocks"] = computed()
    if options.out:
        options.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(_table(results))


def _pictures(path: Path, size: int, count: int) -> list[dict]:
    """Random pictures of the model's size, as Parquet and as rows."""
    pixels = np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    encoded = []
    for picture in pixels:
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "PNG", compress_level=1)
        encoded.append(file.getvalue())
    captions = [f"picture {number}" for number in range(count)]
    pq.write_table(pa.table({"image": encoded, "caption": captions}), path)
    pixels = pixels.transpose(0, 3, 1, 2)
    return [{"pixels": picture, "caption": caption} for picture, caption in zip(pixels, captions)]


def _endless(trainer):
    while True:
        for batch in trainer.get_train_dataloader():
            yield trainer._prepare_inputs(batch)


def _flops(run) -> int:
    # The plain kernel of attention is made of matrix products, which are counted on every device.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def _table(results: dict) -> str:
    lines = [
        "| stage II | online, samples/s | cached, samples/s | cached / online | by CPU time |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, result in results.items():
        if isinstance(result, dict) and "ratio" in result:
            online, cached = (f"{result[side]['samples_a_second']:.2f}" for side in ("online", "cached"))
            ratios = f"{result['ratio']:.1f} | {result['cpu_ratio']:.1f}"
            lines.append(f"| {name}, batch {result['batch']} | {online} | {cached} | {ratios} |")
    counted = results["computed_39_blocks"]
    for name in ("ratio_text_target", "ratio_text_and_image_target"):
        lines.append(f"| computed_39_blocks, {name.removeprefix('ratio_')} | | | {counted[name]:.1f} | |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
