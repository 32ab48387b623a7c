"""The loss of an evaluation is the mean of its rows (or tokens), whatever the batches and wherever rows are from."""

import logging

import pytest
from torch.utils.data import IterableDataset

import language_stage
import stage_one
import stage_two
from tiny import tiny_tokenizer


class Stream(IterableDataset):
    def __init__(self, rows):
        self.rows = rows

    def __iter__(self):
        return iter(self.rows)


def of_tokenizer(stage, folder, rows, batch):
    args = stage.config(folder, per_device_eval_batch_size=batch)
    return stage.trainer_for(tiny_tokenizer(), args, eval_dataset=rows).evaluate()


@pytest.mark.parametrize("batch", [4, 8])
@pytest.mark.parametrize("streamed", [False, True])
def test_a_short_batch_of_stage_two_counts_as_many_rows_as_it_has(streamed, batch, tmp_path):
    rows = stage_two.images(9)
    whole = of_tokenizer(stage_two, tmp_path, rows, 9)
    parts = of_tokenizer(stage_two, tmp_path, Stream(rows) if streamed else rows, batch)
    assert parts["eval_loss"] == pytest.approx(whole["eval_loss"], rel=1e-5)


def test_stage_one_leaves_out_a_short_batch_and_says_so(tmp_path, caplog):
    """One row alone has the loss 0: there is nothing to tell it from."""
    rows = stage_one.rows(9)
    names = ("eval_loss", "eval_image_to_text_accuracy", "eval_text_to_image_accuracy")
    whole = of_tokenizer(stage_one, tmp_path, rows[:8], 4)
    assert [of_tokenizer(stage_one, tmp_path, rows, 4)[name] for name in names] == [whole[name] for name in names]
    with caplog.at_level(logging.INFO, logger="seed_hf.data.batches.stream"):
        streamed = of_tokenizer(stage_one, tmp_path, Stream(rows), 4)
    assert [streamed[name] for name in names] == [whole[name] for name in names]
    assert caplog.messages == ["Evaluation: left out the last 1 rows, which do not fill a batch."]
    assert of_tokenizer(stage_one, tmp_path, Stream(rows[:3]), 4)["eval_loss"] > 0  # all there is


@pytest.mark.parametrize("pack_length", [None, 192])
def test_tokens_of_all_batches_count_the_same(pack_length, tmp_path):
    """Captions have few tokens and images many, so batches of one kind weigh differently."""
    directions = ["image_to_text"] * 8 + ["text_to_image"] * 8
    rows = [{**row, "direction": one} for row, one in zip(language_stage.rows(16), directions)]
    losses = []
    for batch in (16, 8, 3, 1):
        args = language_stage.config(tmp_path, per_device_eval_batch_size=batch, lora_r=0, code_loss_weight=0.5)
        trainer = language_stage.LanguageModelTrainer(
            language_stage.tiny_language_model(),
            args,
            data_collator=language_stage.collator(pack_length=pack_length),
            train_dataset=rows,
            eval_dataset=Stream(rows) if batch == 3 else rows,
        )
        losses.append(trainer.evaluate()["eval_loss"])
    assert losses[1:] == pytest.approx([losses[0]] * 3, rel=1e-5)
