"""Copies of a bundled checkpoint, and what is made of it, carry its licence and its notices."""

import json
import shutil

import pytest

from seed_hf import (
    SeedForConditionalGeneration,
    SeedImagePipeline,
    SeedImageProcessor,
    SeedProcessor,
    SeedTokenizer,
    bundled,
)
from seed_hf.artifacts.origins import origins_of
from seed_hf.hub import push, write_card
from seed_hf.hub.facts import Facts, facts_of, write_facts
from seed_hf.hub.front_matter import check_card
from tiny_artifacts import save_artifact


def saved_model(folder):
    SeedForConditionalGeneration.from_pretrained(bundled("seed-tiny", "model")).save_pretrained(folder)
    SeedProcessor.from_pretrained(bundled("seed-tiny", "model")).save_pretrained(folder)


def saved_tokenizer(folder):
    tokenizer = SeedTokenizer.from_pretrained(bundled("seed-tiny", "tokenizer"))
    SeedTokenizer.from_stage_one(tokenizer).save_pretrained(folder)
    SeedImageProcessor.for_tokenizer(tokenizer.config).save_pretrained(folder)


def saved_language_model(folder):
    whole = SeedForConditionalGeneration.from_pretrained(bundled("seed-tiny", "model"))
    whole.language_model.save_pretrained(folder)
    SeedProcessor.from_pretrained(bundled("seed-tiny", "model")).tokenizer.save_pretrained(folder)


def saved_pipeline(folder):
    SeedImagePipeline.from_pretrained(bundled("seed-tiny", "pipeline")).save_pretrained(folder)


@pytest.mark.parametrize("save", [saved_model, saved_tokenizer, saved_language_model, saved_pipeline])
def test_the_licence_and_the_notices_go_along(tmp_path, save):
    folder = tmp_path / "mine"
    save(folder)
    assert origins_of(folder) == ["seed-tiny"]
    text = write_card(folder, run_snippet=False).read_text(encoding="utf-8")
    assert check_card(text, "model")["license"] == "apache-2.0"
    assert "Made from seed-tiny" in text and "has to be distributed with the weights" in text
    assert "OpenMoji" in (folder / "NOTICE").read_text() and "Apache License" in (folder / "LICENSE").read_text()
    sent = push(folder, "me/mine", dry_run=True).files
    assert {"NOTICE", "LICENSE", "README.md"} <= set(sent)


def test_plain_models_and_adapters_carry_them_too(tmp_path, monkeypatch):
    from peft import LoraConfig, get_peft_model

    saved_model(tmp_path / "model")
    model = SeedForConditionalGeneration.from_pretrained(tmp_path / "model")
    model.language_model.to_plain().save_pretrained(tmp_path / "plain")
    assert origins_of(tmp_path / "plain") == ["seed-tiny"]
    get_peft_model(model, LoraConfig(r=2)).save_pretrained(tmp_path / "adapter")
    assert origins_of(tmp_path / "adapter") == ["seed-tiny"]
    monkeypatch.delenv("SEED_HF_RUN_SNIPPETS", raising=False)
    text = write_card(tmp_path / "adapter").read_text(encoding="utf-8")
    assert (tmp_path / "adapter" / "NOTICE").is_file() and "`model`" in text and str(tmp_path) not in text
    assert "with `place` and the base model set to their folders, and printed" in text


def test_the_base_of_an_adapter_that_is_bundled_is_named_so(tmp_path, monkeypatch):
    monkeypatch.delenv("SEED_HF_RUN_SNIPPETS", raising=False)
    from peft import LoraConfig, get_peft_model

    model = SeedForConditionalGeneration.from_pretrained(bundled("seed-tiny", "model"))
    get_peft_model(model, LoraConfig(r=2)).save_pretrained(tmp_path / "adapter")
    text = write_card(tmp_path / "adapter").read_text(encoding="utf-8")
    assert 'SeedProcessor.from_pretrained(bundled("seed-tiny", "model"))' in text and "`seed-tiny`" in text
    assert "with `place` set to the folder of these files, and printed" in text


def test_the_weights_of_an_adapter_tell_what_it_adapts(tmp_path, monkeypatch, caplog):
    from peft import LoraConfig, get_peft_model

    model = SeedForConditionalGeneration.from_pretrained(save_artifact("model", tmp_path / "model"))
    adapted = get_peft_model(model, LoraConfig(r=2, task_type="CAUSAL_LM"))  # peft names no class of the base then
    adapted.save_pretrained(tmp_path / "adapter")
    text = write_card(tmp_path / "adapter").read_text(encoding="utf-8")
    assert "SeedForConditionalGeneration.from_pretrained(place)" in text and "AutoModelForCausalLM" not in text
    config = tmp_path / "adapter" / "adapter_config.json"
    config.write_text(config.read_text().replace(str(tmp_path / "model"), "owner/nowhere"))
    monkeypatch.delenv("SEED_HF_RUN_SNIPPETS")
    assert "This program ran" not in write_card(tmp_path / "adapter").read_text(encoding="utf-8")
    assert "Is the base model on this machine? OSError: We couldn't connect" in caplog.text
    (tmp_path / "adapter" / "adapter_model.safetensors").write_bytes(b"cut")
    with pytest.raises(ValueError, match="adapter_model.safetensors: cannot be read as safetensors"):
        write_card(tmp_path / "adapter")


def test_files_that_are_there_stay_and_other_models_get_none(tmp_path):
    saved_tokenizer(tmp_path / "mine")
    (tmp_path / "mine" / "NOTICE").write_text("Mine.")
    write_card(tmp_path / "mine", run_snippet=False)
    assert (tmp_path / "mine" / "NOTICE").read_text() == "Mine."
    other = save_artifact("model", tmp_path / "other")
    assert origins_of(other) == []
    text = write_card(other, run_snippet=False).read_text(encoding="utf-8")
    assert "seed-tiny" not in text and not (other / "NOTICE").exists() and not (other / "LICENSE").exists()
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "derived_from": "../../etc"}))
    assert origins_of(other) == []  # nothing of the package


def test_an_authors_words_are_there_for_the_next_card(tmp_path):
    folder = save_artifact("model", tmp_path / "mine")
    facts = Facts(
        summary="Über: 'mine', no.", limits="none", language=["no"], license="mit", training={"notes": "1.10"}
    )
    write_facts(facts, folder)
    assert vars(facts_of(folder)) == vars(facts)
    for _ in range(2):
        text = write_card(folder, run_snippet=False).read_text(encoding="utf-8")
        assert "Über: 'mine', no." in text and check_card(text, "model")["license"] == "mit"


@pytest.mark.parametrize(
    ("training", "wanted", "unwanted"),
    [
        ({"stage": "contrastive", "model": {"blip2": "b"}}, "its codebook is random", "went on"),
        ({"stage": "contrastive", "model": {"tokenizer": "start"}}, "Stage I went on from start", "random"),
        (
            {"stage": "quantization", "model": {"stage_one": "one"}, "last_logged": {"vq_loss": 1.0}},
            "Nothing can be drawn",
            "still those",
        ),
        (
            {"stage": "quantization", "model": {"tokenizer": "start"}, "last_logged": {"vq_loss": 1.0}},
            "still those of start",
            "random",
        ),
        (
            {"stage": "quantization", "model": {"tokenizer": "start"}, "last_logged": {"generation_loss": 1.0}},
            "Codes of one tokenizer",
            "Nothing can",
        ),
        (  # too short to have logged a loss
            {"stage": "quantization", "model": {"tokenizer": "start"}, "last_logged": {"train_loss": 1.0}},
            "Codes of one tokenizer",
            "Nothing can",
        ),
    ],
)
def test_a_card_says_what_a_stage_has_not_trained(tmp_path, training, wanted, unwanted):
    folder = save_artifact("tokenizer", tmp_path / "mine")
    text = write_card(folder, training=training, run_snippet=False).read_text(encoding="utf-8")
    limits = text.partition("## Limits")[2]
    assert wanted in limits and unwanted not in limits


def test_a_data_set_says_what_was_left_out(tmp_path):
    folder = save_artifact("dataset", tmp_path / "codes")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest |= {"dropped": {"empty_caption": 3}, "bad_images": {**manifest["bad_images"], "reasons": {"no UTF-8": 1}}}
    shutil.copytree(folder, tmp_path / "other")
    (tmp_path / "other" / "manifest.json").write_text(json.dumps(manifest))
    text = write_card(tmp_path / "other", run_snippet=False).read_text(encoding="utf-8")
    assert "- Left out: 3, empty caption." in text and "- Not usable: 1, no UTF-8." in text
    assert "could not be read" not in text


def test_a_card_that_is_written_before_the_weights_names_them(tmp_path):
    """As `ModelCardCallback` of a trainer in Python does."""
    config = SeedTokenizer.from_pretrained(bundled("seed-tiny", "tokenizer")).config.to_dict()
    text = write_card(tmp_path, kind="tokenizer", config=config, run_snippet=False).read_text(encoding="utf-8")
    assert "Made from seed-tiny" in text and (tmp_path / "NOTICE").is_file()


def test_what_draws_is_of_the_checkpoint_with_another_model_too(tmp_path):
    pipe = SeedImagePipeline.from_pretrained(bundled("seed-tiny", "pipeline"), seed_model=None, processor=None)
    pipe.save_pretrained(tmp_path / "drawing")
    assert origins_of(tmp_path / "drawing") == ["seed-tiny"]


def test_push_takes_the_notices_along_beside_a_card_of_ones_own(tmp_path):
    saved_tokenizer(tmp_path / "mine")
    write_card(tmp_path / "mine", run_snippet=False)
    for name in ("NOTICE", "LICENSE"):  # as if the card had been written elsewhere
        (tmp_path / "mine" / name).unlink()
    sent = push(tmp_path / "mine", "me/mine", dry_run=True).files
    assert sent["NOTICE"] == sent["LICENSE"] == -1 and not (tmp_path / "mine" / "NOTICE").exists()


def test_an_adapter_is_still_of_the_checkpoint_when_its_base_is_published(tmp_path):
    from peft import LoraConfig, get_peft_model

    saved_model(tmp_path / "model")
    model = SeedForConditionalGeneration.from_pretrained(tmp_path / "model")
    get_peft_model(model, LoraConfig(r=2)).save_pretrained(tmp_path / "adapter")
    write_card(tmp_path / "adapter", run_snippet=False)
    path = tmp_path / "adapter" / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "base_model_name_or_path": "me/seed-mine"}))
    text = write_card(tmp_path / "adapter", run_snippet=False).read_text(encoding="utf-8")
    assert "Made from seed-tiny" in text and "`me/seed-mine`" in text


def test_an_adapter_in_the_folder_of_its_base(tmp_path):
    from peft import LoraConfig, get_peft_model

    saved_model(tmp_path / "model")
    model = SeedForConditionalGeneration.from_pretrained(tmp_path / "model")
    get_peft_model(model, LoraConfig(r=2)).save_pretrained(tmp_path / "model")
    assert origins_of(tmp_path / "model") == ["seed-tiny"]


def test_a_text_may_stand_for_the_model_of_the_training(tmp_path):
    folder = save_artifact("tokenizer", tmp_path / "mine")
    training = {"stage": "contrastive", "model": "BLIP-2's ViT-g"}
    assert "its codebook is random" in write_card(folder, training=training, run_snippet=False).read_text()
