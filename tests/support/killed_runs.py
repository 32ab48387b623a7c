"""Training runs in processes of their own, which tests kill at a moment and start again.

Each stage is there in memory and streamed, stage II also on cached features, the language model also packed. A run
has three passes over its data. It writes a checkpoint after every step, so that a kill can hit any of them.
"""

import io
import json
import multiprocessing
import os
import random
import shutil
import signal
import tarfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file

from language_stage import tiny_language_model
from seed_hf.recipes.language_model_stage import language_model_trainer
from seed_hf.recipes.reading import read_recipe
from seed_hf.recipes.running import run_stage
from tiny import tiny_text_encoder, tiny_text_tokenizer, tiny_tokenizer


PASS = 8  # batches of a pass
STEPS = 3 * PASS
PATIENCE = 600  # seconds; a run takes a few on a quiet machine
CAPTIONS = ["a red apple", "the blue fire engine", "a question", "an answer"]
TRAINER = {
    "max_steps": STEPS,
    "per_device_train_batch_size": 4,
    "logging_steps": 1,
    "warmup_steps": 2,
    "learning_rate": 1e-3,
    "save_steps": 1,
    "save_total_limit": 2,
    "use_cpu": True,
    "disable_tqdm": True,
}
TOKENIZER = {"tokenizer": "tokenizer", "text_tokenizer": "text_tokenizer"}
WITH_TARGET = {**TOKENIZER, "text_encoder": "text_encoder"}
STREAM = {"train": "tars/{0..1}.tar", "streaming": True, "shuffle_buffer": 8, "on_error": "skip", "augment": True}
IN_MEMORY = {"train": "images.parquet", "augment": True}
REMEDIES = {"codebook_init": "kmeans", "revive_dead_codes_every": 3}
LANGUAGE_MODEL = {"language_model": "language_model", "text_tokenizer": "text_tokenizer"}
CODES = {"train": "codes.parquet"}


@dataclass
class Case:
    """A run.

    Args:
        stage: "contrastive", "quantization", "lm" or "instruct".
        model, data: Sections of its recipe.
        trainer: What its recipe says besides `TRAINER`.
        stream: Hand the rows of the language model to the trainer as a shuffled stream, which no recipe does.
    """

    stage: str
    model: dict[str, Any]
    data: dict[str, Any]
    trainer: dict[str, Any] = field(default_factory=dict)
    stream: bool = False

    @property
    def steps(self) -> int:
        return self.trainer.get("max_steps", STEPS)


WORKERS = {"dataloader_num_workers": 2}
CASES = {
    "contrastive": Case("contrastive", TOKENIZER, STREAM),
    "contrastive, two workers": Case("contrastive", TOKENIZER, STREAM, WORKERS),
    "contrastive, workers stay": Case(
        "contrastive", TOKENIZER, STREAM, {**WORKERS, "dataloader_persistent_workers": True}
    ),
    "contrastive, in memory": Case(
        "contrastive", TOKENIZER, {**IN_MEMORY, "validation": "images.parquet"}, {"eval_strategy": "epoch"}
    ),
    "quantization": Case("quantization", WITH_TARGET, STREAM, REMEDIES),
    "quantization, accumulated": Case(
        "quantization", WITH_TARGET, STREAM, {**REMEDIES, "gradient_accumulation_steps": 3, "max_steps": 6}
    ),
    "quantization, in memory": Case("quantization", WITH_TARGET, IN_MEMORY, REMEDIES),
    "quantization, cached": Case(
        "quantization", {"tokenizer": "tokenizer"}, {"features": "features.safetensors"}, REMEDIES
    ),
    "lm": Case("lm", LANGUAGE_MODEL, {**CODES, "pack_length": 96}, {"lora_r": 2}),
    "lm, padded": Case("lm", LANGUAGE_MODEL, {**CODES, "validation": "codes.parquet"}, {"eval_strategy": "epoch"}),
    "lm, all weights": Case(
        "lm", LANGUAGE_MODEL, CODES, {"lora_r": 0, "gradient_accumulation_steps": 3, "max_steps": 9}
    ),
    "instruct, mixed and packed": Case(
        "instruct",
        LANGUAGE_MODEL,
        {
            "train": [{"source": "chats.jsonl", "weight": 2}, {"source": "codes.parquet", "weight": 1}],
            "pack_length": 128,
        },
        {"lora_r": 2},
    ),
    "lm, streamed and packed": Case("lm", LANGUAGE_MODEL, {**CODES, "pack_length": 96}, {"lora_r": 2}, stream=True),
}

_context = multiprocessing.get_context("forkserver")  # see `jobs`: a fork of pytest can leave it waiting
_context.set_forkserver_preload(
    ["seed_hf.recipes.tokenizer_stages", "seed_hf.recipes.language_model_stage", "seed_hf.hub.callback", "peft"]
)


def prepare(folder: Path) -> None:
    """Write the models and data that all runs begin with."""
    tiny_tokenizer().save_pretrained(folder / "tokenizer")
    tiny_text_tokenizer().save_pretrained(folder / "text_tokenizer")
    tiny_text_encoder().save_pretrained(folder / "text_encoder")
    tiny_language_model().save_pretrained(folder / "language_model")
    noise = np.random.default_rng(0)
    images = []
    (folder / "tars").mkdir()
    for shard in range(2):
        with tarfile.open(folder / "tars" / f"{shard}.tar", "w") as tar:
            for row in range(17):
                image = io.BytesIO()
                Image.fromarray(noise.integers(0, 255, (20, 24, 3), np.uint8)).save(image, "PNG")
                content = image.getvalue()[: 60 if row == 5 else None]  # the sixth is cut off
                if row != 5:
                    images.append({"bytes": content, "path": None})
                for suffix, data in (("png", content), ("txt", CAPTIONS[row % 4].encode())):
                    member = tarfile.TarInfo(f"{shard}-{row:03d}.{suffix}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
    rows = len(images)
    pq.write_table(pa.table({"image": images, "caption": CAPTIONS * (rows // 4)}), folder / "images.parquet")
    codes = noise.integers(0, 64, (rows, 32)).tolist()
    pq.write_table(pa.table({"codes": codes, "caption": CAPTIONS * (rows // 4)}), folder / "codes.parquet")
    chats = [
        {"messages": [{"role": "user", "content": word}, {"role": "assistant", "content": f"{word} it is"}]}
        for word in CAPTIONS
    ]
    (folder / "chats.jsonl").write_text("".join(f"{json.dumps(chat)}\n" for chat in chats * 4))
    random_numbers = torch.Generator().manual_seed(0)
    features = {
        "causal_embeddings": torch.randn(rows, 32, 24, generator=random_numbers),
        "target_embeddings": torch.randn(rows, 6, 20, generator=random_numbers),
    }
    save_file(features, folder / "features.safetensors")


def start(folder: Path, name: str, output: str):
    """Start a run, or start it again, in a process of its own."""
    process = _context.Process(target=_run, args=(folder, name, output))
    process.start()
    return process


def finish(process) -> None:
    process.join(PATIENCE)
    assert process.exitcode == 0, "The run hangs." if process.exitcode is None else "The run failed."


def weights(folder: Path, output: str) -> dict[str, torch.Tensor]:
    return load_file(folder / output / "model.safetensors")


def check_kills(folder: Path, name: str, kills: list[tuple[int, float]]) -> int:
    """A run that is killed and started again, once for each kill, has the weights of the unbroken run of that name.

    Args:
        folder: Of [`prepare`].
        name: Of a case. Its unbroken run is made the first time, in a folder of that name.
        kills: The step whose checkpoint is being written when a run is killed, and how many seconds later that is.

    Returns:
        How many runs were killed. The others had ended before.
    """
    if not (folder / name).exists():
        finish(start(folder, name, name))
        begun_with = "language_model" if CASES[name].stage in ("lm", "instruct") else "tokenizer"
        begun, trained = weights(folder, begun_with), weights(folder, name)
        assert any(not torch.equal(begun[key], trained[key]) for key in begun.keys() & trained.keys())
    output, killed = "killed", 0
    shutil.rmtree(folder / output, ignore_errors=True)
    for step, delay in kills:
        process, patience = start(folder, name, output), time.monotonic() + PATIENCE
        while process.is_alive() and not _reached(folder / output, step):
            assert time.monotonic() < patience, "The run hangs."
            time.sleep(0.001)
        time.sleep(delay)
        process.kill()
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL), "The run failed."
        killed += process.exitcode != 0
    finish(start(folder, name, output))
    expected, found = weights(folder, name), weights(folder, output)
    assert expected.keys() == found.keys()
    for key, value in expected.items():
        assert torch.equal(value, found[key]), f"{name}, killed at {kills}: {key}"
    return killed


def kill_in_pass(name: str, number: int, seed: int) -> tuple[int, float]:
    """A step of pass `number` (0, 1 or 2) at which to kill a run, and a delay of about a step or two."""
    draw, length = random.Random(f"{name}/{number}/{seed}"), CASES[name].steps // 3
    return number * length + draw.randint(1, length), draw.uniform(0, 0.04)


def _reached(output: Path, step: int) -> bool:
    numbers = [int(path.name.removeprefix("checkpoint-")) for path in output.glob("checkpoint-*")]
    return max(numbers, default=0) >= step


def _run(folder: Path, name: str, output: str) -> None:
    multiprocessing.set_start_method("fork", force=True)  # of loader processes, as in a user's run: they end with it
    torch.set_num_threads(1)  # with several, the order of sums and so their rounding changes now and then
    os.chdir(folder)
    case = CASES[name]
    recipe = {"model": case.model, "data": case.data, "trainer": {**TRAINER, **case.trainer, "output_dir": output}}
    path = f"{output}.yaml"
    Path(path).write_text(yaml.safe_dump(recipe))
    if not case.stream:
        run_stage(case.stage, path)
        return
    trainer, _ = language_model_trainer(read_recipe(case.stage, path))
    trainer.train_dataset = trainer.train_dataset.to_iterable_dataset(num_shards=2).shuffle(seed=1, buffer_size=8)
    trainer.train(resume_from_checkpoint=True)
    trainer.finished_model().save_pretrained(output)
