"""A loss that is no number ends the run, names the rows that did it, and no checkpoint is written after it."""

import pytest
import torch

from seed_hf.data.batches.image_text import ImageTextCollator
from seed_hf.training.finite_losses import FiniteLosses
from seed_hf.training.quantization import QuantizationConfig, QuantizationTrainer
from seed_hf.training.trainer import last_complete_checkpoint
from tiny import tiny_tokenizer


def rows(number, broken=None, with_ids=True):
    generator = torch.Generator().manual_seed(0)
    found = []
    for i in range(number):
        pixels = torch.randn(3, 28, 28, generator=generator)
        if i == broken:
            pixels[0, 0, 0] = float("nan")
        row = {"causal_embeddings": tiny_tokenizer().get_causal_embeddings(pixels[None])[0].detach()}
        found.append({**row, "id": f"image-{i}"} if with_ids else row)
    return found


def trainer(folder, train_dataset, **overrides):
    settings = {
        "output_dir": str(folder),
        "max_steps": 40,
        "per_device_train_batch_size": 2,
        "save_steps": 1,
        "save_total_limit": 40,
        "train_sampling_strategy": "sequential",
        "use_cpu": True,
        "disable_tqdm": True,
        **overrides,
    }
    args = QuantizationConfig(**settings)
    return QuantizationTrainer(tiny_tokenizer(), args, train_dataset=train_dataset, data_collator=ImageTextCollator())


@pytest.mark.parametrize("with_ids", [True, False])
def test_the_run_ends_and_names_the_rows(tmp_path, with_ids):
    run = trainer(tmp_path, rows(12, broken=7, with_ids=with_ids))
    named = "image-6, image-7" if with_ids else "row 6 of the training data, row 7 of the training data"
    told = f"step 4 is nan; its rows: {named}"
    with pytest.raises(FloatingPointError, match=told):
        run.train()
    assert last_complete_checkpoint(tmp_path).endswith("checkpoint-3")


def test_without_checkpoints_it_ends_all_the_same(tmp_path):
    run = trainer(tmp_path, rows(12, broken=7), save_strategy="no")
    with pytest.raises(FloatingPointError, match="step 4"):
        run.train()
    assert run.state.global_step < 4 + 16


def test_the_last_steps_are_looked_at_too(tmp_path):
    run = trainer(tmp_path, rows(4, broken=3), save_strategy="no", max_steps=2)
    with pytest.raises(FloatingPointError, match="step 2"):
        run.train()


@pytest.mark.parametrize("value", [float("inf"), -float("inf"), float("nan")])
def test_infinities_count(value):
    losses = FiniteLosses(check_every=3)
    losses.add(1, torch.tensor(1e30))
    losses.add(2, torch.tensor(value), ["a", "b"])
    with pytest.raises(FloatingPointError, match="step 2 .* a, b"):
        losses.add(3, torch.tensor(1.0))
    losses.check()  # what was told is not told again
