"""Stage II: losses, codebook metrics, the remedies for unused codes, cached features, and an exact resume."""

import math
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from torch import nn
from transformers import TrainerCallback

from seed_hf.codes import CodebookUsage, perplexity
from seed_hf.training.codebook import kmeans, pick
from seed_hf.training.quantization import QuantizationConfig, QuantizationTrainer
from stage_two import config, images, trainer_for
from stages import stack
from tiny import tiny_tokenizer


def cached(model, rows):
    with torch.no_grad():
        causal = model.get_causal_embeddings(stack(rows)["pixel_values"])
    return [{"causal_embeddings": c, "target_embeddings": row["target_embeddings"]} for c, row in zip(causal, rows)]


def test_defaults_are_the_published_values(tmp_path):
    args = QuantizationConfig(output_dir=str(tmp_path))
    assert (args.learning_rate, args.warmup_steps, args.weight_decay, args.num_train_epochs) == (1e-4, 2000, 0.05, 500)
    assert args.codebook_init == "none" and args.revive_dead_codes_every == 0


@pytest.mark.parametrize(
    "wrong", [{"codebook_init": "k-means"}, {"kmeans_batches": 0}, {"revive_dead_codes_every": -1}]
)
def test_impossible_arguments_are_refused(tmp_path, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        QuantizationConfig(output_dir=str(tmp_path), **wrong)


def test_losses_fall_and_add_up(tmp_path):
    trainer = trainer_for(tiny_tokenizer(), config(tmp_path, max_steps=40, logging_steps=10))
    trainer.train()
    lines = [line for line in trainer.state.log_history if "loss" in line]
    assert lines[-1]["loss"] < 0.9 * lines[0]["loss"]
    assert all(line["samples_per_second"] > 0 for line in lines)
    for line in lines:
        parts = 5 * line["vq_loss"] + 2 * line["reconstruction_loss"] + 0.5 * line["generation_loss"]
        assert line["loss"] == pytest.approx(parts, rel=1e-4)


def test_logged_codebook_metrics_are_those_of_the_window(tmp_path):
    model, seen = tiny_tokenizer(), []
    trainer = trainer_for(model, config(tmp_path, max_steps=4, logging_steps=2))
    model.register_forward_hook(lambda m, i, output: seen.append(output.codes))
    distances = []

    def note_distances(quantizer, inputs, output):
        distances.append((inputs[0] - quantizer.lookup(output[0])).pow(2).sum(-1).mean().item())

    model.quantizer.register_forward_hook(note_distances)
    trainer.train()
    lines = [line for line in trainer.state.log_history if "loss" in line]
    for window, line in enumerate(lines):
        codes = torch.cat(seen[2 * window : 2 * window + 2])
        assert line["distinct_codes"] == pytest.approx(sum(len(set(row)) for row in codes.tolist()) / len(codes))
        mean_square = sum(distances[2 * window : 2 * window + 2]) / 2
        assert line["code_distance"] == pytest.approx(math.sqrt(mean_square), rel=1e-4)
        values, counts = codes.unique(return_counts=True)
        share = counts / counts.sum()
        assert line["used_codes"] == len(values) and line["dead_codes"] == 64 - len(values)
        assert line["perplexity"] == pytest.approx(math.exp(-(share * share.log()).sum().item()), rel=1e-5)


def test_perplexity_against_hand_computed_values():
    assert perplexity(torch.tensor([0, 7, 0, 0])).item() == pytest.approx(1.0)
    assert perplexity(torch.tensor([5, 5, 5, 5, 0])).item() == pytest.approx(4.0)
    # 1/2, 1/4, 1/4: entropy 1.5 ln 2, so 2 ** 1.5
    assert perplexity(torch.tensor([2, 1, 1])).item() == pytest.approx(2**1.5)


def test_usage_counts_until_it_is_read():
    usage = CodebookUsage(8, torch.device("cpu"))
    usage.add(torch.tensor([[1, 1], [3, 5]]))
    usage.add(torch.tensor([[1, 1], [3, 5]]))
    metrics = usage.read(Accelerator(cpu=True))
    assert metrics == {"used_codes": 3, "dead_codes": 5, "perplexity": pytest.approx(2**1.5)}
    assert usage.read(Accelerator(cpu=True)) == {}


def test_only_what_follows_the_qformer_changes(tmp_path):
    model = tiny_tokenizer()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trainer_for(model, config(tmp_path)).train()
    after = model.state_dict()
    changed = {name.split(".")[0] for name, value in before.items() if not torch.equal(value, after[name])}
    assert changed == {"code_encoder", "quantizer", "code_decoder", "embedding_decoder", "generation_decoder"}


def test_cached_features_train_the_same_weights_without_a_frozen_network(tmp_path):
    online, offline = tiny_tokenizer(), tiny_tokenizer()
    trainer_for(online, config(tmp_path, max_steps=3)).train()
    rows = cached(offline, images())

    def never(*args):
        raise AssertionError("a frozen network ran")

    offline.vision_model.register_forward_pre_hook(never)
    offline.qformer.register_forward_pre_hook(never)
    trainer = QuantizationTrainer(offline, config(tmp_path, max_steps=3), train_dataset=rows)  # its own collator
    trainer.train()
    for name, value in online.state_dict().items():
        torch.testing.assert_close(value, offline.state_dict()[name], rtol=1e-4, atol=1e-5, msg=name)


def test_half_precision_features_are_widened(tmp_path):
    rows = [{k: v.half() for k, v in row.items()} for row in cached(tiny_tokenizer(), images())]
    trainer = trainer_for(tiny_tokenizer(), config(tmp_path, max_steps=2, logging_steps=1), rows)
    trainer.train()
    assert math.isfinite(trainer.state.log_history[0]["loss"])


def test_without_targets_the_generation_loss_is_left_out(tmp_path):
    rows = [{"pixel_values": row["pixel_values"]} for row in images()]
    trainer = trainer_for(tiny_tokenizer(), config(tmp_path, max_steps=2, logging_steps=1), rows)
    trainer.train()
    assert "generation_loss" not in trainer.state.log_history[0] and "vq_loss" in trainer.state.log_history[0]


class TextEncoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(10, 20)

    def forward(self, input_ids):
        return SimpleNamespace(last_hidden_state=self.embedding(input_ids))


def test_a_target_encoder_gives_the_same_loss_as_its_cached_features(tmp_path):
    encoder = TextEncoder()
    ids = torch.arange(6).repeat(16, 1)
    online = [{"pixel_values": row["pixel_values"], "input_ids": i} for row, i in zip(images(), ids)]
    offline = [{"pixel_values": row["pixel_values"], "target_embeddings": encoder.embedding(i).detach()}
               for row, i in zip(images(), ids)]  # fmt: skip
    losses = []
    for rows in (online, offline):
        args = config(tmp_path, max_steps=2, logging_steps=1)
        trainer = trainer_for(tiny_tokenizer(), args, rows, target_encoder=encoder)
        trainer.train()
        losses.append([line["generation_loss"] for line in trainer.state.log_history if "loss" in line])
    assert losses[0] == losses[1]


def test_resume_equals_the_unbroken_run(tmp_path):
    settings = {"max_steps": 9, "save_strategy": "steps", "save_steps": 4, "codebook_init": "kmeans",
                "revive_dead_codes_every": 3}  # fmt: skip
    unbroken, resumed = tiny_tokenizer(), tiny_tokenizer(seed=5)
    trainer_for(unbroken, config(tmp_path, **settings)).train()
    trainer_for(resumed, config(tmp_path, **settings)).train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    for name, value in unbroken.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_the_rate_is_of_training_alone(tmp_path, monkeypatch):
    """Evaluations, what is shown at them, and checkpoints may take longer than the steps between them."""
    seconds = [0.0]

    class Slow(TrainerCallback):
        def on_evaluate(self, args, state, control, **kwargs):
            seconds[0] += 1000

        on_save = on_evaluate

    def clock():
        seconds[0] += 0.01
        return seconds[0]

    monkeypatch.setattr("seed_hf.training.trainer.time", SimpleNamespace(perf_counter=clock))
    settings = {"max_steps": 4, "logging_steps": 2, "eval_strategy": "steps", "eval_steps": 1,
                "save_strategy": "steps", "save_steps": 1}  # fmt: skip
    rows = images(8)
    trainer = trainer_for(tiny_tokenizer(), config(tmp_path, **settings), rows, eval_dataset=rows)
    trainer.add_callback(Slow())
    trainer.train()
    rates = [line["samples_per_second"] for line in trainer.state.log_history if "samples_per_second" in line]
    assert len(rates) == 2 and min(rates) > 10 and seconds[0] > 8000


def test_kmeans_start_lowers_the_vq_loss_and_is_seeded(tmp_path):
    first, codebooks = {}, []
    for init in ("none", "kmeans", "kmeans"):
        trainer = trainer_for(tiny_tokenizer(), config(tmp_path, max_steps=1, logging_steps=1, codebook_init=init))
        trainer.train()
        first[init] = trainer.state.log_history[0]
        codebooks.append(trainer.model.quantizer.embedding.weight.detach())
    assert first["kmeans"]["vq_loss"] < 0.5 * first["none"]["vq_loss"]
    assert first["kmeans"]["used_codes"] > first["none"]["used_codes"]
    assert torch.equal(codebooks[1], codebooks[2]) and not torch.equal(codebooks[0], codebooks[1])


def test_kmeans_with_too_few_outputs_names_the_setting(tmp_path):
    settings = {"codebook_init": "kmeans", "kmeans_batches": 1, "per_device_train_batch_size": 1}
    with pytest.raises(ValueError, match="32 encoder outputs in 1 batches, fewer than the 64 codes: raise kmeans_bat"):
        trainer_for(tiny_tokenizer(), config(tmp_path, max_steps=1, **settings)).train()


def test_kmeans_finds_separate_clusters():
    generator = torch.Generator().manual_seed(0)
    centres = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]])
    vectors = centres.repeat(50, 1) + 0.1 * torch.randn(200, 2, generator=generator)
    found = kmeans(vectors, 4, 20, generator)
    assert torch.cdist(centres, found).amin(1).max() < 0.2
    with pytest.raises(ValueError, match="3 for 4"):
        kmeans(vectors[:3], 4, 1, generator)


def test_pick_repeats_rows_only_when_it_must():
    vectors = torch.arange(5.0)[:, None]
    generator = torch.Generator().manual_seed(0)
    assert len(pick(vectors, 5, generator).unique()) == 5
    assert len(pick(vectors, 12, generator)) == 12 and len(pick(vectors, 0, generator)) == 0


def test_dead_codes_move_to_encoder_outputs_and_others_stay(tmp_path):
    model = tiny_tokenizer()
    with torch.no_grad():
        model.quantizer.embedding.weight[10:] = 100.0  # out of reach: dead
    args = config(tmp_path, max_steps=2, learning_rate=0.0, warmup_steps=0, revive_dead_codes_every=2)
    before = model.quantizer.embedding.weight.detach().clone()
    trainer = trainer_for(model, args)
    alive = torch.zeros(64, dtype=torch.bool)
    model.quantizer.register_forward_hook(lambda m, i, output: alive.__setitem__(output[0], True))
    trainer.train()
    after = model.quantizer.embedding.weight.detach()
    assert alive.any() and not alive[10:].any()
    assert torch.equal(after[alive], before[alive])
    with torch.no_grad():
        outputs = model.code_encoder(model.get_causal_embeddings(stack(images())["pixel_values"])).flatten(0, 1)
    # Not by |a|^2 + |b|^2 - 2ab, whose rounding is as large as the bound
    distances = torch.cdist(after[~alive], outputs, compute_mode="donot_use_mm_for_euclid_dist")
    assert distances.amin(1).max() < 1e-5


def test_no_two_dead_codes_move_to_the_same_output(tmp_path):
    model = tiny_tokenizer()
    with torch.no_grad():
        model.quantizer.embedding.weight[10:] = 100.0  # out of reach: 54 dead codes, and an image has 32 outputs
    settings = {"per_device_train_batch_size": 1, "learning_rate": 0.0, "revive_dead_codes_every": 1}
    trainer_for(model, config(tmp_path, max_steps=1, **settings)).train()
    after = model.quantizer.embedding.weight.detach()
    moved = after[10:][(after[10:] != 100.0).all(1)]
    assert 0 < len(moved) <= 32 and len(moved.unique(dim=0)) == len(moved)


def test_bf16_training_keeps_all_metrics(tmp_path):
    trainer = trainer_for(tiny_tokenizer(), config(tmp_path, max_steps=2, logging_steps=1, bf16=True))
    trainer.train()
    assert {"vq_loss", "reconstruction_loss", "generation_loss", "perplexity"} <= set(trainer.state.log_history[0])


def test_rows_count_the_same_in_short_batches_of_an_accumulated_step(tmp_path):
    weights, losses = [], []
    for batch, accumulation in ((6, 1), (4, 2), (2, 3)):  # 4 + 2 rows
        args = config(tmp_path, max_steps=1, optim="sgd", learning_rate=1.0, max_grad_norm=0, warmup_steps=0,
                      per_device_train_batch_size=batch, gradient_accumulation_steps=accumulation)  # fmt: skip
        trainer = trainer_for(tiny_tokenizer(), args, images(6))
        losses.append(trainer.train().training_loss)
        weights.append(trainer.model.state_dict())
    assert losses[1:] == pytest.approx([losses[0]] * 2, rel=1e-5)
    for name, value in weights[0].items():
        for other in weights[1:]:
            torch.testing.assert_close(other[name], value, atol=1e-5, rtol=1e-4)


def test_a_second_training_begins_with_empty_windows(tmp_path):
    """Four steps, of which three are logged: the fourth is no part of the next training's first log line."""
    settings = {"max_steps": 4, "logging_steps": 3, "learning_rate": 0.0, "revive_dead_codes_every": 100}
    trainer, seen = trainer_for(tiny_tokenizer(), config(tmp_path, **settings)), []

    class Counting(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            codes = [int(usage.counts.sum()) for usage in (trainer._train_usage, trainer._usage_since_revival)]
            seen.append([*codes, 32 * int(trainer._train_window._sums[0, 1])])

    trainer.add_callback(Counting())
    for _ in range(2):
        trainer.train()
    assert seen[:4] == seen[4:] and seen[2] == [3 * 8 * 32] * 3


def test_evaluation_has_its_own_window(tmp_path):
    trainer = trainer_for(tiny_tokenizer(), config(tmp_path, max_steps=2), eval_dataset=images(8))
    trainer.train()
    metrics = trainer.evaluate()
    assert {"eval_vq_loss", "eval_generation_loss", "eval_used_codes", "eval_perplexity"} <= set(metrics)
    with torch.no_grad():
        output = trainer.model.eval()(**stack(images(8)), stage="quantization")
    assert metrics["eval_vq_loss"] == pytest.approx(output.vq_loss.item(), rel=1e-5)
    assert metrics["eval_used_codes"] == len(output.codes.unique())


def test_losses_of_an_evaluation_are_means_of_rows_however_they_are_batched(tmp_path):
    found = [
        trainer_for(
            tiny_tokenizer(), config(tmp_path / str(size), per_device_eval_batch_size=size), eval_dataset=images(9)
        ).evaluate()
        for size in (9, 8, 4)
    ]
    for name in ("eval_vq_loss", "eval_reconstruction_loss", "eval_generation_loss", "eval_loss"):
        assert [metrics[name] for metrics in found[1:]] == pytest.approx([found[0][name]] * 2, rel=1e-4), name
