"""Stage II in which the Q-Former learns along."""

import pytest
import torch
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel

from caption_writer import captioned, writer_for
from seed_hf.data.features.cached import FeatureFile
from seed_hf.modeling.configuration_seed import SeedTokenizerConfig
from stage_two import config, trainer_for
from tiny import tiny_tokenizer


def joint_tokenizer():
    return tiny_tokenizer(contrastive_loss_weight=0.5)


def batch_of(rows):
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


def test_stage_ones_loss_goes_on_with_its_weight():
    batch, model, plain = batch_of(captioned()), joint_tokenizer(), tiny_tokenizer()
    model.freeze_for("quantization", train_qformer=True)
    output = model(**batch, stage="quantization")
    texts = {name: batch[name] for name in ("pixel_values", "input_ids", "attention_mask")}
    torch.testing.assert_close(output.contrastive_loss, model(**texts, stage="contrastive").loss)
    before = plain(**batch, stage="quantization")
    assert before.contrastive_loss is None
    torch.testing.assert_close(output.loss, before.loss + 0.5 * output.contrastive_loss)
    with pytest.raises(ValueError, match="caption"):
        model(pixel_values=batch["pixel_values"], stage="quantization")
    model.freeze_for("quantization")  # what has learned along trains as any other
    assert model(pixel_values=batch["pixel_values"], stage="quantization").contrastive_loss is None


@pytest.mark.parametrize("along", [False, True])
def test_the_qformer_learns_if_it_is_told_to_and_the_vit_never(tmp_path, along):
    model = joint_tokenizer()
    before = {name: value.clone() for name, value in model.named_parameters()}
    args = config(tmp_path, max_steps=3, logging_steps=1, train_qformer=along, caption_loss_weight=1.0)
    trainer = trainer_for(model, args, captioned(), caption_decoder=writer_for(model))
    trainer.train()
    moved = {name.split(".")[0] for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    learned = {"query_tokens", "qformer", "text_embeddings", "vision_projection", "text_projection", "temperature"}
    assert moved & learned == (learned if along else set())
    assert "vision_model" not in moved and {"code_encoder", "quantizer", "generation_decoder"} <= moved
    assert not model.vision_model.training and model.qformer.training == along
    assert all(("contrastive_loss" in line) == along for line in trainer.state.log_history if "loss" in line)


def test_what_codes_should_keep_reaches_the_qformer():
    """Through the codes: of the caption's words alone, by the gradient that the quantizer passes on."""
    model, rows = joint_tokenizer(), captioned()
    model.freeze_for("quantization", train_qformer=True)
    batch = batch_of(rows)
    model(**batch, stage="quantization").reconstructed_embeddings.square().sum().backward()
    assert model.query_tokens.grad.abs().max() > 0
    assert all(parameter.grad is None for parameter in model.vision_model.parameters())


def test_embeddings_do_not_come_to_meet_their_reconstruction():
    """That would end with all images alike."""
    model = joint_tokenizer()
    model.freeze_for("quantization", train_qformer=True)
    output = model(**batch_of(captioned()), stage="quantization")
    through_codes, target = torch.autograd.grad(
        output.reconstruction_loss, (output.reconstructed_embeddings, output.causal_embeddings), retain_graph=True
    )
    assert through_codes.abs().max() > 0
    # What reaches the embeddings has gone through the codes: the same as the gradient of the reconstruction alone.
    alone = torch.autograd.grad(output.reconstructed_embeddings, output.causal_embeddings, through_codes)[0]
    torch.testing.assert_close(target, alone)


def test_a_run_that_would_lose_something_is_refused(tmp_path):
    with pytest.raises(ValueError, match="contrastive_loss_weight"):
        trainer_for(tiny_tokenizer(), config(tmp_path, train_qformer=True))
    with pytest.raises(ValueError, match="text_tower"):
        SeedTokenizerConfig(contrastive_loss_weight=0.5)
    with pytest.raises(ValueError, match="belongs to stage 'quantization'"):
        joint_tokenizer().freeze_for("contrastive", train_qformer=True)
    model = joint_tokenizer()
    trainer = trainer_for(model, config(tmp_path, train_qformer=True), captioned())
    save_file({"causal_embeddings": torch.zeros(2, 32, 24)}, tmp_path / "features.safetensors")
    with pytest.raises(ValueError, match="causal embeddings change"):
        trainer_for(
            model,
            config(tmp_path, train_qformer=True),
            captioned(),
            eval_dataset=FeatureFile(tmp_path / "features.safetensors"),
        )
    batch = batch_of(captioned())
    batch["causal_embeddings"] = model.get_causal_embeddings(batch.pop("pixel_values")).detach()
    with pytest.raises(ValueError, match="causal embeddings change"):
        trainer.compute_loss(model, batch)


def test_two_vocabularies_cannot_read_the_same_ids(tmp_path):
    model = joint_tokenizer()
    words = model.config.qformer_config.vocab_size
    sizes = {"hidden_size": 20, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    other, same = (CLIPTextModel(CLIPTextConfig(vocab_size=size, **sizes)) for size in (words + 1, words))
    with pytest.raises(ValueError, match="cannot read the same input_ids"):
        trainer_for(model, config(tmp_path, train_qformer=True), target_encoder=other)
    trainer_for(model, config(tmp_path, train_qformer=True), target_encoder=same)
    trainer_for(model, config(tmp_path), target_encoder=other)


def test_without_texts_no_loss_of_texts_is_needed(tmp_path):
    model = tiny_tokenizer(text_tower=False)
    before = model.query_tokens.clone()
    trainer_for(model, config(tmp_path, max_steps=2, train_qformer=True)).train()
    assert not torch.equal(model.query_tokens, before)
