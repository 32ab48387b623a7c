"""Tests run offline, seeded and without a GPU."""

import os


os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("SEED_HF_RUN_SNIPPETS", "0")  # seconds for each training; the tests of cards run them

from seed_hf.threads import prepare_threads


prepare_threads()  # for the programs that tests start: their threads must not spin on a busy machine

import pytest
import torch
from transformers import set_seed


@pytest.fixture(autouse=True)
def _seeded():
    set_seed(0)
    torch.set_num_threads(1)
