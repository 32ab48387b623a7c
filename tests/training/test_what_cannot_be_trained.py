"""Models, rows and numbers with which a stage would train nothing, or lose what it trains: refused at once."""

import pytest
import torch
from accelerate.state import AcceleratorState
from accelerate.utils import FullyShardedDataParallelPlugin
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from PIL import Image
from transformers import default_data_collator

import language_stage as language
import stage_one
import stage_two
from seed_hf.data.batches.image_text import ImageTextCollator
from seed_hf.training.contrastive import ContrastiveTrainer
from seed_hf.training.language_model import LanguageModelTrainer
from tiny import tiny_tokenizer
from tiny_diffusion import tiny_model_and_processor


LORA = {"r": 2, "target_modules": ["query", "value"]}
TOKENIZER_STAGES = pytest.mark.parametrize("stage", [stage_one, stage_two], ids=["contrastive", "quantization"])


@TOKENIZER_STAGES
@pytest.mark.parametrize("adapter", ["wrapped", "added"])
def test_a_tokenizer_with_adapters_is_refused_unchanged(tmp_path, stage, adapter):
    """Their weights alone would be saved, whatever else is trained."""
    model = tiny_tokenizer()
    if adapter == "wrapped":
        model = get_peft_model(model, LoraConfig(**LORA))
    else:
        model.add_adapter(LoraConfig(**LORA))
    trained = [name for name, weight in model.named_parameters() if weight.requires_grad]
    with pytest.raises(ValueError, match="has adapters of peft: .* Merge them first"):
        stage.trainer_for(model, stage.config(tmp_path))
    assert trained == [name for name, weight in model.named_parameters() if weight.requires_grad]


@TOKENIZER_STAGES
def test_another_model_is_refused_by_name(tmp_path, stage):
    model, _ = tiny_model_and_processor()
    with pytest.raises(
        TypeError, match="trains a SeedTokenizer, got SeedForConditionalGeneration. Give its visual_token"
    ):
        stage.trainer_for(model, stage.config(tmp_path))


def test_a_language_model_gets_no_second_lora(tmp_path):
    settings = LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
    model = get_peft_model(language.tiny_language_model(dropout=0.0), settings)
    with pytest.raises(ValueError, match="has adapters of peft, and lora_r=4 would add LoRA to them. Set lora_r=0"):
        language.trainer_for(model, language.config(tmp_path))
    trainer = language.trainer_for(model, language.config(tmp_path, lora_r=0, max_steps=2))
    base = model.base_model.model.model.decoder.layers[0].fc1.weight.detach().clone()
    trainer.train()
    assert torch.equal(base, model.base_model.model.model.decoder.layers[0].fc1.weight)
    assert any(weight.abs().max() > 0 for name, weight in model.named_parameters() if "lora_B" in name)


def test_lora_is_not_sharded(tmp_path, monkeypatch):
    """Merging it into parts of weights loses the rows of the vocabulary. Without a GPU accelerate shards nothing."""
    sharding = FullyShardedDataParallelPlugin(fsdp_version=2)
    monkeypatch.setattr(AcceleratorState, "fsdp_plugin", sharding, raising=False)
    with pytest.raises(ValueError, match="LoRA cannot be merged into weights that FSDP"):
        language.trainer_for(language.tiny_language_model(), language.config(tmp_path))
    assert language.trainer_for(language.tiny_language_model(), language.config(tmp_path, lora_r=0)).is_fsdp_enabled


@pytest.mark.parametrize("kind", ["train", "eval"])
def test_nothing_is_compared_in_a_batch_of_one(tmp_path, kind):
    args = stage_one.config(tmp_path, **{f"per_device_{kind}_batch_size": 1})
    with pytest.raises(ValueError, match=f"per_device_{kind}_batch_size=1 leaves nothing to compare an image with"):
        stage_one.trainer_for(tiny_tokenizer(), args, eval_dataset=stage_one.rows())


def test_rows_that_have_to_be_prepared_or_have_no_caption(tmp_path):
    rows = [{"image": Image.new("RGB", (20, 20)), "words": "a red apple"}] * 8
    args = stage_one.config(tmp_path, remove_unused_columns=False)
    for given in (rows, Dataset.from_list(rows), Dataset.from_list(rows).to_iterable_dataset()):
        with pytest.raises(
            ValueError, match="have to be prepared. Give rows with a caption, and data_collator=ImageTextColl"
        ):
            ContrastiveTrainer(tiny_tokenizer(), args, train_dataset=given)
    _, processor = tiny_model_and_processor()
    collator = ImageTextCollator(processor.image_processor, processor.tokenizer)
    trainer = ContrastiveTrainer(tiny_tokenizer(), args, train_dataset=rows, data_collator=collator)
    with pytest.raises(ValueError, match="compares images with captions, and these rows have none"):
        trainer.train()


def test_batches_that_do_not_say_what_is_learned(tmp_path):
    ids = torch.arange(8)
    rows = [{"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}] * 8
    model, args = language.tiny_language_model(), language.config(tmp_path)
    trainer = LanguageModelTrainer(model, args, data_collator=default_data_collator, train_dataset=rows)
    with pytest.raises(ValueError, match="do not say which tokens are learned: take a LanguageModelCollator"):
        trainer.train()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("learning_rate", -1.0),
        ("weight_decay", -0.1),
        ("max_grad_norm", -1.0),
        ("adam_beta1", 2.0),
        ("adam_beta2", 1.0),
        ("adam_epsilon", -1e-8),
        ("seed", -1),
        ("seed", 2**32),
    ],
)
@pytest.mark.parametrize("stage", [stage_one, stage_two, language], ids=["contrastive", "quantization", "lm"])
def test_numbers_that_mean_nothing_are_found_before_anything_is_loaded(tmp_path, stage, name, value):
    with pytest.raises(ValueError, match=f"^{name} must be at least 0"):
        stage.config(tmp_path, **{name: value})


def test_settings_of_lora_without_lora_and_those_that_undo_it(tmp_path):
    with pytest.raises(ValueError, match="lora_alpha, lora_norms: not used, because lora_r=0"):
        language.config(tmp_path, lora_r=0, lora_alpha=64, lora_norms=True)
    for wrong in ({"lora_alpha": 0}, {"lora_dropout": 2.0}):
        with pytest.raises(ValueError, match="lora_alpha must be positive and lora_dropout"):
            language.config(tmp_path, **wrong)


def test_the_seed_fixes_loras_first_weights(tmp_path):
    def first(seed: int) -> torch.Tensor:
        trainer = language.trainer_for(language.tiny_language_model(), language.config(tmp_path, seed=seed))
        return next(weight.detach().clone() for name, weight in trainer.model.named_parameters() if "lora_A" in name)

    torch.manual_seed(3)
    assert torch.equal(first(7), first(7)) and not torch.equal(first(7), first(8))
