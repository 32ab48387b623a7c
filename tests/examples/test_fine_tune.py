"""Fine-tuning on a folder of images and captions: `examples/fine_tune`, and the parts of the package that it uses."""

import csv
import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch.nn import functional as F

from seed_hf import SeedForConditionalGeneration, SeedProcessor
from seed_hf.evaluation.likelihoods import caption_likelihoods
from seed_hf.texts import describe, generate_texts
from seed_hf.training import LanguageModelCollator, LanguageModelConfig, LanguageModelTrainer
from tiny_families import whole_model
from tiny_language import picture, tiny_processor, tiny_seed_model


EXAMPLE = Path(__file__).parents[2] / "examples" / "fine_tune"
sys.path.insert(0, str(EXAMPLE))

from fine_tune import Settings, fine_tune, main, measure, split, table, with_plain_trainer  # noqa: E402
from make_pictures import make_pictures  # noqa: E402


CODES = torch.randint(0, 64, (5, 32), generator=torch.Generator().manual_seed(0))
CAPTIONS = ["a red apple", "the blue fire engine", "a red apple", "a photo", "no"]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    return make_pictures(tmp_path_factory.mktemp("made") / "pictures", 40)


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("tiny")
    tiny_seed_model().save_pretrained(folder)
    tiny_processor().save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def tuned(pictures, tiny_model, tmp_path_factory) -> Path:
    """A finished run of the tiny model: 56 steps, with a checkpoint after 50."""
    out = tmp_path_factory.mktemp("tuned") / "run"
    torch.set_num_threads(1)
    fine_tune(tiny_settings(pictures, tiny_model), out)
    return out


def tiny_settings(pictures, model, **changes) -> Settings:
    return Settings(str(pictures), model, **{"epochs": 3.5, "batch_size": 2, "rank": 2, "seed": 1, **changes})


def adapter_of(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "adapter" / "adapter_model.safetensors")


def with_captions(pictures: Path, folder: Path, change) -> Path:
    """A copy of the folder, with `change(name, caption)` for its captions."""
    shutil.copytree(pictures, folder)
    lines = [json.loads(line) for line in (folder / "metadata.jsonl").read_text(encoding="utf-8").splitlines()]
    lines = [{**line, "caption": change(line["file_name"], line["caption"])} for line in lines]
    (folder / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return folder


# ---- the trainer, on a whole model ----


def trained_whole_model(folder: Path, **overrides):
    model = tiny_seed_model()
    settings = {
        "lora_r": 2,
        "max_steps": 4,
        "learning_rate": 1e-2,
        "use_cpu": True,
        "save_strategy": "no",
        **overrides,
    }
    collator = LanguageModelCollator(tiny_processor().tokenizer, model.config.text_config)
    rows = [{"codes": codes.tolist(), "caption": caption} for codes, caption in zip(CODES, CAPTIONS)]
    trainer = LanguageModelTrainer(
        model, LanguageModelConfig(str(folder), **settings), data_collator=collator, train_dataset=rows
    )
    trainer.train()
    return trainer


@pytest.mark.parametrize("lora_r", [2, 0])
def test_of_a_whole_model_the_language_model_trains(tmp_path, lora_r):
    before = tiny_seed_model().state_dict()
    after = trained_whole_model(tmp_path, lora_r=lora_r).merge().state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert set(after) == set(before) and len(changed) > 5
    assert all(name.startswith("language_model.") for name in changed)


def test_lora_token_ids_are_the_rows_that_train(tmp_path):
    before = tiny_seed_model().get_input_embeddings().weight
    merged = trained_whole_model(tmp_path, lora_token_ids=[7, 20]).merge()
    after = merged.get_input_embeddings().weight
    assert (after != before).any(1).nonzero().flatten().tolist() == [7, 20]
    assert merged.get_output_embeddings().weight is after


def test_impossible_token_ids_are_refused(tmp_path):
    with pytest.raises(ValueError, match="lora_token_ids must lie in"):
        trained_whole_model(tmp_path, lora_token_ids=[7, 10**6])


# ---- choosing among captions ----


def test_likelihoods_are_those_of_the_whole_sequences():
    """One by one and without a cache, with the collator's sequences."""
    model, processor = tiny_seed_model(), tiny_processor()
    scores, lengths = caption_likelihoods(model, processor, CODES, CAPTIONS, batch_size=2)
    collator = LanguageModelCollator(processor.tokenizer, model.config.text_config)
    for row, codes in enumerate(CODES.tolist()):
        for column, caption in enumerate(CAPTIONS):
            batch = collator([{"codes": codes, "caption": caption, "direction": "image_to_text"}])
            with torch.no_grad():
                logits = model(input_ids=batch["input_ids"]).logits[0, :-1]
            expected = F.cross_entropy(logits, batch["labels"][0, 1:], reduction="sum", ignore_index=-100)
            assert scores[row, column].item() == pytest.approx(-expected.item(), rel=1e-4)
            assert lengths[column] == len(batch["loss_positions"])


def test_a_choice_is_right_if_its_likelihood_alone_is_highest():
    model, processor = tiny_seed_model(), tiny_processor()
    rows = [{"codes": codes, "caption": caption} for codes, caption in zip(CODES.tolist(), CAPTIONS)]
    result, _ = measure(model, processor, [], rows)
    candidates = ["a red apple", "the blue fire engine", "a photo", "no"]
    assert result["choice_blind"] == 25
    scores, lengths = caption_likelihoods(model, processor, CODES, candidates)
    own = torch.tensor([0, 1, 0, 2, 3])
    assert result["choice_accuracy"] == pytest.approx(100 * (scores.argmax(1) == own).float().mean().item())
    mean = -scores[range(5), own].sum() / lengths[own].sum()
    assert result["caption_loss"] == pytest.approx(mean.item(), rel=1e-5)
    with torch.no_grad():
        for parameter in model.language_model.parameters():
            parameter.zero_()  # every token as likely as every other: equally long captions tie
    tied = [{"codes": codes, "caption": caption} for codes, caption in zip(CODES.tolist(), ["xq", "qx"])]
    assert measure(model, processor, [], tied)[0]["choice_accuracy"] == 0


def test_captions_are_those_of_the_pictures_and_compared_without_case_spaces_and_a_full_stop():
    model, processor = tiny_seed_model(), tiny_processor()
    images = [picture(colour) for colour in ("red", "green", "blue")]
    codes = model.visual_tokenizer.encode(processor(images=images, return_tensors="pt").pixel_values).tolist()
    said = describe(model, processor, images)
    wanted = [f" {said[0].upper()}  .", "something else", said[2]]
    rows = [{"codes": of_image, "caption": caption} for of_image, caption in zip(codes, wanted)]
    result, captions = measure(model, processor, rows[1:], rows)
    assert captions == said
    assert result["exact_match"] == pytest.approx(200 / 3) and result["exact_match_new_captions"] == 100


# ---- the script ----


def test_the_plain_trainer_improves_seed_tiny(pictures, tmp_path):
    """The notebook uses the seed trainer."""
    results = fine_tune(Settings(str(pictures), trainer="plain", epochs=3, batch_size=8), tmp_path / "run")
    before, after = results["before"], results["after"]
    assert after["caption_loss"] < 0.6 * before["caption_loss"]
    assert set(before) == set(after)
    assert json.loads((tmp_path / "run" / "results.json").read_text()) == results
    assert f"{before['caption_loss']:.2f}" in table(results) and f"{after['caption_loss']:.2f}" in table(results)


def test_the_model_is_the_base_with_the_adapter(tuned, tiny_model):
    """`model/` loads by itself; `adapter/` through peft and through transformers, and both say the same."""
    ids = torch.tensor([tiny_processor().sequences.prompt("caption", codes=codes) for codes in CODES.tolist()])
    base = SeedForConditionalGeneration.from_pretrained(tiny_model)
    loaded = {
        "model": SeedForConditionalGeneration.from_pretrained(tuned / "model"),
        "peft": PeftModel.from_pretrained(SeedForConditionalGeneration.from_pretrained(tiny_model), tuned / "adapter"),
        "transformers": SeedForConditionalGeneration.from_pretrained(tuned / "adapter"),
    }
    with torch.no_grad():
        logits = {name: model.eval()(input_ids=ids).logits for name, model in loaded.items()}
        assert not torch.allclose(logits["model"], base.eval()(input_ids=ids).logits, atol=1e-2)
    for name in ("peft", "transformers"):
        torch.testing.assert_close(logits[name], logits["model"], rtol=1e-5, atol=1e-5)
    assert not list(tuned.glob("adapter/*.bin")) and not list(tuned.glob("model/*.bin"))


def test_the_model_loads_wherever_seed_tiny_does(tuned, monkeypatch):
    from transformers import AutoModelForMultimodalLM, AutoProcessor, pipeline
    from transformers.pipelines import any_to_any

    # It asks for torchvision, whatever the processor needs.
    monkeypatch.setattr(any_to_any, "requires_backends", lambda *args: None)
    processor = SeedProcessor.from_pretrained(tuned / "model")
    model = AutoModelForMultimodalLM.from_pretrained(tuned / "model")
    assert type(model) is SeedForConditionalGeneration
    assert type(AutoProcessor.from_pretrained(tuned / "model")) is SeedProcessor
    codes = model.visual_tokenizer.encode(processor(images=picture()).pixel_values)
    expected = generate_texts(model, processor, processor.caption(codes=codes), max_new_tokens=8)
    task = pipeline("any-to-any", model=str(tuned / "model"))
    chat = [{"role": "user", "content": [{"type": "image", "image": picture()}]}]
    said = task(text=chat, max_new_tokens=8, return_full_text=False, generate_kwargs={"do_sample": False})
    assert said[0]["generated_text"].strip() == expected[0]


def test_the_parts_are_apart(tuned):
    parts = json.loads((tuned / "split.json").read_text())
    assert len(parts["held_out"]) == 8 and not set(parts["train"]) & set(parts["held_out"])
    said = json.loads((tuned / "results.json").read_text())["captions"]
    assert [row["id"] for row in said] == parts["held_out"]


def test_held_out_captions_change_nothing_of_what_is_trained(pictures, tiny_model, tuned, tmp_path):
    held_out = json.loads((tuned / "split.json").read_text())["held_out"]
    other = with_captions(pictures, tmp_path / "other", lambda name, caption: "zebra" if name in held_out else caption)
    results = fine_tune(tiny_settings(other, tiny_model), tmp_path / "run")
    assert results["pictures"]["held_out_with_a_caption_never_trained_on"] == 8
    expected, adapter = adapter_of(tuned), adapter_of(tmp_path / "run")
    assert set(adapter) == set(expected)
    assert all(torch.equal(adapter[name], expected[name]) for name in expected)


def test_pictures_of_equal_codes_are_not_in_both_parts():
    rows = [{"id": str(i), "caption": "a", "codes": [i % 25] * 32} for i in range(50)]
    train, held_out = split(rows, 0.2)
    assert len(held_out) == 10 and len(train) >= 8
    assert not {tuple(row["codes"]) for row in train} & {tuple(row["codes"]) for row in held_out}
    again = split(rows[::-1], 0.2)
    assert again == (train, held_out)


@pytest.mark.parametrize("lost", [["training/checkpoint-56"], ["training"], []], ids=["half", "begun", "saving"])
def test_an_interrupted_run_goes_on(pictures, tiny_model, tuned, tmp_path, lost):
    out = tmp_path / "run"
    shutil.copytree(tuned, out)
    for name in ["results.json", "adapter", "model/config.json", *lost]:
        shutil.rmtree(out / name) if (out / name).is_dir() else (out / name).unlink()
    results = fine_tune(tiny_settings(pictures, tiny_model), out)
    assert results == json.loads((tuned / "results.json").read_text())
    expected, adapter = adapter_of(tuned), adapter_of(out)
    assert all(torch.equal(adapter[name], expected[name]) for name in expected)
    assert (out / "model" / "config.json").is_file()


def test_a_plain_run_that_ended_before_it_was_saved_is_saved(pictures, tiny_model, tmp_path):
    settings = tiny_settings(pictures, tiny_model, trainer="plain", epochs=1)
    fine_tune(settings, tmp_path / "run")
    expected = adapter_of(tmp_path / "run")
    for name in ("results.json", "adapter"):
        (shutil.rmtree if name == "adapter" else Path.unlink)(tmp_path / "run" / name)
    fine_tune(settings, tmp_path / "run")
    adapter = adapter_of(tmp_path / "run")
    assert all(torch.equal(adapter[name], expected[name]) for name in expected)


def test_a_finished_run_is_left_alone_and_other_settings_are_refused(pictures, tiny_model, tuned):
    modified = (tuned / "model" / "model.safetensors").stat().st_mtime_ns
    assert fine_tune(tiny_settings(pictures, tiny_model), tuned)["after"]
    assert (tuned / "model" / "model.safetensors").stat().st_mtime_ns == modified
    with pytest.raises(ValueError, match="was begun with epochs=3.5"):
        fine_tune(tiny_settings(pictures, tiny_model, epochs=4), tuned)
    begun = json.loads((tuned / "settings.json").read_text())
    (tuned / "settings.json").write_text(json.dumps({**begun, "images": {**begun["images"], "files": "others"}}))
    try:
        with pytest.raises(ValueError, match="was begun with other images"):
            fine_tune(tiny_settings(pictures, tiny_model), tuned)
    finally:
        (tuned / "settings.json").write_text(json.dumps(begun))


@pytest.mark.parametrize("family", ["opt", "llama", "qwen3"])
def test_the_plain_trainer_adapts_all_linear_layers_of_a_block(pictures, tiny_model, tmp_path, family):
    model, processor = whole_model(family), tiny_processor()
    rows = [{"id": str(i), "caption": "a red apple", "codes": list(range(32))} for i in range(8)]
    settings = tiny_settings(pictures, tiny_model, trainer="plain", epochs=1)
    adapted = with_plain_trainer(model, processor, rows, settings, str(tmp_path / "run")).model
    found = {name.rpartition(".")[2] for name in adapted.base_model.targeted_module_names}
    assert found >= set(model.language_model.family.linear_layers)
    trained = {name for name, weight in adapted.named_parameters() if weight.requires_grad}
    tied = model.language_model.config.tie_word_embeddings
    assert any("lm_head" in name for name in trained) != tied


def test_wrong_pictures_are_refused_before_any_training(pictures, tiny_model, tmp_path):
    def refused(folder, error, message, **changes):
        with pytest.raises(error, match=message):
            fine_tune(tiny_settings(folder, tiny_model, **changes), tmp_path / "run")
        assert not (tmp_path / "run" / "training").exists()
        shutil.rmtree(tmp_path / "run", ignore_errors=True)

    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", (ValueError, FileNotFoundError), "empty")
    refused(tmp_path / "nowhere", FileNotFoundError, "no such file or folder")
    shutil.copytree(pictures, tmp_path / "bare")
    (tmp_path / "bare" / "metadata.jsonl").unlink()
    refused(tmp_path / "bare", ValueError, "caption")
    few = with_captions(pictures, tmp_path / "few", lambda name, caption: caption if name < "00008" else "")
    refused(few, ValueError, "Of 8 images with captions, 6 are train; at least 8 are needed")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("keep me")
    refused(pictures, ValueError, "is not empty")


@pytest.mark.parametrize("wrong", [{"trainer": "none"}, {"held_out": 1.0}, {"epochs": 0}, {"rank": -1}])
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Settings("pictures", **wrong)


def test_csv_and_several_captions(pictures, tiny_model, tmp_path):
    """metadata.csv is read too, and a caption column of another name."""
    shutil.copytree(pictures, tmp_path / "csv")
    lines = [json.loads(line) for line in (tmp_path / "csv" / "metadata.jsonl").read_text().splitlines()]
    (tmp_path / "csv" / "metadata.jsonl").unlink()
    with open(tmp_path / "csv" / "metadata.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["file_name", "label"], *[[x["file_name"], x["caption"]] for x in lines]])
    settings = {"epochs": 1, "batch_size": 16, "trainer": "plain"}
    named = tiny_settings(tmp_path / "csv", tiny_model, caption_column="label", **settings)
    one = fine_tune(named, tmp_path / "one")
    assert one["pictures"]["held_out"] == 8
    several = with_captions(pictures, tmp_path / "several", lambda name, caption: [caption, "a red apple"])
    two = fine_tune(tiny_settings(several, tiny_model, **settings), tmp_path / "two")
    assert two["before"] == one["before"]  # the first caption is measured


def test_from_the_command_line(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([str(tmp_path / "nowhere"), "--out", str(tmp_path / "run")])
    assert stopped.value.code == 2 and "no such file or folder" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "held-out" in capsys.readouterr().out


def test_the_cards_are_written_and_a_push_can_be_tried(tuned, pictures, tiny_model, monkeypatch):
    """The usage program of each card runs too."""
    pytest.importorskip("seed_hf.hub")
    from fine_tune import publish

    monkeypatch.setenv("SEED_HF_RUN_SNIPPETS", "1")
    results = json.loads((tuned / "results.json").read_text())
    report = publish(tuned, tiny_settings(pictures, tiny_model), results, "me/tuned", dry_run=True)
    assert report is not None
    for name in ("model", "adapter"):
        card = (tuned / name / "README.md").read_text(encoding="utf-8")
        assert "loss of the right caption, nats per token: after" in card and str(pictures) not in card


# ---- the images and the notebook ----


def test_made_pictures_are_captioned_and_the_same_each_time(pictures, tmp_path):
    lines = [json.loads(line) for line in (pictures / "metadata.jsonl").read_text().splitlines()]
    assert len(lines) == 40 and all((pictures / line["file_name"]).is_file() for line in lines)
    assert len({line["caption"] for line in lines}) > 20
    again = make_pictures(tmp_path / "again", 40)
    assert all((again / file.name).read_bytes() == file.read_bytes() for file in pictures.iterdir())
    other = make_pictures(tmp_path / "other", 40, seed=1)
    assert (other / "metadata.jsonl").read_text() != (again / "metadata.jsonl").read_text()
    with pytest.raises(FileExistsError, match="not empty"):
        make_pictures(again, 40)
    with pytest.raises(ValueError, match="at least 1"):
        make_pictures(tmp_path / "none", 0)


def test_the_notebook_runs(tmp_path, monkeypatch):
    """All code cells in order, with smaller values in the cell that has them."""
    monkeypatch.chdir(tmp_path)
    cells = json.loads((EXAMPLE / "fine_tune.ipynb").read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    sizes = [cell for cell in code if "parameters" in cell["metadata"].get("tags", [])]
    assert len(sizes) == 1 and not any(cell["outputs"] for cell in code)
    sizes[0]["source"] = ["COUNT, EPOCHS = 40, 6"]
    names: dict = {}
    for cell in code:
        exec("".join(cell["source"]), names)
    results = names["results"]
    assert results["after"]["caption_loss"] < 0.6 * results["before"]["caption_loss"]
    assert names["caption"]
