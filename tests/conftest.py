"""Tests run offline, seeded and without a GPU."""

import os


os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
import torch
from transformers import set_seed


@pytest.fixture(autouse=True)
def _seeded():
    set_seed(0)
    torch.set_num_threads(1)
