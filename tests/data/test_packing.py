"""Packed sequences: the same samples, loss and gradients as padded ones, on every route of the attention."""

from itertools import pairwise

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from torch.nn import functional as F
from transformers import AttentionInterface, Qwen3Config, Qwen3ForCausalLM
from transformers.modeling_flash_attention_utils import FlashAttentionKwargs

from seed_hf.data.batches.language_model import LanguageModelCollator
from seed_hf.data.batches.packing import PADDING, block_causal_mask, borders, pack, packed_inputs
from seed_hf.recipes.running import run_stage
from seed_hf.training.language_model import LanguageModelConfig, LanguageModelTrainer
from tiny import tiny_text_tokenizer
from tiny_families import SIZES
from tiny_language import tiny_language_model, tiny_text_config


CAPTIONS = ["a red apple", "the blue fire engine", "a question", "an answer is a photo of the red fire engine"]


def collator(pack_length=None, **kwargs):
    return LanguageModelCollator(
        tiny_text_tokenizer(), tiny_text_config(), max_length=96, pack_length=pack_length, **kwargs
    )


def rows(number=9):
    """Samples of all kinds, and of many lengths."""
    codes = torch.randint(0, 64, (number, 32), generator=torch.Generator().manual_seed(0)).tolist()
    images = [{"codes": codes[i], "caption": CAPTIONS[i % 4]} for i in range(number)]
    return [row if i % 3 else {"text": " ".join([row["caption"]] * (i + 1))} for i, row in enumerate(images)]


def trainer_for(model, folder, pack_length=None, **settings):
    settings = {
        "max_steps": 4,
        "per_device_train_batch_size": 5,
        "learning_rate": 1e-3,
        "logging_steps": 2,
        "save_strategy": "no",
        "use_cpu": True,
        "disable_tqdm": True,
        "lora_r": 0,
        **settings,
    }
    args = LanguageModelConfig(output_dir=str(folder), **settings)
    options = {"data_collator": collator(pack_length), "train_dataset": rows(20), "eval_dataset": rows(7)}
    return LanguageModelTrainer(model, args, **options)


def loss_and_gradients(trainer, batch):
    trainer.model.train().zero_grad()
    loss = trainer.compute_loss(trainer.model, batch)
    loss.backward()
    return loss.detach(), {name: p.grad for name, p in trainer.model.named_parameters() if p.grad is not None}


def assert_same(packed, padded):
    torch.testing.assert_close(packed[0], padded[0], rtol=0, atol=1e-5)
    assert packed[1].keys() == padded[1].keys()
    for name, gradient in padded[1].items():
        torch.testing.assert_close(packed[1][name], gradient, rtol=0, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


def flash_in_torch(module, query, key, value, attention_mask, *, scaling, cu_seq_lens_q, cu_seq_lens_k, max_length_q,
                   max_length_k, **kwargs):  # fmt: skip
    """What a flash kernel computes from its arguments: causal attention within each stretch of one long row."""
    assert attention_mask is None and len(query) == 1
    assert cu_seq_lens_q.dtype == torch.int32 and torch.equal(cu_seq_lens_q, cu_seq_lens_k)
    assert cu_seq_lens_q[-1] == query.shape[2] and max(cu_seq_lens_q.diff()) <= max_length_q == max_length_k
    stretches = [slice(*pair) for pair in pairwise(cu_seq_lens_q.tolist())]
    outputs = [
        F.scaled_dot_product_attention(query[:, :, s], key[:, :, s], value[:, :, s], is_causal=True, scale=scaling)
        for s in stretches
    ]
    return torch.cat(outputs, 2).transpose(1, 2), None


AttentionInterface.register("flash_in_torch", flash_in_torch)


# ---- places ----


def test_samples_fill_as_few_sequences_as_first_fit_decreasing():
    assert pack([40, 60, 50, 30, 10], 100) == [(0, 60), (0, 0), (1, 0), (1, 50), (1, 80)]
    assert pack([50, 50, 50], 100) == [(0, 0), (0, 50), (1, 0)]
    with pytest.raises(ValueError, match="101 tokens does not fit into sequences of 100"):
        pack([3, 101], 100)


def test_every_sample_is_there_once_and_whole():
    data = rows(30)
    alone = [collator()([row]) for row in data]
    batch = collator(128)(data)
    assert batch["input_ids"].shape[1] == 128 and len(batch["input_ids"]) < len(data)
    for number, sample in enumerate(alone):
        places = (batch["sample_ids"] == number).nonzero()
        sequence, first = places[0].tolist()
        here = slice(first, first + len(places))
        assert (places[:, 0] == sequence).all() and places[-1, 1] == here.stop - 1
        assert torch.equal(batch["input_ids"][sequence, here], sample["input_ids"][0])
        assert torch.equal(batch["labels"][sequence, here], sample["labels"][0])
        assert torch.equal(batch["position_ids"][sequence, here], torch.arange(len(places)))
    padding = batch["sample_ids"] == PADDING
    assert (~padding).sum() == sum(sample["input_ids"].numel() for sample in alone)
    assert (batch["input_ids"][padding] == 1).all() and (batch["labels"][padding] == -100).all()
    # in the order of the rows, as in a padded batch
    assert torch.equal(batch["loss_kinds"], torch.cat([sample["loss_kinds"] for sample in alone]))
    learned = torch.cat([sample["labels"][sample["labels"] != -100] for sample in alone])
    assert torch.equal(batch["labels"].flatten()[batch["loss_positions"] + 1], learned)
    again = collator(128)(data)
    assert all(torch.equal(batch[name], again[name]) for name in batch)


def test_borders_lie_between_samples_sequences_and_paddings():
    sample_ids = torch.tensor([[0, 0, 1, 1], [2, 2, 2, -1], [-1, -1, -1, -1]])
    assert borders(sample_ids.numpy()).tolist() == [0, 2, 4, 7, 8, 12]


def test_the_mask_looks_back_within_a_sample_and_never_at_nothing():
    mask = block_causal_mask(torch.tensor([[0, 0, 1, -1, -1]]))
    expected = [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 1, 1]]
    assert mask.shape == (1, 1, 5, 5) and mask[0, 0].int().tolist() == expected


# ---- the same loss and gradients ----


@pytest.mark.parametrize("attention", ["sdpa", "eager", "flash_in_torch"])
@pytest.mark.parametrize("visual_embedding", ["learned", "projected"])
def test_packed_equals_padded(tmp_path, attention, visual_embedding):
    model = tiny_language_model(visual_embedding=visual_embedding, num_hidden_layers=2)
    trainer = trainer_for(model, tmp_path)
    padded = loss_and_gradients(trainer, collator()(rows()))
    model.config._attn_implementation = attention
    packed = loss_and_gradients(trainer, collator(170)(rows()))  # more than the model has positions
    assert_same(packed, padded)
    assert padded[1].keys() == dict(model.named_parameters()).keys()


def test_packed_equals_padded_with_lora(tmp_path):
    trainer = trainer_for(tiny_language_model(num_hidden_layers=2), tmp_path, lora_r=2, lora_dropout=0.0)
    padded = loss_and_gradients(trainer, collator()(rows()))
    packed = loss_and_gradients(trainer, collator(128)(rows()))
    assert_same(packed, padded)


def test_a_packed_run_equals_a_padded_one(tmp_path):
    """Four steps of two batches each, then an evaluation; the log tells how full the sequences were."""
    packed, padded = (
        trainer_for(tiny_language_model(), tmp_path, pack_length, gradient_accumulation_steps=2)
        for pack_length in (128, None)
    )
    for trainer in (packed, padded):
        trainer.train()
    expected = padded.model.state_dict()
    for name, value in packed.model.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=1e-5)
    lines = [trainer.state.log_history[1] for trainer in (packed, padded)]
    for name in ("loss", "caption_loss", "code_loss", "text_loss"):
        assert lines[0][name] == pytest.approx(lines[1][name], abs=1e-5)
    assert lines[1]["useful_tokens"] < lines[0]["useful_tokens"] <= 1
    assert all(line["tokens_per_second"] > 0 for line in lines)
    results = [trainer.evaluate() for trainer in (packed, padded)]
    assert results[0]["eval_code_loss"] == pytest.approx(results[1]["eval_code_loss"], abs=1e-5)
    assert results[0]["eval_loss"] == pytest.approx(results[1]["eval_loss"], abs=1e-5)


def test_no_sample_sees_another():
    model = tiny_language_model(num_hidden_layers=2)
    batch = collator(170)(rows())
    changed = dict(batch)
    other = batch["sample_ids"] == batch["sample_ids"][0, 0]
    changed["input_ids"] = torch.where(other, batch["input_ids"].roll(1), batch["input_ids"])
    for attention in ("sdpa", "eager", "flash_in_torch"):
        model.config._attn_implementation = attention
        with torch.no_grad():
            before, after = (
                model(**packed_inputs(b, attention)).logits.reshape(*other.shape, -1) for b in (batch, changed)
            )
        assert before.isfinite().all()
        assert torch.equal(before[~other], after[~other]) and not torch.equal(before[other], after[other])


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kinds", [("sliding", "sliding"), ("full", "sliding"), ("full", "full")], ids="-".join)
def test_layers_that_look_a_window_back_do_so_in_packed_batches(attention, kinds):
    """Qwen3 can have such layers, alone or beside whole ones."""
    torch.manual_seed(0)
    sizes = {"use_sliding_window": True, "sliding_window": 5, "layer_types": [f"{kind}_attention" for kind in kinds]}
    model = Qwen3ForCausalLM(Qwen3Config(vocab_size=50, head_dim=8, attn_implementation=attention, **SIZES, **sizes))
    ids, samples = torch.randint(3, 50, (2, 12)), torch.tensor([[0] * 12 + [1] * 12])
    positions = torch.arange(12).repeat(2)[None]
    packed = {"input_ids": ids.reshape(1, -1), "position_ids": positions, "sample_ids": samples}
    with torch.no_grad():
        found = model.eval()(**packed_inputs(packed, attention, model.config)).logits.reshape(2, 12, -1)
        torch.testing.assert_close(found, model(ids).logits, rtol=0, atol=2e-5)


def test_resume_with_packing_equals_the_unbroken_run(tmp_path):
    settings = {"max_steps": 6, "save_strategy": "steps", "save_steps": 3}
    unbroken = trainer_for(tiny_language_model(dropout=0.1), tmp_path, 128, **settings)
    unbroken.train()
    resumed = trainer_for(tiny_language_model(dropout=0.1), tmp_path, 128, **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    expected = unbroken.model.state_dict()
    for name, value in resumed.model.state_dict().items():
        assert torch.equal(value, expected[name]), name


# ---- routes and errors ----


def test_the_flash_route_gives_what_the_library_takes():
    inputs = packed_inputs(collator(128)(rows()), "flash_attention_2")
    assert inputs.keys() == {"input_ids", "position_ids", *FlashAttentionKwargs.__annotations__}
    assert inputs["input_ids"].shape == inputs["position_ids"].shape == (1, int(inputs["cu_seq_lens_q"][-1]))


def test_an_attention_that_leaks_is_refused(tmp_path):
    model = tiny_language_model()
    model.config._attn_implementation = "flex_attention"
    with pytest.raises(ValueError, match="kept apart with the attention 'flex_attention'.*sdpa"):
        trainer_for(model, tmp_path, 128)
    trainer_for(model, tmp_path)


@pytest.mark.parametrize(
    "data, message",
    [
        ({"pack_length": 0}, "data.pack_length must be a positive whole number of tokens, got 0"),
        ({"pack_length": "long"}, "data.pack_length must be int, got 'long'"),
        ({"pack_length": 64}, "pack_length must be at least max_length, which is 96, got 64"),
        ({"pack_length": 64, "max_length": 65}, "which is 65, got 64"),
    ],
)
def test_yaml_errors(tmp_path, monkeypatch, data, message):
    with pytest.raises(ValueError, match=message):
        run_with(tmp_path, monkeypatch, data)


def test_a_packed_run_from_yaml(tmp_path, monkeypatch):
    output = run_with(tmp_path, monkeypatch, {"pack_length": 128})
    assert (output / "model.safetensors").is_file()


def run_with(folder, monkeypatch, data):
    monkeypatch.chdir(folder)
    pq.write_table(pa.table({"text": CAPTIONS * 2}), "texts.parquet")
    tiny_text_tokenizer().save_pretrained("text_tokenizer")
    sizes = {"hidden_size": 16, "word_embed_proj_dim": 16, "ffn_dim": 16, "num_hidden_layers": 1}
    special = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
    recipe = {
        "model": {
            "config": {**sizes, **special, "num_attention_heads": 2, "max_position_embeddings": 96},
            "text_tokenizer": "text_tokenizer",
            "attn_implementation": "eager",
        },
        "data": {"train": "texts.parquet", **data},
        "trainer": {"output_dir": "out", "max_steps": 1, "lora_r": 0, "use_cpu": True, "disable_tqdm": True},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return run_stage("lm", "recipe.yaml")
