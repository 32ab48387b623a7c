"""The record of a training and its card: what was trained on what, without paths or secrets of this machine."""

import json
import re
from types import SimpleNamespace

import pytest
import yaml
from transformers import TrainerControl, TrainerState

from seed_hf.artifacts.whole import problems
from seed_hf.hub import ModelCardCallback, kind_of, write_card
from seed_hf.hub.front_matter import check_card
from seed_hf.hub.snippet import SWITCH
from seed_hf.hub.training_record import evaluation_of_result, training_record
from seed_hf.recipes.reading import read_recipe
from seed_hf.recipes.running import run_stage
from seed_hf.training.contrastive import ContrastiveConfig
from seed_hf.training.language_model import LanguageModelConfig
from stage_recipes import OPT, TRAINER, contrastive, folder, write  # noqa: F401  folder is a fixture
from tiny import tiny_tokenizer
from tiny_language import tiny_language_model


def record(output) -> dict:
    return json.loads((output / "train_config.json").read_text())


def rows(text: str) -> dict[str, str]:
    return dict(re.findall(r"^\| ([\w.]+) \| (.*) \|$", text, re.MULTILINE))


def test_a_stage_leaves_a_card_with_what_was_trained_on_what(folder, monkeypatch):  # noqa: F811
    monkeypatch.delenv(SWITCH)
    recipe = contrastive(eval_strategy="steps", eval_steps=3, weight_decay=0.25)
    recipe["data"].update(train=str(folder / "images.parquet"), validation="images.parquet")
    output = run_stage("contrastive", write(recipe))
    assert kind_of(output) == "tokenizer" and problems(output, "tokenizer") == []
    found, text = record(folder / "out"), (folder / "out" / "README.md").read_text()
    assert found["stage"] == "contrastive" and found["steps"] == 3 and found["batch_size"] == 4
    assert found["trainer"]["weight_decay"] == 0.25 and found["trainer"]["learning_rate"] == 1e-3
    assert found["data"]["train"] == "images.parquet"  # the folders above it are nobody's business
    assert found["versions"]["seed_hf"] and found["hardware"] and found["seconds"] > 0
    assert "output_dir" not in found["trainer"] and str(folder) not in json.dumps(found) + text
    # the card says the same, shows the last evaluation, and that the codebook is from before
    table = rows(text)
    assert table["trainer.weight_decay"] == "0.25" and table["steps"] == "3" and table["stage"] == "contrastive"
    state = json.loads((folder / "out" / "trainer_state.json").read_text())
    loss = next(line["eval_loss"] for line in reversed(state["log_history"]) if "eval_loss" in line)
    assert json.loads((folder / "out" / "results.json").read_text())["eval_loss"] == loss
    assert table["eval_loss"] == f"{loss:.4g}" and "Stage I went on from tokenizer" in text
    assert "This program ran" in text and "(1, 16)" in text and "encode(" not in text
    # and can be written again from the folder alone
    monkeypatch.setenv(SWITCH, "0")
    before = text
    after = write_card(folder / "out").read_text()
    assert rows(after) == rows(before) and "This program ran" not in after


def test_a_language_model_has_a_card_and_a_plain_one_has_none(folder):  # noqa: F811
    text = {
        "model": {"config": OPT, "text_tokenizer": "text_tokenizer"},
        "data": {"train": "texts.parquet"},
        "trainer": {**TRAINER, "output_dir": "opt", "lora_r": 0, "max_steps": 1},
    }
    run_stage("lm", write(text))
    assert record(folder / "opt")["steps"] == 1 and record(folder / "opt")["trainer"]["lora_r"] == 0
    assert "lora_alpha" not in record(folder / "opt")["trainer"] and not (folder / "opt" / "README.md").exists()
    # as if that OPT had come from the Hub: its children inherit the parent, and with it the licence
    changed = {**record(folder / "opt"), "base_model": ["facebook/opt-125m"]}
    (folder / "opt" / "train_config.json").write_text(json.dumps(changed))
    lm = {
        "model": {"language_model": "opt", "visual_tokenizer": "tokenizer"},
        "data": {"train": "codes.parquet"},
        "trainer": {**TRAINER, "output_dir": "lm", "max_steps": 1},
    }
    run_stage("lm", write(lm))
    assert kind_of(folder / "lm") == "language_model" and problems(folder / "lm", "language_model") == []
    text = (folder / "lm" / "README.md").read_text()
    metadata = check_card(text, "language_model")
    assert rows(text)["trainer.lora_r"] == "16" and rows(text)["trainer.lora_alpha"] == "32"  # the defaults
    assert metadata["base_model"] == ["facebook/opt-125m"] and metadata["license_name"] == "opt-license"
    assert not (folder / "lm" / "results.json").exists() and "## Results" not in text


@pytest.fixture
def finished(tmp_path):
    """A callback after a training run of one step."""

    def finish(model, args, recipe=None, main=True, **options):
        callback = ModelCardCallback(recipe, **options)
        state = TrainerState(global_step=1, epoch=0.5, is_world_process_zero=main)
        state.log_history = [{"loss": 2.5, "step": 1, "epoch": 0.5, "train_runtime": 3.0}]
        callback.on_train_begin(args, TrainerState(), TrainerControl())
        callback.on_train_end(args, state, TrainerControl(), model=model)
        return callback

    return finish


def test_parents_and_data_on_the_hub_are_recorded(finished, tmp_path):
    recipe = {
        "model": {"language_model": "facebook/opt-125m", "visual_tokenizer": "owner/tokenizer"},
        "data": {"train": "owner/codes"},
        "trainer": {**TRAINER, "output_dir": str(tmp_path / "out"), "hub_token": "hf_secret"},
    }
    recipe = read_recipe("lm", write(recipe, str(tmp_path / "recipe.yaml")))
    finished(tiny_language_model(), recipe.trainer, recipe)
    found, text = record(tmp_path / "out"), (tmp_path / "out" / "README.md").read_text()
    assert found["base_model"] == ["facebook/opt-125m"] and found["datasets"] == ["owner/codes"]
    assert found["last_logged"] == {"loss": 2.5}
    metadata = check_card(text, "language_model")
    assert metadata["datasets"] == ["owner/codes"] and metadata["pipeline_tag"] == "text-generation"
    assert "hf_secret" not in json.dumps(found) + text and str(tmp_path) not in json.dumps(found) + text


def test_nothing_secret_of_an_address_is_recorded():
    args, state = LanguageModelConfig(output_dir="x", max_steps=1), TrainerState()
    signed = "https://alice:hunter2@example.org/a/{000..009}.tar?X-Amz-Signature=abc#part"
    recipe = SimpleNamespace(
        stage="lm",
        model=SimpleNamespace(language_model="../../home/alice/base"),
        data=SimpleNamespace(train=[signed, {"source": "you/pairs", "weight": 1.0}]),
    )
    found = training_record(args, state, recipe, seconds=1)
    assert found["data"]["train"] == ["https://example.org/a/{000..009}.tar", {"source": "you/pairs", "weight": 1.0}]
    assert found["datasets"] == ["you/pairs"] and found["model"]["language_model"] == "base"
    recipe.data.train = "https://[0-9].example.org/x.tar?key=abc"  # no address at all ends no training
    recipe.model.language_model = "a/../../home/alice/base"
    odd = training_record(args, state, recipe, seconds=1)
    assert odd["data"]["train"] == "x.tar" and odd["model"]["language_model"] == "base"
    assert not {"alice", "hunter2", "abc"} & set(re.findall(r"\w+", json.dumps(found)))


def test_the_figures_are_those_of_the_best_step():
    args = LanguageModelConfig(output_dir="x", eval_strategy="steps", eval_steps=1, save_steps=1,
                               load_best_model_at_end=True)  # fmt: skip
    state = TrainerState(best_global_step=1, global_step=2)
    state.log_history = [{"eval_loss": 3.0, "step": 1}, {"eval_loss": 4.0, "step": 2}]
    assert evaluation_of_result(args, state) == {"eval_loss": 3.0}
    args.load_best_model_at_end = False
    assert evaluation_of_result(args, state) == {"eval_loss": 4.0}


def test_a_trainer_of_ones_own(finished, tmp_path):
    args = ContrastiveConfig(output_dir=str(tmp_path / "out"), use_cpu=True)
    callback = finished(tiny_tokenizer(), args, title="Mine", datasets=["owner/pictures"])
    card = tmp_path / "out" / "README.md"
    assert "# Mine" in card.read_text()  # at the end of training, before the weights are saved
    tiny_tokenizer().save_pretrained(tmp_path / "saved")
    (tmp_path / "saved" / "results.json").write_text('{"old": 1.0}')  # of the weights before
    text = callback.write(tmp_path / "saved").read_text()
    assert check_card(text, "tokenizer")["datasets"] == ["owner/pictures"] and "old" not in rows(text)


def test_other_processes_write_nothing_and_trouble_with_the_card_ends_nothing(finished, tmp_path, caplog):
    args = LanguageModelConfig(output_dir=str(tmp_path / "out"), use_cpu=True)
    assert finished(tiny_language_model(), args, main=False).write(tmp_path / "out") is None
    assert not (tmp_path / "out" / "train_config.json").exists()
    (tmp_path / "out").mkdir(exist_ok=True)
    (tmp_path / "out" / "card.yaml").write_text(yaml.safe_dump({"license": "none of them"}))
    finished(tiny_language_model(), args)
    assert "model card was not written" in caplog.text and record(tmp_path / "out")["steps"] == 1
