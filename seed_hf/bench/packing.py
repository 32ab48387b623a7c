"""Samples per second of the language-model stage: packed sequences against padded ones.

Every way of making batches trains the same weights with the same trainer on the same rows. One optimizer step of each
is timed in turn, so that other work on the machine slows all of them alike. Making the batches is not timed.
`padded 140` pads every sample to 140 tokens, as the authors do; `padded longest` pads to the longest of its batch.
Wall time and CPU time are both reported; on a busy machine trust the CPU time.

The model has the size of seed-tiny's language model and random weights. Captions come from a Parquet file, or are
random words with the lengths that the pictograms' captions have.
"""

import platform
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F
from transformers import AutoTokenizer

from seed_hf.artifacts.bundled import bundled
from seed_hf.modeling.configuration_seed import SeedConfig
from seed_hf.modeling.modeling_seed_text import SeedForCausalLM
from seed_hf.training import LanguageModelCollator, LanguageModelConfig, LanguageModelTrainer


AUTHORS_LENGTH = 140
# How many of a hundred captions have this many words; of the words below.
CAPTION_WORDS = {1: 2, 2: 26, 3: 32, 4: 17, 5: 11, 6: 4, 7: 3, 8: 2, 9: 1, 10: 1, 11: 1}
WORDS = "a red blue man woman with white black face hand cat dog bird heart sun star house car tree flower".split()


def measure(
    *,
    data: Path | None = None,
    long_share: float = 0.0,
    pack_lengths: Sequence[int] = (128, 180, 192, 224, 256),
    batch_size: int = 64,
    rounds: int = 5,
    threads: int = 2,
) -> dict:
    """All ways side by side.

    Args:
        data: Parquet file with a column `caption`; random words by default.
        long_share: Share of captions that twelve captions in one replace.
        pack_lengths: Lengths of packed sequences, a way each.
        batch_size: Samples of an optimizer step.
        rounds: Timed steps of each way, after one warm-up step.
        threads: Of torch.

    Returns:
        A report for JSON; the ratios of its `ways` are to `padded 140`.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(bundled("seed-tiny", "model"), trust_remote_code=False)
    config = SeedConfig.from_pretrained(bundled("seed-tiny", "model")).text_config
    options = {"max_length": min(pack_lengths)}
    padded = LanguageModelCollator(tokenizer, config, **options)
    packed = {
        f"packed {length}": LanguageModelCollator(tokenizer, config, pack_length=length, **options)
        for length in pack_lengths
    }
    with tempfile.TemporaryDirectory() as folder:
        settings = LanguageModelConfig(output_dir=folder, lora_r=0, use_cpu=True, report_to="none")
        trainer = LanguageModelTrainer(SeedForCausalLM(config), settings, data_collator=padded)
    trainer.create_optimizer()
    seconds: dict[str, list[tuple[float, float]]] = {}
    useful: dict[str, list[float]] = {}
    captions = np.array(read_captions(data))
    for turn in range(rounds + 1):
        rows = draw_rows(batch_size, captions, long_share, config, seed=turn)
        batch = padded(rows)
        batches = {"padded 140": pad_to(batch, AUTHORS_LENGTH), "padded longest": batch}
        batches |= {name: collator(rows) for name, collator in packed.items()}
        for name, inputs in batches.items():
            times = _step(trainer, inputs)
            if turn:
                seconds.setdefault(name, []).append(times)
                useful.setdefault(name, []).append(int(batch["attention_mask"].sum()) / inputs["input_ids"].numel())
    return {
        "batch_size": batch_size,
        "rounds": rounds,
        "threads": threads,
        "captions": "drawn" if data is None else "from a file",
        "long_share": long_share,
        "torch": torch.__version__,
        "machine": platform.machine(),
        "ways": _ways(seconds, useful, batch_size),
    }


def table(report: dict) -> str:
    """The figures as lines of text, one for each way.

    Args:
        report: Of `measure`.
    """
    lines = [f"{'batches':<16}{'samples/s':>11}{'ratio':>8}{'samples/cpu s':>15}{'ratio':>8}{'useful tokens':>15}"]
    for name, way in report["ways"].items():
        lines.append(
            f"{name:<16}{way['samples_per_second']:>11.1f}{way['ratio']:>8.2f}{way['samples_per_cpu_second']:>15.1f}"
            f"{way['cpu_ratio']:>8.2f}{way['useful_tokens']:>15.1%}"
        )
    return "\n".join(lines)


def _step(trainer: LanguageModelTrainer, inputs: dict[str, torch.Tensor]) -> tuple[float, float]:
    """Wall and CPU seconds of one optimizer step."""
    wall, cpu = time.perf_counter(), time.process_time()
    trainer.model.train()
    trainer.compute_loss(trainer.model, inputs).backward()
    torch.nn.utils.clip_grad_norm_(trainer.model.parameters(), trainer.args.max_grad_norm)
    trainer.optimizer.step()
    trainer.optimizer.zero_grad()
    return time.perf_counter() - wall, time.process_time() - cpu


def _ways(seconds: dict[str, list[tuple[float, float]]], useful: dict[str, list[float]], batch_size: int) -> dict:
    base_wall, base_cpu = (statistics.median(column) for column in zip(*seconds["padded 140"]))
    ways = {}
    for name, times in seconds.items():
        wall, cpu = (statistics.median(column) for column in zip(*times))
        ways[name] = {
            "samples_per_second": batch_size / wall,
            "ratio": base_wall / wall,
            "samples_per_cpu_second": batch_size / cpu,
            "cpu_ratio": base_cpu / cpu,
            "useful_tokens": statistics.mean(useful[name]),
        }
    return ways


def read_captions(path: Path | None) -> list[str]:
    """The captions of a Parquet file, or a thousand random ones."""
    if path is not None:
        import pyarrow.parquet as pq

        return pq.read_table(path, columns=["caption"])["caption"].to_pylist()
    draw = random.Random(0)
    counts = draw.choices(list(CAPTION_WORDS), list(CAPTION_WORDS.values()), k=1000)
    return [" ".join(draw.choices(WORDS, k=count)) for count in counts]


def draw_rows(number: int, captions: np.ndarray, long_share: float, config, seed: int) -> list[dict]:
    """Rows of a batch: captions drawn at random, each with random codes."""
    draw = np.random.default_rng(seed)
    counts = np.where(draw.random(number) < long_share, 12, 1)
    codes = draw.integers(config.codebook_size, size=(number, config.num_query_tokens))
    return [
        {"codes": row, "caption": ", ".join(draw.choice(captions, size=count))} for row, count in zip(codes, counts)
    ]


def pad_to(batch: dict[str, torch.Tensor], length: int) -> dict[str, torch.Tensor]:
    """A padded batch with every sequence padded further to `length`.

    Raises:
        ValueError: A sequence is longer.
    """
    old = batch["input_ids"].shape[1]
    if old > length:
        raise ValueError(f"A sample has {old} tokens, more than the authors' {length}: take shorter captions.")
    positions = batch["loss_positions"]
    return {
        "input_ids": F.pad(batch["input_ids"], (0, length - old), value=1),
        "labels": F.pad(batch["labels"], (0, length - old), value=-100),
        "attention_mask": F.pad(batch["attention_mask"], (0, length - old)),
        "loss_positions": positions // old * length + positions % old,
        "loss_kinds": batch["loss_kinds"],
    }
