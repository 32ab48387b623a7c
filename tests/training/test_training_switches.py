"""Gradient checkpointing, bf16 and compilation work in every stage, and accelerate takes the configurations that we
ship."""

from pathlib import Path

import pytest
import torch
from accelerate.commands.config.config_args import load_config_from_file

import language_stage as language
import stage_one
import stage_two
from seed_hf.training.language_model import LanguageModelTrainer
from tiny import tiny_tokenizer


ACCELERATE = Path(__file__).parents[2] / "examples" / "accelerate"


def losses(stage: str, folder, **switches) -> list[float]:
    switches = {"max_steps": 3, "logging_steps": 1, **switches}
    if stage == "contrastive":
        trainer = stage_one.trainer_for(tiny_tokenizer(), stage_one.config(folder, **switches))
    elif stage == "quantization":
        trainer = stage_two.trainer_for(tiny_tokenizer(), stage_two.config(folder, **switches))
    else:
        args = language.config(folder, lora_dropout=0.0, **switches)
        model = language.tiny_language_model(dropout=0.0)
        trainer = LanguageModelTrainer(model, args, train_dataset=language.rows(), data_collator=language.collator())
    trainer.train()
    return [line["loss"] for line in trainer.state.log_history if "loss" in line]


@pytest.mark.parametrize("stage", ["contrastive", "quantization", "lm"])
@pytest.mark.parametrize(
    ("switches", "tolerance"),
    [
        ({"gradient_checkpointing": True}, 1e-5),
        # `eager` captures the graphs that inductor would compile, and runs them without its C++ compiler
        ({"torch_compile": True, "torch_compile_backend": "eager"}, 1e-5),
        ({"bf16": True}, 0.05),
    ],
    ids=["gradient checkpointing", "compiled", "bf16"],
)
def test_switches_do_not_change_what_is_learned(tmp_path, stage, switches, tolerance):
    plain = losses(stage, tmp_path / "plain")
    switched = losses(stage, tmp_path / "switched", **switches)
    torch.testing.assert_close(torch.tensor(switched), torch.tensor(plain), atol=tolerance, rtol=tolerance)
    assert plain[0] != plain[-1]


@pytest.mark.parametrize("path", sorted(ACCELERATE.glob("*.yaml")), ids=lambda path: path.stem)
def test_accelerate_takes_our_configurations(path):
    config = load_config_from_file(str(path))
    assert config.mixed_precision == "bf16" and not config.use_cpu
    if config.distributed_type == "FSDP":  # the blocks are those that the model names, of whatever family
        assert "fsdp_transformer_layer_cls_to_wrap" not in config.fsdp_config


def test_there_is_a_configuration_for_each_case():
    names = {path.stem for path in ACCELERATE.glob("*.yaml")}
    assert names == {"one_gpu", "several_gpus", "several_nodes", "fsdp2", "deepspeed_zero2", "deepspeed_zero3"}
