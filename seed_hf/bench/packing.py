"""Samples per second of the language-model stage: packed sequences against padded ones.

    python seed_hf/bench/packing.py --out packing.json

Every way of making batches trains the same weights with the same trainer on the same rows; one optimizer step of each
is timed in turn, so that whatever else the machine does falls on all of them. Only the step is timed, not the making
of batches. `padded 140` pads every sample to 140 tokens, as the authors do; `padded longest` to the longest of its
batch. Seconds of the clock and seconds of the processor are both told; the second are the ones to believe on a machine
that has other work.

The model has the size of seed-tiny's language model and random weights. Captions come from a Parquet file with a
column `caption` (--data), or are drawn so that their lengths are those of seed-tiny's training captions.
"""

import argparse
import json
import platform
import random
import statistics
import tempfile
import time
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
# How many of a hundred captions have this many words; each word below is one token.
CAPTION_WORDS = {1: 2, 2: 26, 3: 32, 4: 17, 5: 11, 6: 4, 7: 3, 8: 2, 9: 1, 10: 1, 11: 1}
WORDS = "a red blue man woman with white black face hand cat dog bird heart sun star house car tree flower".split()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="Parquet file with a column `caption`")
    parser.add_argument("--long-share", type=float, default=0.0, help="share of captions replaced by twelve in one")
    parser.add_argument("--pack-lengths", type=int, nargs="+", default=[128, 180, 192, 224, 256])
    parser.add_argument("--batch-size", type=int, default=64, help="samples of an optimizer step")
    parser.add_argument("--rounds", type=int, default=5, help="timed steps of each way, after one that is not timed")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    report = measure(arguments)
    print(f"{'batches':<16}{'samples/s':>11}{'ratio':>8}{'samples/cpu s':>15}{'ratio':>8}{'useful tokens':>15}")
    for name, way in report["ways"].items():
        print(
            f"{name:<16}{way['samples_per_second']:>11.1f}{way['ratio']:>8.2f}{way['samples_per_cpu_second']:>15.1f}"
            f"{way['cpu_ratio']:>8.2f}{way['useful_tokens']:>15.1%}"
        )
    if arguments.out:
        arguments.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def measure(arguments) -> dict:
    """All ways side by side, as a report for JSON. Ratios are to the samples per second of `padded 140`."""
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(bundled("seed-tiny", "model"))
    config = SeedConfig.from_pretrained(bundled("seed-tiny", "model")).text_config
    model = SeedForCausalLM(config)
    options = {"max_length": min(arguments.pack_lengths)}
    padded = LanguageModelCollator(tokenizer, config, **options)
    collators = {
        f"packed {length}": LanguageModelCollator(tokenizer, config, pack_length=length, **options)
        for length in arguments.pack_lengths
    }
    with tempfile.TemporaryDirectory() as folder:
        settings = LanguageModelConfig(output_dir=folder, lora_r=0, use_cpu=True, report_to="none")
        trainer = LanguageModelTrainer(model, settings, data_collator=padded)
    trainer.create_optimizer()
    seconds: dict[str, list[tuple[float, float]]] = {}
    useful: dict[str, list[float]] = {}
    captions = np.array(read_captions(arguments.data))
    for turn in range(arguments.rounds + 1):
        rows = draw_rows(arguments.batch_size, captions, arguments.long_share, config, seed=turn)
        batch = padded(rows)
        batches = {"padded 140": pad_to(batch, AUTHORS_LENGTH), "padded longest": batch}
        batches |= {name: collator(rows) for name, collator in collators.items()}
        for name, inputs in batches.items():
            wall, cpu = time.perf_counter(), time.process_time()
            model.train()
            trainer.compute_loss(model, inputs).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), settings.max_grad_norm)
            trainer.optimizer.step()
            trainer.optimizer.zero_grad()
            if turn:
                spent = time.perf_counter() - wall, time.process_time() - cpu
                seconds.setdefault(name, []).append(spent)
                useful.setdefault(name, []).append(int(batch["attention_mask"].sum()) / inputs["input_ids"].numel())
    ways = {}
    for name, times in seconds.items():
        wall, cpu = (statistics.median(column) for column in zip(*times))
        base_wall, base_cpu = (statistics.median(column) for column in zip(*seconds["padded 140"]))
        ways[name] = {
            "samples_per_second": arguments.batch_size / wall,
            "ratio": base_wall / wall,
            "samples_per_cpu_second": arguments.batch_size / cpu,
            "cpu_ratio": base_cpu / cpu,
            "useful_tokens": statistics.mean(useful[name]),
        }
    return {
        "batch_size": arguments.batch_size,
        "rounds": arguments.rounds,
        "threads": arguments.threads,
        "captions": "from a file" if arguments.data else "drawn",
        "long_share": arguments.long_share,
        "torch": torch.__version__,
        "machine": platform.machine(),
        "ways": ways,
    }


def read_captions(path: Path | None) -> list[str]:
    """The captions of a Parquet file, or a thousand drawn ones."""
    if path is not None:
        import pyarrow.parquet as pq

        return pq.read_table(path, columns=["caption"])["caption"].to_pylist()
    draw = random.Random(0)
    counts = draw.choices(list(CAPTION_WORDS), list(CAPTION_WORDS.values()), k=1000)
    return [" ".join(draw.choices(WORDS, k=count)) for count in counts]


def draw_rows(number: int, captions: np.ndarray, long_share: float, config, seed: int) -> list[dict]:
    """Rows of a batch: drawn captions, each with random codes."""
    draw = np.random.default_rng(seed)
    counts = np.where(draw.random(number) < long_share, 12, 1)
    codes = draw.integers(config.codebook_size, size=(number, config.num_query_tokens))
    return [
        {"codes": row, "caption": ", ".join(draw.choice(captions, size=count))} for row, count in zip(codes, counts)
    ]


def pad_to(batch: dict[str, torch.Tensor], length: int) -> dict[str, torch.Tensor]:
    """A padded batch with every sequence padded further to `length`."""
    old = batch["input_ids"].shape[1]
    positions = batch["loss_positions"]
    return {
        "input_ids": F.pad(batch["input_ids"], (0, length - old), value=1),
        "labels": F.pad(batch["labels"], (0, length - old), value=-100),
        "attention_mask": F.pad(batch["attention_mask"], (0, length - old)),
        "loss_positions": positions // old * length + positions % old,
        "loss_kinds": batch["loss_kinds"],
    }


if __name__ == "__main__":
    main()
