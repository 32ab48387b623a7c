"""A stage that is killed at any moment and started again ends with the weights of the unbroken run.

Bit for bit, on one thread. Stages I and II read a shuffled stream of damaged and sound images from WebDataset tars,
the language model reads Parquet.
"""

import io
import random
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from language_stage import tiny_language_model
from seed_hf.recipes.running import run_stage
from tiny import tiny_text_encoder, tiny_text_tokenizer, tiny_tokenizer


STEPS = 30
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
STREAM = {"train": "tars/{0..1}.tar", "streaming": True, "shuffle_buffer": 8, "on_error": "skip", "augment": True}
RECIPES = {
    "contrastive": {"model": {"tokenizer": "tokenizer", "text_tokenizer": "text_tokenizer"}, "data": STREAM},
    "quantization": {
        "model": {"tokenizer": "tokenizer", "text_encoder": "text_encoder", "text_tokenizer": "text_tokenizer"},
        "data": STREAM,
    },
    "lm": {
        "model": {"language_model": "language_model", "text_tokenizer": "text_tokenizer"},
        "data": {"train": "codes.parquet", "pack_length": 96},
    },
}
MORE = {"quantization": {"codebook_init": "kmeans", "revive_dead_codes_every": 3}, "lm": {"lora_r": 2}}


@pytest.fixture
def one_thread():
    """With several threads the order of sums, and so their rounding, changes now and then."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def folder(tmp_path, monkeypatch, one_thread):
    monkeypatch.chdir(tmp_path)
    tiny_tokenizer().save_pretrained("tokenizer")
    tiny_text_tokenizer().save_pretrained("text_tokenizer")
    tiny_text_encoder().save_pretrained("text_encoder")
    tiny_language_model().save_pretrained("language_model")
    noise = np.random.default_rng(0)
    Path("tars").mkdir()
    for shard in range(2):
        with tarfile.open(f"tars/{shard}.tar", "w") as tar:
            for row in range(16):
                image = io.BytesIO()
                Image.fromarray(noise.integers(0, 255, (20, 24, 3), np.uint8)).save(image, "PNG")
                content = image.getvalue()[: 60 if row == 5 else None]  # the sixth is cut off
                for suffix, data in (("png", content), ("txt", CAPTIONS[row % 4].encode())):
                    member = tarfile.TarInfo(f"{shard}-{row:03d}.{suffix}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
    codes = noise.integers(0, 64, (24, 32)).tolist()
    pq.write_table(pa.table({"codes": codes, "caption": CAPTIONS * 6}), "codes.parquet")
    return tmp_path


def write(stage: str, output: str) -> str:
    recipe = {**RECIPES[stage], "trainer": {**TRAINER, **MORE.get(stage, {}), "output_dir": output}}
    path = f"{output}.yaml"
    Path(path).write_text(yaml.safe_dump(recipe))
    return path


@pytest.mark.slow
@pytest.mark.parametrize("stage", RECIPES)
def test_killed_and_started_again_is_the_unbroken_run(folder, stage):
    run_stage(stage, write(stage, "whole"))
    kill_at = random.Random(stage).randint(2, STEPS // 2)
    code = (
        "import torch; torch.set_num_threads(1); from seed_hf.recipes.running import run_stage; "
        f"run_stage({stage!r}, {write(stage, 'killed')!r})"
    )
    run = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while run.poll() is None and not Path(f"killed/checkpoint-{kill_at}").exists():
        time.sleep(0.002)
    run.send_signal(signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL, "the run was over before it was killed"
    assert not list(Path("killed").glob("*.safetensors"))  # no result yet
    run_stage(stage, "killed.yaml")
    whole, killed = (load_file(f"{name}/model.safetensors") for name in ("whole", "killed"))
    assert whole.keys() == killed.keys()
    for name, value in whole.items():
        assert torch.equal(value, killed[name]), name
    start = load_file(f"{'language_model' if stage == 'lm' else 'tokenizer'}/model.safetensors")
    assert any(not torch.equal(start[name], whole[name]) for name in start)
