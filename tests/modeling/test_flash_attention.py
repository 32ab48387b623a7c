"""Flash attention where it is declared: the same numbers as sdpa, on a GPU."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch


SUPPORT = Path(__file__).parents[1] / "support"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_flash_attention_is_as_near_to_fp32_as_sdpa():
    """In a process of its own: transformers looks once for the package of the kernel."""
    paths = [SUPPORT, *([] if find_spec("flash_attn") else [SUPPORT / "flash_of_torch"])]
    paths += filter(None, [os.environ.get("PYTHONPATH")])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths))}
    done = subprocess.run(
        [sys.executable, SUPPORT / "flash_child.py"], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    print(done.stdout)
