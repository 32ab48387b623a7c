"""The instruction stage: packed as padded, what LoRA and full training change, what is logged, exact resume."""

import pytest
import torch

from language_stage import (
    conversations,
    instruction_collator,
    instruction_config,
    text_config,
    tiny_language_model,
)
from seed_hf.data.batches.instruction import InstructionCollator
from seed_hf.modeling.configuration_seed import SeedLlamaConfig
from seed_hf.modeling.modeling_seed_text import SeedLlamaForCausalLM
from seed_hf.training import InstructionConfig, InstructionTrainer, LanguageModelConfig
from seed_hf.training.lora import add_lora
from tiny import tiny_text_tokenizer
from tiny_families import SIZES


LLAMA = {**SIZES, "text_vocab_size": len(tiny_text_tokenizer()), "codebook_size": 64, "code_dim": 8}


def trainer_for(folder, pack_length=None, dropout=0.0, **settings) -> InstructionTrainer:
    model = tiny_language_model(dropout=dropout, prompt_format="vicuna")
    return InstructionTrainer(
        model,
        instruction_config(folder, **settings),
        data_collator=instruction_collator(pack_length=pack_length),
        train_dataset=conversations(),
    )


def test_the_defaults_are_those_of_seed_llamas_tuning(tmp_path):
    args = InstructionConfig(output_dir=str(tmp_path))
    assert (args.learning_rate, args.warmup_steps, args.lr_scheduler_kwargs) == (1e-4, 0.07, {"min_lr_rate": 0.1})
    assert (args.lora_r, args.lora_alpha, args.lora_dropout, args.weight_decay) == (16, 32, 0.05, 0.05)
    assert (args.adam_beta2, args.adam_epsilon, args.max_grad_norm) == (0.95, 1e-5, 1.0)
    with pytest.raises(TypeError, match="takes a InstructionConfig"):
        InstructionTrainer(
            tiny_language_model(), LanguageModelConfig(output_dir=str(tmp_path)), data_collator=instruction_collator()
        )


def test_packed_equals_padded_for_every_token(tmp_path):
    found = []
    for pack_length in (None, 200):
        trainer = trainer_for(tmp_path, pack_length, lora_r=0)
        batch = trainer.data_collator(conversations())
        losses = []
        one = {name: value for name, value in batch.items() if name not in ("loss_positions", "loss_kinds")}
        for start in range(0, len(batch["loss_kinds"]), 16):  # each loss by itself shows where one differs
            part = {name: batch[name][start : start + 16] for name in ("loss_positions", "loss_kinds")}
            losses.append(trainer.compute_loss(trainer.model.eval(), {**one, **part}).detach())
        found.append(torch.stack(losses))
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=1e-5)
    assert found[0].std() > 0


def test_what_lora_and_full_training_change(tmp_path):
    """Both learn; LoRA leaves the rows of words as they were."""
    first = {}
    for name, rank in (("lora", 4), ("full", 0)):
        trainer = trainer_for(tmp_path / name, lora_r=rank, max_steps=8, logging_steps=4)
        before = trainer.accelerator.unwrap_model(trainer.model)
        rows = before.get_input_embeddings()
        words = getattr(rows, "weight", None)
        words = rows.original_module.weight.clone() if words is None else words.detach().clone()
        trainer.train()
        start, end = (line for line in trainer.state.log_history if "loss" in line)
        assert end["answer_loss"] < start["answer_loss"] and end["code_loss"] < start["code_loss"]
        first[name] = start["loss"]
        after = trainer.merge().get_input_embeddings().weight[: text_config().boi_token_id]
        assert torch.equal(after, words[: len(after)]) == (rank > 0), name
    assert first["lora"] != first["full"]


@pytest.mark.parametrize("tied", [False, True])
def test_layers_that_are_trained_whole_beside_lora(tmp_path, tied):
    """As SEED-LLaMA's embedding, output layer and norms; also after a checkpoint was loaded again."""
    settings = {"lora_norms": True, "lora_embeddings": True, "max_steps": 3, "save_strategy": "steps", "save_steps": 2}
    merged = []
    for checkpoint in (None, str(tmp_path / "checkpoint-2")):
        torch.manual_seed(0)
        model = SeedLlamaForCausalLM(SeedLlamaConfig(**LLAMA, prompt_format="vicuna", tie_word_embeddings=tied))
        before = {name: weight.clone() for name, weight in model.state_dict().items()}
        collator = InstructionCollator(tiny_text_tokenizer(), model.config)
        args = instruction_config(tmp_path, **settings)
        trainer = InstructionTrainer(model, args, data_collator=collator, train_dataset=conversations())
        trainer.train(resume_from_checkpoint=checkpoint)
        model = trainer.merge()
        assert (model.lm_head.weight is model.get_input_embeddings().weight) == tied
        merged.append(model.state_dict())
    assert merged[0].keys() == before.keys()
    for name, weight in merged[0].items():
        assert not torch.equal(weight, before[name]), name
        assert torch.equal(weight, merged[1][name]), name
    with pytest.raises(ValueError, match="lora_token_ids is not used"):
        add_lora(model, r=2, alpha=4, dropout=0.0, token_ids=[5], embeddings=True)


@pytest.mark.parametrize("rank", [4, 0])
def test_resume_equals_the_unbroken_run(tmp_path, rank):
    settings = {"dropout": 0.1, "lora_r": rank, "max_steps": 5, "save_strategy": "steps", "save_steps": 2}
    settings["per_device_train_batch_size"] = 6
    unbroken = trainer_for(tmp_path, 128, **settings)
    unbroken.train()
    resumed = trainer_for(tmp_path, 128, **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    expected = unbroken.model.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in resumed.model.state_dict().items())


def test_a_row_that_cannot_be_read_is_named(tmp_path):
    trainer = trainer_for(tmp_path)
    trainer.train_dataset = [*conversations(3), {"messages": conversations(2)[1]["messages"][:1]}]
    with pytest.raises(ValueError, match="row 3 of the training data: messages ends with user"):
        trainer.train()
