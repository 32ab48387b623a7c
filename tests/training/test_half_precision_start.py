"""A start in half precision: trained weights are fp32, frozen ones stay as they are, and nothing small is lost."""

import logging

import pytest
import torch
from safetensors.torch import load_file

import language_stage
import stage_one
import stage_two
from seed_hf.modeling.modeling_seed_text import SeedForCausalLM
from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer
from tiny import tiny_tokenizer
from tiny_language import tiny_seed_model


SMALL = {"learning_rate": 2e-6, "lr_scheduler_type": "constant", "warmup_steps": 0, "max_steps": 4}
WATCHED = {"eval_strategy": "steps", "eval_steps": 2, "watch_images": 2}


def stage(name, folder, dtype=torch.bfloat16):
    if name == "contrastive":
        args = stage_one.config(folder, **SMALL, **WATCHED)
        return stage_one.trainer_for(tiny_tokenizer().to(dtype), args, eval_dataset=stage_one.rows(8))
    if name == "quantization":
        remedies = {"codebook_init": "kmeans", "kmeans_batches": 2, "revive_dead_codes_every": 2}
        args = stage_two.config(folder, **SMALL, **WATCHED, **remedies)
        return stage_two.trainer_for(tiny_tokenizer().to(dtype), args, eval_dataset=stage_two.images(8))
    makers = {
        "full": (language_stage.tiny_language_model, {}, {"lora_r": 0}),
        "whole model": (tiny_seed_model, {}, {"lora_r": 0}),
        "norms": (language_stage.tiny_language_model, {}, {"lora_norms": True}),
        "projection": (language_stage.tiny_language_model, {"visual_embedding": "projected"}, {}),
        "embeddings": (language_stage.tiny_language_model, {"tie_word_embeddings": False}, {"lora_embeddings": True}),
    }
    make, sizes, settings = makers[name]
    args = language_stage.config(folder, **SMALL, **WATCHED, **settings)
    model = make(dropout=0.0, **sizes).to(dtype)
    return language_stage.trainer_for(model, args, eval_dataset=language_stage.rows(4))


def types(model, trained: bool) -> set[torch.dtype]:
    return {weight.dtype for weight in model.parameters() if weight.requires_grad == trained}


@pytest.mark.parametrize("computed", ["no", "bf16"])
@pytest.mark.parametrize(
    "name", ["contrastive", "quantization", "full", "whole model", "norms", "projection", "embeddings"]
)
def test_small_updates_reach_every_trained_weight(name, computed, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", computed)  # as `bf16`, which a CPU without hardware turns off
    trainer = stage(name, tmp_path)
    named = trainer.model.named_parameters()
    start = {key: w.detach().float() for key, w in named if w.requires_grad and w.dtype == torch.bfloat16}
    with caplog.at_level(logging.INFO, logger="seed_hf.training.precision"):
        trainer.train()
    assert len(caplog.messages) == 1 and "trained numbers become float32; in bfloat16" in caplog.text
    trained = {key: w.detach() for key, w in trainer.model.named_parameters() if w.requires_grad}
    assert {w.dtype for w in trained.values()} == {torch.float32}
    moved = sum(int((trained[key] != value).sum()) for key, value in start.items())
    in_half = sum(int((trained[key].bfloat16() != value).sum()) for key, value in start.items())
    assert moved > 1.5 * in_half
    lora = name in ("norms", "projection", "embeddings")
    if lora:
        matrices = {w.dtype for w in trainer.model.parameters() if not w.requires_grad and w.ndim > 1}
        assert matrices == {torch.bfloat16 if computed == "bf16" else torch.float32}
    else:  # the whole model can be used, and is saved as it is
        assert types(trainer.model, trained=False) <= {torch.float32}
    finished = trainer.finished_model()
    kept = torch.bfloat16 if lora and computed == "bf16" else torch.float32
    assert {weight.dtype for weight in finished.parameters()} == {kept}


def test_frozen_weights_keep_their_type_under_autocast(tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    found = []
    for trainer in (stage("contrastive", tmp_path), stage("quantization", tmp_path)):
        trainer.args.save_strategy, trainer.args.save_steps = "steps", 2
        trainer.train()
        weights = load_file(tmp_path / "checkpoint-4" / "model.safetensors")
        found.append({weight.dtype for weight in weights.values()})
        trained = {key for key, weight in trainer.model.named_parameters() if weight.requires_grad}
        assert {weights[key].dtype for key in trained} == {torch.float32}
    assert found == [{torch.float32, torch.bfloat16}] * 2


@pytest.mark.parametrize(("name", "cls"), [("quantization", SeedTokenizer), ("full", SeedForCausalLM)])
def test_what_is_loaded_equals_what_was_trained(name, cls, tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    trainer = stage(name, tmp_path)
    trainer.train()
    trainer.finished_model().save_pretrained(tmp_path / "saved")
    loaded = cls.from_pretrained(tmp_path / "saved").state_dict()
    for key, value in trainer.model.state_dict().items():
        assert torch.equal(loaded[key], value), key


def test_lora_alone_stays_as_peft_has_it(tmp_path, caplog):
    args = language_stage.config(tmp_path, **SMALL)
    trainer = language_stage.trainer_for(language_stage.tiny_language_model(dropout=0.0).bfloat16(), args)
    with caplog.at_level(logging.INFO, logger="seed_hf.training.precision"):
        trainer.train()
    assert types(trainer.model, trained=True) == {torch.float32} and not caplog.messages
    assert types(trainer.model, trained=False) == {torch.bfloat16}
