"""Each stage for a few steps in this process, or in one of several: losses and weights go to a file.

`test_distributed.py` starts it, alone and under torchrun. Real models and trainers, batches of 8 in all.
"""

import os
import sys
from functools import partial
from pathlib import Path

import torch
from datasets import IterableDataset
from safetensors.torch import save_file
from torch import distributed
from torch.distributed.fsdp import fully_shard

import language_stage as language
import stage_one
import stage_two
from seed_hf.training.contrastive import ContrastiveTrainer
from seed_hf.training.gathering import gather_features
from seed_hf.training.instruction import InstructionTrainer
from seed_hf.training.language_model import LanguageModelTrainer
from seed_hf.training.whole_state import whole_state
from stages import stack
from tiny import tiny_tokenizer
from tiny_families import extended_in_memory


DEEPSPEED = "DS_ACCELERATOR" in os.environ  # `test_deepspeed.py` sets it
PROCESSES, RANK = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))


def settings(out: Path) -> dict:
    return {
        "folder": out / "trainer",
        "max_steps": 6,
        "logging_steps": 1,
        "per_device_train_batch_size": 8 // PROCESSES,
        "deepspeed": zero(2) if DEEPSPEED and PROCESSES > 1 else None,
    }


def zero(stage: int) -> dict:
    """A configuration of DeepSpeed."""
    automatic = ("train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "gradient_clipping")
    return {"zero_optimization": {"stage": stage}, **dict.fromkeys(automatic, "auto")}


def trained(trainer) -> dict[str, torch.Tensor]:
    """Weights that the stage trains, and the logged losses and metrics of every step."""
    trainer.train()
    model = trainer.accelerator.unwrap_model(trainer.model)
    found = {name: value.detach().clone() for name, value in model.named_parameters() if value.requires_grad}
    lines = [line for line in trainer.state.log_history if "loss" in line]
    for key in set.intersection(*map(set, lines)):
        if key not in ("epoch", "step", "learning_rate", "tokens_per_second", "samples_per_second", "useful_tokens"):
            found[f"log.{key}"] = torch.tensor([float(line[key]) for line in lines])
    return found


def as_long_as_needed(rows) -> dict[str, torch.Tensor]:
    """A batch whose captions are padded to the longest of them: to other lengths in other processes."""
    batch = stack(rows)
    longest = int(batch["attention_mask"].sum(1).max())
    return {name: value[:, :longest] if value.ndim == 2 else value for name, value in batch.items()}


def run_contrastive(out: Path):
    args = stage_one.config(**settings(out))
    rows = stage_one.rows()
    return trained(ContrastiveTrainer(tiny_tokenizer(), args, train_dataset=rows, data_collator=as_long_as_needed))


def run_streamed_contrastive(out: Path):
    """Three passes over a shuffled stream, whose last rows do not fill a batch; batches have names of rows."""
    rows = stage_one.rows(20)
    stream = IterableDataset.from_generator(lambda parts: (rows[i] for i in parts), gen_kwargs={"parts": [*range(20)]})
    return trained(
        ContrastiveTrainer(
            tiny_tokenizer(),
            stage_one.config(**settings(out)),
            train_dataset=stream.shuffle(seed=1, buffer_size=6),
            data_collator=lambda batch: {**stack(batch), "row_ids": [str(number) for number in range(len(batch))]},
        )
    )


def run_quantization(out: Path):
    remedies = {"codebook_init": "kmeans", "kmeans_batches": 2, "revive_dead_codes_every": 2}
    args = stage_two.config(**settings(out), **({} if DEEPSPEED else remedies))
    return trained(stage_two.trainer_for(tiny_tokenizer(feature_contrast_loss_weight=0.5), args))


def run_contrastive_zero3(out: Path):
    args = stage_one.config(**{**settings(out), "deepspeed": zero(3)})
    return trained(stage_one.trainer_for(tiny_tokenizer(), args))


def run_remedies_zero2(out: Path):
    args = stage_two.config(**settings(out), revive_dead_codes_every=2)
    return trained(stage_two.trainer_for(tiny_tokenizer(), args))


def run_language_model(out: Path, family: str | None = None, **collating):
    args = language.config(**settings(out), lora_dropout=0.0, code_loss_weight=0.3)
    model = language.tiny_language_model(dropout=0.0) if family is None else extended_in_memory(family)
    collator = language.collator(**collating)
    return trained(LanguageModelTrainer(model, args, train_dataset=language.rows(), data_collator=collator))


def run_instruction(out: Path):
    args = language.instruction_config(**settings(out), lora_dropout=0.0)
    model = language.tiny_language_model(dropout=0.0, prompt_format="vicuna")
    collator = language.instruction_collator(pack_length=128)
    return trained(InstructionTrainer(model, args, train_dataset=language.conversations(), data_collator=collator))


def sharded(model, losses_of, out: Path, metrics_of=dict) -> dict[str, torch.Tensor]:
    """Losses, metrics and saved weights of six steps of AdamW; with several processes the model is sharded by FSDP2.

    `transformers.Trainer` passes over FSDP where there is no GPU, so this shards by hand what it would shard.
    """
    if PROCESSES > 1:
        if not distributed.is_initialized():
            distributed.init_process_group("gloo")
        layers = set(type(model)._no_split_modules)
        for module in [m for m in model.modules() if type(m).__name__ in layers]:
            fully_shard(module)
        fully_shard(model)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3, foreach=False)
    losses = []
    for step in range(6):
        loss = losses_of(model, step)
        loss.backward()
        loss = loss.detach()
        if PROCESSES > 1:
            distributed.all_reduce(loss)
        losses.append(loss / PROCESSES)
        optimizer.step()
        optimizer.zero_grad()
    logged = {f"log.{name}": torch.tensor(value) for name, value in metrics_of().items()}
    state = whole_state(model)
    if RANK:
        return {}
    model.save_pretrained(out, state_dict=state)  # as a recipe saves it
    saved = dict(type(model).from_pretrained(out).named_parameters())
    found = {name: saved[name].detach() for name, p in model.named_parameters() if p.requires_grad}
    return {**found, **logged, "log.loss": torch.stack(losses)}


def own_rows(rows, step: int):
    """This process's share of the batch of 8 rows of a step."""
    batch = [rows[(8 * step + i) % len(rows)] for i in range(8)]
    return stack(batch[RANK * 8 // PROCESSES : (RANK + 1) * 8 // PROCESSES])


def run_sharded_tokenizer(out: Path, stage: str, rows):
    model, metrics, gather = tiny_tokenizer(), dict, {}
    model.freeze_for(stage)
    model.train()
    if stage == "contrastive":
        trainer = stage_one.trainer_for(model, stage_one.config(**settings(out)))
        metrics = partial(trainer.window_metrics, trainer.window(model), training=True)
        gather = {"gather_features": gather_features} if PROCESSES > 1 else {}

    def loss(model, step: int) -> torch.Tensor:
        return model(**own_rows(rows, step), stage=stage, **gather).loss

    return sharded(model, loss, out / stage, metrics)


def run_sharded_language_model(out: Path):
    ids = torch.randint(4, 300, (16, 24), generator=torch.Generator().manual_seed(0))
    rows = [{"input_ids": row, "labels": row} for row in ids]
    model = language.tiny_language_model(dropout=0.0)
    return sharded(model, lambda model, step: model(**own_rows(rows, step)).loss, out / "lm")


RUNS = {
    "sharded_contrastive": lambda out: run_sharded_tokenizer(out, "contrastive", stage_one.rows()),
    "sharded_quantization": lambda out: run_sharded_tokenizer(out, "quantization", stage_two.images()),
    "sharded_lm": run_sharded_language_model,
    "contrastive": run_contrastive,
    "streamed_contrastive": run_streamed_contrastive,
    "quantization": run_quantization,
    "lm": run_language_model,
    "instruct": run_instruction,
    "packed_lm": lambda out: run_language_model(out, pack_length=96),
    **{f"lm_{name}": partial(run_language_model, family=name) for name in ("llama", "smollm2", "qwen3")},
}
REFUSED = {"contrastive_zero3": run_contrastive_zero3, "remedies_zero2": run_remedies_zero2}


def main(out: Path, *names: str) -> None:
    for name in names or RUNS:
        found = {**RUNS, **REFUSED}[name](out)
        if not distributed.is_initialized() or distributed.get_rank() == 0:
            save_file({key: value.contiguous() for key, value in found.items()}, out / f"{name}.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
    if distributed.is_initialized():
        distributed.barrier()
    sys.stdout.flush()
    os._exit(0)  # at the end of the program, stopping the threads of pyarrow aborts once in many runs
