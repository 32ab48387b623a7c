"""Recipes of every stage, and a working directory with their data."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from tiny import tiny_text_tokenizer, tiny_tokenizer


TRAINER = {
    "max_steps": 3,
    "per_device_train_batch_size": 4,
    "logging_steps": 1,
    "warmup_steps": 0,
    "learning_rate": "1e-3",  # as YAML reads it
    "save_steps": 2,
    "use_cpu": True,
    "disable_tqdm": True,
}
CAPTIONS = ["a red apple", "the blue fire engine", "a question", "an answer"]
OPT = {"hidden_size": 16, "word_embed_proj_dim": 16, "ffn_dim": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
       "max_position_embeddings": 96, "bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}  # fmt: skip


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory with images, codes, texts, a visual tokenizer and a text tokenizer."""
    monkeypatch.chdir(tmp_path)
    images = []
    for i in range(8):
        buffer = io.BytesIO()
        Image.fromarray(np.full((20, 30, 3), 30 * i, np.uint8)).save(buffer, "PNG")
        images.append({"bytes": buffer.getvalue(), "path": None})
    captions = [CAPTIONS[i % 4] for i in range(8)]
    pq.write_table(pa.table({"image": images, "caption": captions, "words": [CAPTIONS] * 8}), "images.parquet")
    questions = [[{"question": "what is shown?", "answer": caption}] for caption in captions]
    codes = [[(i + j) % 64 for j in range(32)] for i in range(8)]
    pq.write_table(pa.table({"codes": codes, "caption": captions, "questions": questions}), "codes.parquet")
    pq.write_table(pa.table({"text": captions}), "texts.parquet")
    tiny_tokenizer().save_pretrained("tokenizer")
    tiny_text_tokenizer().save_pretrained("text_tokenizer")
    return tmp_path


def write(recipe, name="recipe.yaml"):
    with open(name, "w") as file:
        yaml.safe_dump(recipe, file)
    return name


def contrastive(**trainer):
    return {
        "model": {"tokenizer": "tokenizer", "text_tokenizer": "text_tokenizer"},
        "data": {"train": "images.parquet"},
        "trainer": {**TRAINER, "output_dir": "out", **trainer},
    }
