"""What transformers' Trainer offers is honoured by our trainers, or refused by name before anything is changed."""

import pytest
import torch
from transformers import TrainerCallback, TrainingArguments
from transformers.trainer_utils import SchedulerType

import language_stage as language
import stage_one
import stage_two
from seed_hf.training.contrastive import ContrastiveConfig, ContrastiveTrainer
from seed_hf.training.language_model import LanguageModelConfig, LanguageModelTrainer
from seed_hf.training.options import ARGUMENTS, ARGUMENTS_OF_TOKENIZERS, PARTS
from seed_hf.training.quantization import QuantizationConfig, QuantizationTrainer
from tiny import tiny_tokenizer


STAGES = {"contrastive": stage_one, "quantization": stage_two, "lm": language}
GIVEN = {
    "push_to_hub": True,
    "label_smoothing_factor": 0.1,
    "include_for_metrics": ["loss"],
    "batch_eval_metrics": True,
    "label_names": ["labels"],
    "use_liger_kernel": True,
    "liger_kernel_config": {"rope": True},
    "auto_find_batch_size": True,
    "average_tokens_across_devices": False,
    "remove_unused_columns": True,
    "length_column_name": "tokens",
    "parallelism_config": object(),
    "neftune_noise_alpha": 5.0,
    "include_num_input_tokens_seen": "all",
    "debug": "underflow_overflow",
    "train_sampling_strategy": "group_by_length",
}


def model_for(stage: str):
    return language.tiny_language_model(dropout=0.0) if stage == "lm" else tiny_tokenizer()


def trainer_for(stage: str, folder, *, parts=None, **arguments):
    arguments = {"max_steps": 3, "logging_steps": 1, **({"lora_dropout": 0.0} if stage == "lm" else {}), **arguments}
    args = STAGES[stage].config(folder, **arguments)
    return STAGES[stage].trainer_for(model_for(stage), args, **(parts or {}))


def losses(trainer) -> list[float]:
    trainer.train()
    return [line["loss"] for line in trainer.state.log_history if "loss" in line]


def test_every_refusal_is_tried_here():
    older = {"group_by_length", "warmup_ratio"}  # names of older versions of transformers
    assert set(GIVEN) - {"train_sampling_strategy"} == {*ARGUMENTS, *ARGUMENTS_OF_TOKENIZERS} - older
    assert set(GIVEN) <= set(TrainingArguments.__dataclass_fields__)


@pytest.mark.parametrize("name", GIVEN)
def test_what_the_stages_would_ignore_is_refused(tmp_path, name):
    for stage, module in STAGES.items():
        if stage == "lm" and name in ARGUMENTS_OF_TOKENIZERS:
            continue
        with pytest.raises(ValueError, match=rf"{name}( must be one of random, sequential|=.* is not supported: )"):
            module.config(tmp_path, **{name: GIVEN[name]})


def test_a_process_trains_on_one_of_several_gpus_and_says_so(tmp_path, monkeypatch, caplog):
    """Trainer would give each a part of a batch, of which packed places and stage I's other images are lost."""
    usual = TrainingArguments.__post_init__

    def with_two_gpus(self):
        usual(self)
        self._n_gpu = 2

    monkeypatch.setattr(TrainingArguments, "__post_init__", with_two_gpus)
    for stage in STAGES.values():
        args = stage.config(tmp_path, per_device_train_batch_size=4)
        assert args.n_gpu == 1 and args.train_batch_size == 4
        assert "There are 2 GPUs, of which this process trains on one. torchrun --nproc_per_node 2" in caplog.text
        caplog.clear()


def test_a_trainer_sends_nothing_to_the_hub(tmp_path):
    trainer = trainer_for("lm", tmp_path)
    with pytest.raises(ValueError, match="seed-hf push OUTPUT_DIR"):
        trainer.push_to_hub()
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("name", PARTS)
def test_parts_that_would_be_ignored_are_refused_before_the_model_is_changed(tmp_path, name):
    for stage in STAGES:
        model = model_for(stage)
        args = STAGES[stage].config(tmp_path)
        with pytest.raises(ValueError, match=f"Trainer does not support {name}: "):
            STAGES[stage].trainer_for(model, args, **{name: lambda *given: None})
        assert all(weight.requires_grad for weight in model.parameters())


def test_a_trainer_has_its_own_configuration(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    classes = {
        ContrastiveTrainer: ContrastiveConfig,
        QuantizationTrainer: QuantizationConfig,
        LanguageModelTrainer: LanguageModelConfig,
    }
    for stage, trainer_class, config_class in zip(STAGES, classes, classes.values()):
        parts = {"data_collator": language.collator()} if stage == "lm" else {}
        trainer = trainer_class(model_for(stage), **parts)
        assert type(trainer.args) is config_class and trainer.args.lr_scheduler_type == "cosine_with_min_lr"
        for other in (TrainingArguments(), *(cls() for cls in classes.values() if cls is not config_class)):
            with pytest.raises(TypeError, match=f"takes a {config_class.__name__}, got {type(other).__name__}"):
                trainer_class(model_for(stage), other, **parts)


def test_the_metric_of_the_best_model_is_one_that_is_measured(tmp_path):
    best = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1,
            "load_best_model_at_end": True}  # fmt: skip
    for stage, wrong in (("contrastive", "accuracy"), ("quantization", "eval_bleu"), ("lm", "perplexity")):
        with pytest.raises(ValueError, match=f"metric_for_best_model must be one of loss, .*; got '{wrong}'"):
            trainer_for(stage, tmp_path, metric_for_best_model=wrong, **best)
    parts = {"eval_dataset": {"one": stage_one.rows(), "two": stage_one.rows()}}
    trainer_for("contrastive", tmp_path, metric_for_best_model="eval_two_loss", parts=parts, **best)
    with pytest.raises(ValueError, match="must be one of one_loss"):
        trainer_for("contrastive", tmp_path, metric_for_best_model="loss", parts=parts, **best)


def test_the_best_model_comes_back_with_lora_too(tmp_path):
    parts = {"eval_dataset": language.rows(), "mix": {"image_to_text": 1.0}}  # nothing is drawn
    trainer = trainer_for(
        "lm", tmp_path, parts=parts, eval_strategy="steps", eval_steps=1, save_strategy="steps", save_steps=1,
        load_best_model_at_end=True, metric_for_best_model="caption_loss", greater_is_better=True,
    )  # fmt: skip
    trainer.train()
    found = [line["eval_caption_loss"] for line in trainer.state.log_history if "eval_caption_loss" in line]
    assert len(set(found)) == 3
    assert trainer.evaluate()["eval_caption_loss"] == pytest.approx(max(found), rel=1e-6)


@pytest.mark.parametrize("schedule", [member.value for member in SchedulerType])
def test_every_schedule_of_the_learning_rate_starts(tmp_path, schedule):
    more = {"eval_strategy": "steps"} if schedule in ("reduce_lr_on_plateau", "greedy") else {}
    if schedule == "warmup_stable_decay":
        with pytest.raises(ValueError, match="do not fit lr_scheduler_type 'warmup_stable_decay': .*num_decay_steps"):
            stage_one.config(tmp_path, lr_scheduler_type=schedule)
        more["lr_scheduler_kwargs"] = {"num_decay_steps": 1}
    args = stage_one.config(tmp_path, lr_scheduler_type=schedule, **more)
    if "lr_scheduler_kwargs" not in more:
        assert (args.lr_scheduler_kwargs or {}) == ({"min_lr_rate": 0.1} if schedule.endswith("min_lr") else {})
    with pytest.raises(ValueError, match="lr_scheduler_kwargs .* do not fit"):
        stage_one.config(tmp_path, lr_scheduler_type="linear", lr_scheduler_kwargs={"min_lr_rate": 0.1})


def test_options_that_work_change_what_they_should(tmp_path):
    plain = losses(trainer_for("lm", tmp_path))
    assert losses(trainer_for("lm", tmp_path)) == plain
    for name, value in (("neftune_noise_alpha", 50.0), ("train_sampling_strategy", "sequential"), ("data_seed", 7)):
        assert losses(trainer_for("lm", tmp_path, **{name: value})) != plain, name
    counted = trainer_for("lm", tmp_path, include_num_input_tokens_seen="non_padding")
    assert losses(counted) == plain and counted.state.num_input_tokens_seen > 0


def test_an_optimizer_holds_what_is_trained(tmp_path):
    model = model_for("lm")
    before_lora = torch.optim.SGD(model.parameters(), lr=1.0)
    args = language.config(tmp_path)
    with pytest.raises(ValueError, match="holds none of the weights that are trained"):
        language.trainer_for(model, args, optimizers=(before_lora, None))
    parts = {"optimizer_cls_and_kwargs": (torch.optim.SGD, {"lr": 1.0})}
    found = losses(trainer_for("lm", tmp_path, parts=parts))
    assert found[-1] != losses(trainer_for("lm", tmp_path))[-1]
    model = model_for("quantization")
    own = torch.optim.SGD(model.parameters(), lr=1e-3)  # frozen weights have no gradient
    stage_two.trainer_for(model, stage_two.config(tmp_path, max_steps=1), optimizers=(own, None)).train()


def test_callbacks_and_processors_are_taken(tmp_path):
    class Seen(TrainerCallback):
        metrics = None

        def on_evaluate(self, args, state, control, metrics, **kwargs):
            self.metrics = metrics

    seen = Seen()
    parts = {"callbacks": [seen], "eval_dataset": stage_one.rows()}
    trainer_for("contrastive", tmp_path, parts=parts, prediction_loss_only=True).evaluate()
    assert "eval_image_to_text_accuracy" in seen.metrics
