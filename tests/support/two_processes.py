"""Runs `train_stages.py` in one process or in two, and compares what they leave."""

import os
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file


SCRIPT = Path(__file__).parent / "train_stages.py"
TWO = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")


def run(out: Path, *launcher: str, stages: tuple[str, ...] = (), **variables: str) -> Path:
    out.mkdir(exist_ok=True)
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(SCRIPT.parent),
        **variables,
    }
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK"):
        environment.pop(name, None)
    done = subprocess.run(
        [sys.executable, *launcher, str(SCRIPT), str(out), *stages],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return out


def assert_same(runs, name: str) -> None:
    one, two = (load_file(folder / f"{name}.safetensors") for folder in runs)
    assert set(one) == set(two) and any(not key.startswith("log.") for key in one)
    assert one["log.loss"][0] != one["log.loss"][-1]
    for key, value in one.items():
        if key.endswith(("key.bias", "k_proj.bias", "qkv.bias")):
            # A bias of the keys adds the same to all scores of a query: its gradient is rounding and nothing else,
            # which Adam makes as large as any other.
            continue
        torch.testing.assert_close(two[key], value, atol=1e-6, rtol=1e-5, msg=lambda text, key=key: f"{key}: {text}")
