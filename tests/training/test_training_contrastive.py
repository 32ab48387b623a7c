"""Stage I: what is trained and what is frozen, what is logged, and that a resumed run equals the unbroken one."""

import logging

import pytest
import torch
from transformers import TrainerCallback

from seed_hf.data.batches.augmentation import random_crop_flip
from seed_hf.data.batches.image_text import ImageTextCollator
from seed_hf.modeling.image_processing_seed import SeedImageProcessor
from seed_hf.training.contrastive import ContrastiveConfig, ContrastiveTrainer, retrieval_hits
from seed_hf.training.trainer import last_complete_checkpoint
from stage_one import CAPTIONS, config, rows, trainer_for
from stages import stack
from tiny import tiny_text_tokenizer, tiny_tokenizer
from tiny_language import picture, tiny_processor


def test_defaults_are_the_published_values(tmp_path):
    args = ContrastiveConfig(output_dir=str(tmp_path))
    assert (args.learning_rate, args.warmup_steps, args.weight_decay, args.num_train_epochs) == (3e-5, 2000, 0.05, 10)
    assert (args.adam_beta1, args.adam_beta2, args.seed, args.per_device_train_batch_size) == (0.9, 0.999, 42, 64)
    assert args.lr_scheduler_kwargs["min_lr_rate"] * args.learning_rate == pytest.approx(3e-6)
    assert not args.remove_unused_columns


def test_loss_falls_and_metrics_are_logged(tmp_path):
    trainer = trainer_for(tiny_tokenizer(), config(tmp_path, max_steps=60, logging_steps=10))
    trainer.train()
    lines = [line for line in trainer.state.log_history if "loss" in line]
    assert lines[-1]["loss"] < 0.8 * lines[0]["loss"]
    for line in lines:
        assert 0 <= line["image_to_text_accuracy"] <= 1 and 0 <= line["text_to_image_accuracy"] <= 1
    assert lines[-1]["image_to_text_accuracy"] > 0.9 > lines[0]["image_to_text_accuracy"]
    assert lines[-1]["temperature"] == pytest.approx(trainer.model.temperature.item())
    assert lines[-1]["temperature"] != pytest.approx(0.07)
    assert all(line["samples_per_second"] > 0 for line in lines)


def test_only_what_stage_one_trains_changes(tmp_path):
    model = tiny_tokenizer()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trainer_for(model, config(tmp_path)).train()
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    trained = ("qformer.", "query_tokens", "text_embeddings.", "vision_projection", "text_projection", "temperature")
    assert changed and all(name.startswith((*trained, "vision_model.post_layernorm")) for name in changed)
    for name in ("query_tokens", "temperature", "vision_model.post_layernorm.weight", "vision_projection.weight"):
        assert name in changed


def test_frozen_modules_are_in_eval_mode_inside_a_training_step(tmp_path):
    model, modes = tiny_tokenizer(), []
    trainer = trainer_for(model, config(tmp_path, max_steps=2))
    model.vision_model.register_forward_hook(lambda m, i, o: modes.append((m.training, model.qformer.training)))
    trainer.train()
    assert modes == [(False, True)] * 2


def test_no_weight_decay_on_vectors_biases_and_norms(tmp_path):
    trainer = trainer_for(tiny_tokenizer(), config(tmp_path))
    decayed, plain = trainer.create_optimizer().param_groups
    assert decayed["weight_decay"] == 0.05 and plain["weight_decay"] == 0.0
    assert {p.ndim >= 2 for p in decayed["params"]} == {True} and {p.ndim < 2 for p in plain["params"]} == {True}
    both = [*decayed["params"], *plain["params"]]
    assert {id(p) for p in both} == {id(p) for p in trainer.model.parameters() if p.requires_grad}
    assert any(p is trainer.model.temperature for p in plain["params"])


def test_resume_equals_the_unbroken_run(tmp_path):
    settings = {"max_steps": 7, "save_strategy": "steps", "save_steps": 3}
    unbroken, resumed = tiny_tokenizer(), tiny_tokenizer(seed=5)  # other weights: all must come from the checkpoint
    for model in (unbroken, resumed):
        model.qformer.dropout.p = 0.1  # so that the random state matters too
    trainer_for(unbroken, config(tmp_path, **settings)).train()
    trainer_for(resumed, config(tmp_path, **settings)).train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    for name, value in unbroken.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


class Steps(TrainerCallback):
    """Remembers the numbers of the steps that a run takes."""

    def __init__(self):
        self.seen = []

    def on_step_end(self, args, state, control, **kwargs):
        self.seen.append(state.global_step)


def test_resume_leaves_an_unfinished_checkpoint_aside(tmp_path, caplog):
    trainer_for(tiny_tokenizer(), config(tmp_path, max_steps=4, save_strategy="steps", save_steps=2)).train()
    assert last_complete_checkpoint(tmp_path) == str(tmp_path / "checkpoint-4")
    (tmp_path / "checkpoint-4" / "trainer_state.json").write_text('{"epoch":')
    (tmp_path / "checkpoint-9").mkdir()
    assert last_complete_checkpoint(tmp_path) == str(tmp_path / "checkpoint-2")
    trainer, steps = trainer_for(tiny_tokenizer(), config(tmp_path, max_steps=4)), Steps()
    trainer.add_callback(steps)
    with caplog.at_level(logging.WARNING, logger="seed_hf.training.trainer"):
        trainer.train(resume_from_checkpoint=True)
    assert steps.seen == [3, 4] and "checkpoint-9 is not complete" in caplog.text
    assert last_complete_checkpoint(tmp_path / "checkpoint-9") is None


def test_gradient_accumulation_divides_the_loss(tmp_path):
    """Two half steps of the same batch move the weights as one step does."""
    same = [rows()[i] for i in (0, 1, 2, 3)] * 2
    weights = []
    for accumulation in (1, 2):
        model = tiny_tokenizer()
        args = config(tmp_path, max_steps=1, per_device_train_batch_size=4, optim="sgd", weight_decay=0.0,
                      gradient_accumulation_steps=accumulation, train_sampling_strategy="sequential")  # fmt: skip
        ContrastiveTrainer(model, args, train_dataset=same, data_collator=stack).train()
        weights.append(model.vision_projection.weight.detach())
    torch.testing.assert_close(*weights, rtol=1e-5, atol=1e-7)


def test_evaluation_reports_loss_and_accuracy_apart_from_training(tmp_path):
    trainer = trainer_for(tiny_tokenizer(), config(tmp_path, max_steps=4), eval_dataset=rows(12))
    trainer.train()
    metrics = trainer.evaluate()
    assert {"eval_loss", "eval_image_to_text_accuracy", "eval_text_to_image_accuracy"} <= set(metrics)
    batches = [stack(rows(12)[:8]), stack(rows(12)[8:])]
    logits = [trainer.model(**batch, stage="contrastive").logits_per_image for batch in batches]
    hits = [retrieval_hits(scores, batch["input_ids"], batch["input_ids"]) for scores, batch in zip(logits, batches)]
    assert metrics["eval_image_to_text_accuracy"] == pytest.approx(torch.cat(hits).float().mean().item())


def test_the_same_caption_counts_as_a_hit():
    logits = torch.tensor([[1.0, 3.0, 0.0], [4.0, 2.0, 0.0], [0.0, 5.0, 1.0]])
    captions = torch.tensor([[7, 8], [7, 8], [7, 9]])
    to_text, to_image = retrieval_hits(logits, captions, captions), retrieval_hits(logits.T, captions, captions)
    assert to_text.tolist() == [True, True, False]  # best captions: 1, 0, 1
    assert to_image.tolist() == [True, False, True]  # best images: 1, 2, 2


def test_a_model_without_text_tower_is_refused(tmp_path):
    with pytest.raises(ValueError, match="text_tower=True"):
        trainer_for(tiny_tokenizer(text_tower=False), config(tmp_path))


def test_a_warm_up_as_long_as_the_run_is_told(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, logger="seed_hf.training.trainer"):
        trainer_for(tiny_tokenizer(), config(tmp_path, warmup_steps=2000, max_steps=1)).train()
    assert "warmup_steps" in caplog.text


class Processor:
    """The constants of the image processor that prepared pixels need."""

    do_normalize = True
    image_mean = [0.5, 0.25, 0.0]
    image_std = [0.5, 0.25, 1.0]


def test_collator_normalises_uint8_pixels_and_encodes_captions():
    collator = ImageTextCollator(Processor(), tiny_text_tokenizer(), max_text_tokens=4)
    pixels = torch.full((3, 4, 4), 255, dtype=torch.uint8)
    batch = collator([{"pixels": pixels, "caption": "a red apple"}, {"pixels": 0 * pixels, "caption": "a " * 30}])
    assert batch["pixel_values"][0, :, 0, 0].tolist() == pytest.approx([1.0, 3.0, 1.0])
    assert batch["pixel_values"][1, :, 0, 0].tolist() == pytest.approx([-1.0, -1.0, 0.0])
    assert batch["input_ids"].shape == batch["attention_mask"].shape == (2, 4)


@pytest.mark.parametrize("padding", ["longest", "max_length"])
@pytest.mark.parametrize("tokenizer", [tiny_text_tokenizer(), tiny_processor().tokenizer])
def test_a_caption_that_is_cut_is_logged_once(tokenizer, padding, caplog):
    """What its end says is never read, and captions that differ there alone count as equal."""
    length = len(tokenizer("a red apple").input_ids)
    collator = ImageTextCollator(tokenizer=tokenizer, max_text_tokens=length, padding=padding)
    collator([{"caption": "a red apple"}, {"caption": "a"}])
    assert not caplog.records
    for _ in range(2):
        collator([{"caption": "a red apple"}, {"caption": "a red apple and a cup"}])
    assert caplog.text.count("is cut to") == 1 and "'a red apple and a cup'" in caplog.text


def test_collator_draws_depend_on_seed_epoch_and_row_alone():
    captions = [f"{word} {i}" for i, word in enumerate(CAPTIONS)]
    pixels = torch.randint(0, 255, (8, 3, 4, 4), dtype=torch.uint8)
    drawn = [{"pixels": p, "captions": [f"{c} {i}" for c in captions]} for i, p in enumerate(pixels)]
    noise = {"augment": lambda x: x + torch.rand(len(x), 1, 1, 1)}
    make = lambda: ImageTextCollator(Processor(), tiny_text_tokenizer(), padding="max_length", **noise)  # noqa: E731
    collator = make()
    state = torch.get_rng_state()
    first, again = collator(drawn), make()(drawn)
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(first["pixel_values"], again["pixel_values"])
    halves = torch.cat([collator(drawn[:4])["input_ids"], collator(drawn[4:])["input_ids"]])
    assert torch.equal(first["input_ids"], halves)
    collator.set_epoch(1)
    second = collator(drawn)
    assert not torch.equal(first["input_ids"], second["input_ids"])
    assert not torch.equal(first["pixel_values"], second["pixel_values"])


def test_random_crop_flip_stays_inside_the_image():
    ramp = torch.linspace(0, 1, 16).expand(64, 3, 16, 16)  # brighter to the right
    out = random_crop_flip(ramp)
    assert out.shape == ramp.shape and 0 <= out.min() and out.max() <= 1
    rising = out[:, 0, 8, -1] > out[:, 0, 8, 0]
    assert 16 < rising.sum() < 48  # about half are flipped
    share = (out[:, 0, 8, -1] - out[:, 0, 8, 0]).abs()
    assert 0.55 < share.min() < 0.75 and share.max() <= 1.0  # sides from sqrt(1/2 * 3/4) to 1


def test_collator_refuses_rows_with_nothing_to_train_on():
    with pytest.raises(ValueError, match="causal_embeddings"):
        ImageTextCollator()([{"id": 3}])
    with pytest.raises(ValueError, match="image_processor"):
        ImageTextCollator()([{"pixels": torch.zeros(3, 4, 4, dtype=torch.uint8)}])
    with pytest.raises(ValueError, match="uint8"):
        ImageTextCollator(Processor())([{"pixels": torch.zeros(3, 4, 4)}])


def test_evaluations_in_every_pass_see_the_same(tmp_path):
    """The validation images as they are, with the same captions of several."""
    rows = [{"image": picture(colour), "captions": ["a red apple", "a question"]} for colour in ("red", "blue") * 4]
    processor = SeedImageProcessor(size={"height": 28, "width": 28})
    collator = ImageTextCollator(processor, tiny_text_tokenizer(), augment=random_crop_flip)
    often = {"eval_strategy": "steps", "eval_steps": 2}
    args = config(tmp_path, learning_rate=0.0, max_steps=6, per_device_train_batch_size=4, **often)
    trainer = ContrastiveTrainer(tiny_tokenizer(), args, train_dataset=rows, eval_dataset=rows, data_collator=collator)
    trainer.train()
    losses = [line["eval_loss"] for line in trainer.state.log_history if "eval_loss" in line]
    assert len(losses) == 3 and losses == pytest.approx([losses[0]] * 3, rel=1e-6)
    assert trainer.data_collator is collator and collator.augment is not None
    plain = ImageTextCollator(processor, tiny_text_tokenizer())(rows)["pixel_values"]
    (batch,) = trainer.get_eval_dataloader()
    torch.testing.assert_close(batch["pixel_values"].cpu(), plain)


def test_an_image_has_the_same_view_in_any_batch():
    rows = [{"image": picture(colour)} for colour in ("red", "blue", "green")]
    make = ImageTextCollator(SeedImageProcessor(size={"height": 28, "width": 28}), augment=random_crop_flip)
    together = make(rows)["pixel_values"]
    assert torch.equal(together, torch.cat([make([row])["pixel_values"] for row in rows]))
    assert not torch.equal(together, ImageTextCollator(make.image_processor)(rows)["pixel_values"])
