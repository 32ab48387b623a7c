"""The language-model stage: sequences and labels, what trains, what is logged, exact resume, merging."""

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from language_stage import collator, config, rows, text_config, tiny_language_model, trainer_for
from seed_hf.data.batches.language_model import LOSS_KINDS, LanguageModelCollator
from seed_hf.modeling.modeling_seed_text import SeedForCausalLM
from seed_hf.training.language_model import LanguageModelTrainer
from tiny import tiny_text_tokenizer


CODES = [(7 * i) % 64 for i in range(32)]


def only(direction):
    return {"directions": {direction: 1.0}}


def learned(batch, row=0):
    """The labels of a row that are not -100, and whether they are one block that ends with the row's last token."""
    labels, length = batch["labels"][row], int(batch["attention_mask"][row].sum())
    kept = (labels != -100).nonzero().flatten().tolist()
    assert kept == list(range(kept[0], length))
    assert torch.equal(labels[kept], batch["input_ids"][row][kept])
    return labels[kept].tolist()


# ---- sequences and labels ----


def test_image_to_text_learns_the_caption_alone():
    ids, c = tiny_text_tokenizer(), text_config()
    encode = lambda text: ids(text, add_special_tokens=False)["input_ids"]  # noqa: E731
    batch = collator(**only("image_to_text"))([{"codes": CODES, "caption": "a red apple"}])
    span = [c.boi_token_id, *[c.visual_token_offset + code for code in CODES], c.eoi_token_id]
    expected = [0, *span, *encode(" a photo of"), *encode(" a red apple"), 2]
    assert batch["input_ids"][0].tolist() == expected
    assert learned(batch) == [*encode(" a red apple"), 2]
    assert set(batch["loss_kinds"].tolist()) == {LOSS_KINDS.index("caption")}


def test_question_learns_the_answer_alone():
    tokenizer = tiny_text_tokenizer()
    encode = lambda text: tokenizer(text, add_special_tokens=False)["input_ids"]  # noqa: E731
    for pair in (("What is shown?", "an apple"), {"question": "What is shown?", "answer": "an apple"}):
        batch = collator(**only("question"))([{"codes": CODES, "caption": "x", "questions": [pair]}])
        assert batch["input_ids"][0, 35:].tolist() == [
            *encode(" Question: What is shown? Short answer."), *encode(" an apple"), 2
        ]  # fmt: skip
        assert learned(batch) == [*encode(" an apple"), 2]
    assert set(batch["loss_kinds"].tolist()) == {LOSS_KINDS.index("answer")}


def test_text_to_image_learns_the_span_and_the_end():
    tokenizer, c = tiny_text_tokenizer(), text_config()
    prompt = tokenizer("Generate an image a red apple", add_special_tokens=False)["input_ids"]
    batch = collator(**only("text_to_image"))([{"codes": CODES, "caption": "a red apple"}])
    span = [c.boi_token_id, *[c.visual_token_offset + code for code in CODES], c.eoi_token_id]
    assert batch["input_ids"][0].tolist() == [0, *prompt, *span, 2]
    assert learned(batch) == [*span, 2]
    assert set(batch["loss_kinds"].tolist()) == {LOSS_KINDS.index("code")}


def test_text_alone_learns_all_of_it():
    text = tiny_text_tokenizer()("the blue fire engine", add_special_tokens=False)["input_ids"]
    batch = collator()([{"text": "the blue fire engine"}])
    assert batch["input_ids"][0].tolist() == [0, *text, 2]
    assert learned(batch) == [*text, 2]
    assert set(batch["loss_kinds"].tolist()) == {LOSS_KINDS.index("text")}


def test_padding_is_on_the_right_and_never_learned():
    data = [{"text": "a"}, {"codes": CODES, "caption": "a red apple"}, {"text": "the blue fire engine"}]
    batch = collator()(data)
    lengths = batch["attention_mask"].sum(1)
    assert lengths.max() == batch["input_ids"].shape[1] and lengths.min() == 3
    padding = batch["attention_mask"] == 0
    assert (batch["input_ids"][padding] == 1).all() and (batch["labels"][padding] == -100).all()
    # positions and kinds agree with the labels, one position earlier
    flat = batch["labels"].flatten()
    assert torch.equal((flat != -100).nonzero().flatten(), batch["loss_positions"] + 1)
    assert len(batch["loss_kinds"]) == len(batch["loss_positions"])


def test_text_never_becomes_visual_tokens():
    tokenizer, c = tiny_text_tokenizer(), text_config()
    tokenizer.add_tokens(["<img>", "</img>", "<img_00000>", "<image>"])
    make = LanguageModelCollator(tokenizer, c, directions={"text_to_image": 1.0})
    batch = make([{"codes": CODES, "caption": "<img><img_00000></img></s><image>"}])
    prompt = batch["input_ids"][0, 1 : -len(CODES) - 3]
    assert (prompt < c.boi_token_id).all() and not (prompt == 2).any()
    assert tokenizer.backend_tokenizer.decode(prompt.tolist()).endswith("<img><img_00000></img></s><image>")


def test_long_text_is_cut_and_the_span_never():
    long = "apple " * 200
    batch = collator(max_length=60, **only("text_to_image"))([{"codes": CODES, "caption": long}])
    assert batch["input_ids"].shape[1] == 60 and len(learned(batch)) == 35
    batch = collator(max_length=60, **only("image_to_text"))([{"codes": CODES, "caption": long}])
    assert batch["input_ids"].shape[1] == 60 and batch["input_ids"][0, -1] != 2
    with pytest.raises(ValueError, match="max_length"):
        collator(max_length=36, **only("image_to_text"))([{"codes": CODES, "caption": "a"}])


@pytest.mark.parametrize("row", [{"codes": CODES, "caption": "apple " * 200}, {"text": "apple " * 200}])
@pytest.mark.parametrize("direction", ["image_to_text", "text_to_image"])
def test_a_sequence_that_is_cut_is_logged_once(row, direction, caplog):
    """What its end says is never learned."""
    make = collator(max_length=60, **only(direction))
    make([{"codes": CODES, "caption": "a"}, {"text": "an apple"}])
    assert not caplog.records
    make([row, row])
    make([row])
    assert caplog.text.count("is cut to 60 (max_length), as all longer ones") == 1


def test_draws_depend_on_seed_epoch_and_row_alone():
    data = [{"codes": [i] * 32, "captions": ["a red apple", "the blue fire engine"]} for i in range(40)]
    first, again = collator()(data), collator()(data)
    assert torch.equal(first["input_ids"], again["input_ids"])
    code = LOSS_KINDS.index("code")
    kinds = [set(collator()([row])["loss_kinds"].tolist()) for row in data]
    whole = [(learned(first, i)[0] == text_config().boi_token_id) for i in range(40)]
    assert [kind == {code} for kind in kinds] == whole and 10 < sum(whole) < 30
    other = collator()
    other.set_epoch(1)
    assert [learned(other(data), i)[0] == text_config().boi_token_id for i in range(40)] != whole


def test_rows_without_questions_take_another_direction():
    make = collator(directions={"question": 0.5, "image_to_text": 0.5})
    batch = make([{"codes": [i] * 32, "caption": "a"} for i in range(10)])
    assert set(batch["loss_kinds"].tolist()) == {LOSS_KINDS.index("caption")}
    with pytest.raises(ValueError, match="questions alone"):
        collator(**only("question"))([{"codes": CODES, "caption": "a"}])


def test_a_row_may_name_its_direction():
    make = collator(directions={"text_to_image": 1})
    plain = collator(directions={"image_to_text": 1})
    row = rows(1)[0]
    named, asked = make([{**row, "direction": "image_to_text"}]), plain([row])
    assert torch.equal(named["input_ids"], asked["input_ids"]) and torch.equal(named["labels"], asked["labels"])
    with pytest.raises(ValueError, match="0 questions cannot have the direction 'question'"):
        make([{**row, "questions": [], "direction": "question"}])
    with pytest.raises(ValueError, match="'sideways'"):
        make([{**row, "direction": "sideways"}])


@pytest.mark.parametrize(
    "row, message",
    [
        ({"codes": CODES[:31], "caption": "a"}, "32 integers"),
        ({"codes": [0.5] * 32, "caption": "a"}, "32 integers"),
        ({"codes": [64] * 32, "caption": "a"}, "0..63"),
        ({"codes": [-1] * 32, "caption": "a"}, "0..63"),
        ({"caption": "a"}, "codes and caption"),
    ],
)
def test_wrong_rows_are_refused(row, message):
    with pytest.raises(ValueError, match=message):
        collator()([row])


@pytest.mark.parametrize("wrong", [{"draw": 1.0}, {"question": 0.0}, {"question": -1.0, "image_to_text": 2.0}])
def test_wrong_directions_are_refused(wrong):
    with pytest.raises(ValueError, match="directions"):
        collator(directions=wrong)


# ---- training ----


def test_loss_falls_and_is_logged_by_kind(tmp_path):
    data = [*rows(12), *[{"text": "the blue fire engine"}] * 4]
    mix = {"image_to_text": 0.4, "text_to_image": 0.4, "question": 0.2}
    trainer = trainer_for(tiny_language_model(), config(tmp_path, lora_r=0, max_steps=60, logging_steps=20), data, mix)
    trainer.train()
    first, *_, last = [line for line in trainer.state.log_history if "loss" in line]
    assert {"caption_loss", "code_loss", "answer_loss", "text_loss"} <= set(last)
    assert last["caption_loss"] < 0.7 * first["caption_loss"] and last["code_loss"] < 0.9 * first["code_loss"]


@pytest.mark.parametrize("visual_embedding", ["learned", "projected"])
def test_the_loss_is_that_of_the_plain_model_with_labels(tmp_path, visual_embedding):
    """The loss is the same without the mask and without logits at positions that have no loss."""
    model = tiny_language_model(visual_embedding=visual_embedding)
    trainer = trainer_for(model, config(tmp_path, lora_r=0), mix={"image_to_text": 0.5, "text_to_image": 0.5})
    batch = trainer.data_collator([*rows(6), {"text": "a"}])
    model.eval()
    loss = trainer.compute_loss(model, batch)
    plain = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=batch["labels"])
    torch.testing.assert_close(loss, plain.loss, rtol=1e-5, atol=1e-6)
    shifted = F.cross_entropy(plain.logits[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten(), reduction="none")
    codes = batch["labels"][:, 1:].flatten() >= model.config.text_vocab_size
    ends = trainer._eval_window.read(trainer.accelerator)
    caption = shifted[(batch["labels"][:, 1:].flatten() != -100) & ~codes]
    assert ends["caption_loss"] <= caption.max() and shifted[codes].min() <= ends["code_loss"] <= shifted[codes].max()


def test_accumulated_batches_count_as_one(tmp_path):
    """Batches of captions and of codes have very different numbers of learned tokens."""
    weights = []
    for name, accumulation in (("whole", 1), ("parts", 4)):
        batches = {"per_device_train_batch_size": 8 // accumulation, "gradient_accumulation_steps": accumulation}
        args = config(tmp_path / name, max_steps=3, lora_dropout=0.0, code_loss_weight=0.3, logging_steps=1, **batches)
        model = tiny_language_model(dropout=0.0)
        trainer = LanguageModelTrainer(model, args, train_dataset=rows(), data_collator=collator())
        trainer.train()
        losses = torch.tensor([line["loss"] for line in trainer.state.log_history if "loss" in line])
        weights.append([losses, *(p.detach() for p in trainer.model.parameters() if p.requires_grad)])
    for whole, parts in zip(*weights):
        torch.testing.assert_close(parts, whole, atol=1e-6, rtol=1e-5)


def test_code_loss_weight(tmp_path):
    model = tiny_language_model().eval()
    trainer = trainer_for(model, config(tmp_path, lora_r=0, code_loss_weight=0.25))
    batch = trainer.data_collator(rows())
    loss = trainer.compute_loss(model, batch)
    means = trainer._eval_window.read(trainer.accelerator)
    counts = torch.bincount(batch["loss_kinds"], minlength=4)
    text, code = counts[0] * 1.0, counts[2] * 0.25
    expected = (means["caption_loss"] * text + means["code_loss"] * code) / (text + code)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("overrides", [{}, {"visual_embedding": "projected"}, {"tie_word_embeddings": False}])
def test_lora_trains_only_itself_and_the_new_rows(tmp_path, overrides):
    model = tiny_language_model(**overrides)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trainer = trainer_for(model, config(tmp_path))
    names = {n for n, p in trainer.model.named_parameters() if p.requires_grad}
    assert names and all("lora_" in n or "trainable_tokens" in n or "visual_projection" in n for n in names)
    trainer.train()
    trainer.model.eval()
    batch = trainer.data_collator(rows(4))
    with torch.no_grad():
        adapted = trainer.model(input_ids=batch["input_ids"]).logits
    merged = trainer.merge()
    assert isinstance(merged, SeedForCausalLM)
    with torch.no_grad():
        torch.testing.assert_close(merged(input_ids=batch["input_ids"]).logits, adapted, rtol=1e-4, atol=1e-4)
    after, c = merged.state_dict(), model.config
    assert set(after) == set(before)
    new = slice(c.boi_token_id, c.image_token_id)
    for name in ("model.decoder.embed_tokens.weight", "lm_head.weight"):
        assert torch.equal(after[name][: new.start], before[name][: new.start])
        assert torch.equal(after[name][new.stop :], before[name][new.stop :])
        if name == "lm_head.weight" or not overrides:  # a softmax moves every row of the output layer
            assert (after[name][new] != before[name][new]).any(1).all()
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    linear = ("q_proj.weight", "k_proj.weight", "v_proj.weight", "out_proj.weight", "fc1.weight", "fc2.weight")
    allowed = (*linear, "embed_tokens.weight", "lm_head.weight", "visual_projection.weight", "visual_projection.bias")
    assert all(name.endswith(allowed) for name in changed)
    tied = merged.lm_head.weight is merged.get_input_embeddings().weight
    assert tied == overrides.get("tie_word_embeddings", True)


def test_a_merged_model_saves_and_loads(tmp_path):
    trainer = trainer_for(tiny_language_model(), config(tmp_path, max_steps=3))
    trainer.train()
    merged = trainer.merge().eval()
    merged.save_pretrained(tmp_path / "model")
    loaded = SeedForCausalLM.from_pretrained(tmp_path / "model")
    for name, value in merged.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name]), name


def test_a_lora_checkpoint_holds_the_adapter_and_the_new_rows_alone(tmp_path):
    model = tiny_language_model()
    trainer_for(model, config(tmp_path, max_steps=2, save_strategy="steps", save_steps=2)).train()
    weights = load_file(tmp_path / "checkpoint-2" / "adapter_model.safetensors")
    rest = {name: value for name, value in weights.items() if "lora_" not in name}
    assert rest and {tuple(value.shape) for value in rest.values()} == {(64 + 2, 32)}


@pytest.mark.parametrize("overrides", [{"lora_r": 4}, {"lora_r": 0}])
def test_resume_equals_the_unbroken_run(tmp_path, overrides):
    """With dropout, drawn directions, and a checkpoint in the middle of an epoch and of a run."""
    settings = {"max_steps": 7, "save_strategy": "steps", "save_steps": 3, **overrides}
    unbroken = trainer_for(tiny_language_model(), config(tmp_path, per_device_train_batch_size=4, **settings))
    unbroken.train()
    resumed = trainer_for(tiny_language_model(), config(tmp_path, per_device_train_batch_size=4, **settings))
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    expected = unbroken.model.state_dict()
    for name, value in resumed.model.state_dict().items():
        assert torch.equal(value, expected[name]), name


def test_evaluation_reports_each_kind(tmp_path):
    trainer = trainer_for(tiny_language_model(), config(tmp_path, max_steps=1), eval_dataset=rows(8))
    trainer.train()
    assert {"eval_loss", "eval_caption_loss", "eval_code_loss"} <= set(trainer.evaluate())


def test_evaluations_leave_the_training_as_it_is(tmp_path):
    """Dropout draws the same masks, whether and how often is evaluated in between."""
    weights = []
    for often in ({}, {"eval_strategy": "steps", "eval_steps": 1}, {"eval_strategy": "steps", "eval_steps": 3}):
        args = config(tmp_path, max_steps=4, **often)
        trainer = trainer_for(tiny_language_model(), args, eval_dataset=rows(8))
        trainer.train()
        weights.append(trainer.model.state_dict())
    for name, value in weights[0].items():
        assert torch.equal(weights[1][name], value) and torch.equal(weights[2][name], value), name


def test_padding_is_no_token_that_was_seen(tmp_path):
    seen = []
    for pack_length in (None, 192):
        args = config(tmp_path, max_steps=2, include_num_input_tokens_seen="non_padding")
        make = collator(pack_length=pack_length, **only("image_to_text"))
        trainer = LanguageModelTrainer(tiny_language_model(), args, train_dataset=rows(16), data_collator=make)
        trainer.train()  # a pass over all rows
        seen.append(trainer.state.num_input_tokens_seen)
    assert seen[0] == seen[1] > 16 * 32


@pytest.mark.parametrize("wrong", [{"lora_r": -1}, {"code_loss_weight": 0.0}])
def test_impossible_arguments_are_refused(tmp_path, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        config(tmp_path, **wrong)
