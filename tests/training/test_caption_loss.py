"""Stage II with a decoder that writes captions of what the codes hold."""

import pytest
import torch
from torch.nn import functional as F

from caption_writer import captioned, writer_for
from stage_two import config, trainer_for
from tiny import tiny_tokenizer


def test_the_loss_is_the_cross_entropy_of_the_words_that_are_there(tmp_path):
    model = tiny_tokenizer()
    writer, rows = writer_for(model), captioned()
    args = config(tmp_path, caption_loss_weight=0.5)
    trainer = trainer_for(model, args, rows, caption_decoder=writer)
    batch = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
    loss, outputs = trainer.compute_loss(model, batch, return_outputs=True)
    each = []
    for seen, row in zip(outputs.reconstructed_embeddings, rows):
        ids = row["input_ids"][: int(row["attention_mask"].sum())]
        logits = writer(seen[None], ids[None, :-1])[0]
        each += [F.cross_entropy(logits[i], ids[i + 1]) for i in range(len(ids) - 1)]
    torch.testing.assert_close(loss, outputs.loss + 0.5 * torch.stack(each).mean())


def test_the_decoder_stays_and_the_codes_learn_what_it_needs(tmp_path):
    model = tiny_tokenizer()
    writer = writer_for(model)
    before = {name: value.clone() for name, value in writer.state_dict().items()}
    args = config(tmp_path, max_steps=30, logging_steps=10, caption_loss_weight=10.0)
    trainer = trainer_for(model, args, captioned(), caption_decoder=writer)
    trainer.train()
    lines = [line for line in trainer.state.log_history if "loss" in line]
    assert lines[-1]["caption_loss"] < lines[0]["caption_loss"]
    parts = 5 * lines[0]["vq_loss"] + 2 * lines[0]["reconstruction_loss"] + 0.5 * lines[0]["generation_loss"]
    assert lines[0]["loss"] == pytest.approx(parts + 10 * lines[0]["caption_loss"], rel=1e-4)
    assert all(torch.equal(value, before[name]) for name, value in writer.state_dict().items())


def test_weight_and_decoder_belong_together(tmp_path):
    model = tiny_tokenizer()
    with pytest.raises(ValueError, match="caption_decoder"):
        trainer_for(model, config(tmp_path, caption_loss_weight=1.0))
    with pytest.raises(ValueError, match="caption_loss_weight"):
        trainer_for(model, config(tmp_path), caption_decoder=writer_for(model))
    with pytest.raises(ValueError, match="caption_loss_weight must be"):
        config(tmp_path, caption_loss_weight=-1.0)


def test_a_tokenizer_that_reconstructs_nothing_is_refused(tmp_path):
    model = tiny_tokenizer(embedding_decoder=False)
    with pytest.raises(ValueError, match="reconstructs no"):
        trainer_for(model, config(tmp_path, caption_loss_weight=1.0), caption_decoder=writer_for(model))


def test_rows_without_captions_are_named(tmp_path):
    model = tiny_tokenizer()
    trainer = trainer_for(
        model, config(tmp_path, max_steps=1, caption_loss_weight=1.0), caption_decoder=writer_for(model)
    )
    with pytest.raises(ValueError, match="needs captions.*no input_ids and no attention_mask"):
        trainer.train()
