"""The language-model stage on every family: packed as padded, LoRA on new rows alone, stopped and gone on."""

import pytest
import torch

from seed_hf.data.batches.language_model import LanguageModelCollator
from seed_hf.training.language_model import LanguageModelConfig, LanguageModelTrainer
from seed_hf.training.lora import add_lora
from tiny import tiny_text_tokenizer
from tiny_families import FAMILIES, plain_model
from tiny_language import CODEBOOK_SIZE, TEXT_VOCAB_SIZE, tiny_seed_model


CAPTIONS = ["a red apple", "the blue fire engine", "a question", "an answer is a photo of the red fire engine"]


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    plain_model(request.param).save_pretrained(folder)
    tiny_text_tokenizer().save_pretrained(folder)
    return folder, FAMILIES[request.param][1]


def extended(folder):
    torch.manual_seed(1)
    return folder[1].from_language_model(folder[0], codebook_size=CODEBOOK_SIZE, code_dim=8)


def rows(number=12):
    codes = torch.randint(0, 64, (number, 32), generator=torch.Generator().manual_seed(0)).tolist()
    images = [{"codes": codes[i], "caption": CAPTIONS[i % 4]} for i in range(number)]
    return [row if i % 3 else {"text": " ".join([row["caption"]] * (i % 4 + 1))} for i, row in enumerate(images)]


def trainer_for(model, out, pack_length=None, **settings):
    settings = {"max_steps": 4, "per_device_train_batch_size": 4, "learning_rate": 1e-2, "logging_steps": 2,
                "save_strategy": "no", "use_cpu": True, "disable_tqdm": True, "lora_r": 0, **settings}  # fmt: skip
    collator = LanguageModelCollator(tiny_text_tokenizer(), model.config, max_length=96, pack_length=pack_length)
    arguments = LanguageModelConfig(output_dir=str(out), **settings)
    return LanguageModelTrainer(model, arguments, data_collator=collator, train_dataset=rows())


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_packed_equals_padded(folder, tmp_path, attention):
    results = []
    for pack_length in (None, 170):
        model = extended(folder)
        model.set_attn_implementation(attention)
        trainer = trainer_for(model, tmp_path, pack_length)
        trainer.model.train()
        loss = trainer.compute_loss(trainer.model, trainer.data_collator(rows()))
        loss.backward()
        results.append((loss.detach(), {n: p.grad for n, p in model.named_parameters() if p.grad is not None}))
    (padded, expected), (packed, found) = results
    torch.testing.assert_close(packed, padded, rtol=0, atol=1e-5)
    assert found.keys() == expected.keys() == dict(model.named_parameters()).keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=2e-5, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("norms", [False, True], ids=["", "norms"])
def test_lora_trains_the_new_rows_and_no_others(folder, tmp_path, norms):
    model = extended(folder)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    trainer = trainer_for(model, tmp_path, lora_r=2, lora_norms=norms)
    trainer.train()
    ids = torch.arange(3, model.config.image_token_id)[None, ::4]
    with torch.no_grad():
        adapted_logits = trainer.model.eval()(ids).logits
        merged = trainer.merge()
        torch.testing.assert_close(merged(ids).logits, adapted_logits, rtol=0, atol=2e-5)
    rows_of = {"embedding": merged.get_input_embeddings(), "head": merged.get_output_embeddings()}
    for name, module in rows_of.items():
        key = next(n for n, m in merged.named_modules() if m is module) + ".weight"
        new = slice(TEXT_VOCAB_SIZE, model.config.image_token_id)
        assert torch.equal(module.weight[:TEXT_VOCAB_SIZE], before[key][:TEXT_VOCAB_SIZE]), name
        assert torch.equal(module.weight[new.stop :], before[key][new.stop :]), name
        assert not torch.equal(module.weight[new], before[key][new]), name
    assert set(merged.state_dict()) == set(before)
    adapted = {n for n, w in merged.state_dict().items() if not torch.equal(w, before[n])}
    family = folder[1].family
    assert all(any(layer in n for n in adapted) for layer in family.linear_layers)
    own = {n for n in before if n.split(".")[-2] in family.norms}
    assert own and own & adapted == (own if norms else set())


def test_norms_of_a_whole_model_are_those_of_its_language_model():
    adapted = add_lora(tiny_seed_model(), r=2, alpha=4, dropout=0.0, norms=True)
    trained = {name for name, weight in adapted.named_parameters() if weight.requires_grad}
    assert sum("layer_norm" in name for name in trained) == 2 * (
        2 * 1 + 1
    )  # weight and bias: of one block, and the last
    assert all("language_model" in name for name in trained)


def test_stopped_and_gone_on_is_the_unbroken_run(folder, tmp_path):
    settings = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2}
    unbroken = trainer_for(extended(folder), tmp_path, 128, **settings)
    unbroken.train()
    resumed = trainer_for(extended(folder), tmp_path, 128, **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    expected = unbroken.model.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in resumed.model.state_dict().items())
