"""A folder belongs to one run: what it was begun with is compared before it goes on, and a lock keeps others out."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import TrainingArguments

import stage_one
from command_line import refused, run
from full_disks import room_for
from seed_hf.data.sources import fingerprint
from seed_hf.locks import FolderLock
from seed_hf.recipes.identity import run_identity
from seed_hf.recipes.reading import read_recipe
from seed_hf.recipes.run_record import RunRecord
from seed_hf.recipes.running import run_stage
from stage_recipes import TRAINER, contrastive, folder, write  # noqa: F401  folder is a fixture
from tiny import tiny_text_encoder, tiny_tokenizer


def language_model(**trainer):
    """Two steps of LoRA on a tiny language model with codes."""
    from language_stage import tiny_language_model

    tiny_language_model().save_pretrained("language_model")
    return {
        "model": {"language_model": "language_model", "text_tokenizer": "text_tokenizer"},
        "data": {"train": "codes.parquet"},
        "trainer": {**TRAINER, "max_steps": 2, "output_dir": "out", "lora_r": 2, **trainer},
    }


def content(place: str) -> dict[str, bytes]:
    """All files of a finished run but the lock."""
    files = [path for path in Path(place).rglob("*") if path.is_file() and path.name != "lock"]
    return {str(path): path.read_bytes() for path in files}


def other_rows():
    table = pq.read_table("images.parquet")
    pq.write_table(table.take([1, 0, 2, 3, 4, 5, 6, 7]), "images.parquet")


def other_weights():
    tiny_tokenizer(seed=1).save_pretrained("tokenizer")


def other_words():
    path = Path("text_tokenizer/tokenizer.json")
    path.write_text(path.read_text().replace('"lowercase"', '"Lowercase"'))
    rules = json.loads(path.read_text())
    rules["normalizer"] = None
    path.write_text(json.dumps(rules))


@pytest.fixture
def finished(folder):
    """A finished run of stage I in `out`."""
    run_stage("contrastive", write(contrastive()))
    return folder


def test_another_run_in_the_same_folder_is_refused_and_changes_nothing(finished):
    before = content("out")
    for change, message in (
        ("trainer.learning_rate=2e-3", "trainer.learning_rate was 0.001, is 0.002"),
        ("trainer.per_device_train_batch_size=2", "trainer.per_device_train_batch_size times processes was 4, is 2"),
        ("trainer.seed=1", "trainer.seed was 42, is 1"),
        ("trainer.max_grad_norm=3.0", "trainer.max_grad_norm was 1.0, is 3.0"),
        ("trainer.lr_scheduler_kwargs={min_lr: 0.0}", "trainer.lr_scheduler_kwargs.min_lr_rate was 0.1, is 'not set'"),
        ("data.augment=true", "data.augment was False, is True"),
        ("data.caption_column=words", "data.caption_column was None, is 'words'"),
        ("data.streaming=true", "data.streaming was False, is True"),
        ("trainer.max_steps=2", "begun with trainer.max_steps: 3, now trainer.max_steps is 2"),
        ("trainer.max_steps=-1", "begun with trainer.max_steps: 3, now trainer.num_train_epochs is 10"),
    ):
        with pytest.raises(ValueError, match=message):
            run_stage("contrastive", write(contrastive()), [change])
        assert content("out") == before, change
    for place, change, message in (
        ("images.parquet", other_rows, "data.train has another content"),
        ("tokenizer", other_weights, "model.tokenizer has another content"),
        ("text_tokenizer", other_words, "model.text_tokenizer has another content"),
    ):
        kept = content(place) or {place: Path(place).read_bytes()}
        change()
        with pytest.raises(ValueError, match=message):
            run_stage("contrastive", write(contrastive()))
        for name, value in kept.items():
            Path(name).write_bytes(value)
        assert content("out") == before, place


@pytest.mark.slow
def test_a_checkpoint_is_not_continued_with_other_settings(finished):
    """Not only a finished run: a killed one is not continued with what it was not begun with."""
    (finished / "out" / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="trainer.weight_decay was 0.05, is 0.1"):
        run_stage("contrastive", write(contrastive()), ["trainer.weight_decay=0.1"])


def test_what_does_not_change_the_weights_may_change(finished, caplog):
    before = content("out")
    shutil.copytree("tokenizer", "the_same")
    shutil.move("images.parquet", "moved.parquet")
    recipe = contrastive(logging_steps=3, save_steps=1, report_to="none", dataloader_num_workers=1, eval_steps=2)
    recipe["model"]["tokenizer"] = "the_same"
    recipe["data"]["train"] = "moved.parquet"
    assert run_stage("contrastive", write(recipe)).name == "out"
    assert "finished already" in caplog.text and content("out") == before
    (finished / "out").rename(finished / "elsewhere")
    run_stage("contrastive", write(recipe), ["trainer.output_dir=elsewhere"])
    assert {Path(name).name for name in content("elsewhere")} == {Path(name).name for name in before}


def test_a_run_may_grow(finished):
    """It goes on from its last checkpoint, and the card and the record tell of the longer run."""
    run_stage("contrastive", write(contrastive()), ["trainer.max_steps=5"])
    state = json.loads(Path("out/trainer_state.json").read_text())
    assert state["global_step"] == 5 and [line["step"] for line in state["log_history"] if "loss" in line][-2:] == [
        4,
        5,
    ]
    assert json.loads(Path("out/train_config.json").read_text())["steps"] == 5
    record = json.loads(Path("out/.run/record.json").read_text())
    assert record["length"] == {"max_steps": 5} and record["finished"]["steps"] == 5
    with pytest.raises(ValueError, match="begun with trainer.max_steps: 5, now trainer.max_steps is 3"):
        run_stage("contrastive", write(contrastive()))


def test_lora_is_part_of_a_run(folder):
    path = write(language_model())
    run_stage("lm", path)
    before = content("out")
    for change, message in (("lora_r=4", "lora_r was 2, is 4"), ("lora_alpha=8", "lora_alpha was 32, is 8")):
        with pytest.raises(ValueError, match=f"trainer.{message}"):
            run_stage("lm", path, [f"trainer.{change}"])
    for name, change in (("directions", "{question: 1}"), ("pack_length", "96")):
        with pytest.raises(ValueError, match=f"data.{name} was None"):
            run_stage("lm", path, [f"data.{name}={change}"])
    words = json.loads(Path("text_tokenizer/tokenizer.json").read_text())
    assert content("out") == before and words
    run_stage("lm", path, ["trainer.max_steps=3"])
    assert json.loads(Path("out/trainer_state.json").read_text())["global_step"] == 3


def test_stage_two_names_what_it_sees_and_matches(folder):
    tiny_text_encoder().save_pretrained("text_encoder")
    model = {"stage_one": "tokenizer", "text_encoder": "text_encoder", "text_tokenizer": "text_tokenizer"}
    recipe = {"model": model, "data": {"train": "images.parquet"}, "trainer": {**TRAINER, "output_dir": "out"}}
    path = write(recipe)
    first = run_identity(read_recipe("quantization", path))
    assert first == run_identity(read_recipe("quantization", path))
    tiny_text_encoder(seed=1).save_pretrained("text_encoder")
    second = run_identity(read_recipe("quantization", path, ["model.settings.codebook_size=16"]))
    assert {key for key in first["model"] if first["model"][key] != second["model"][key]} == {
        "text_encoder",
        "settings",
    }
    third = run_identity(read_recipe("quantization", path, ["data.validation=images.parquet"]))
    assert third == {**second, "model": {**second["model"], "settings": None}}


def test_a_stream_counts_its_loader_processes_and_a_best_model_its_evaluations(folder):
    path = write(contrastive())
    stream = ["data.streaming=true", "trainer.dataloader_num_workers=0"]
    one, two = (run_identity(read_recipe("contrastive", path, [*stream, f"trainer.{more}"])) for more in (
        "dataloader_num_workers=0", "dataloader_num_workers=2"))  # fmt: skip
    assert one["trainer"]["dataloader_num_workers"] == 0 and one != two
    assert one["data"]["train"]["kind"] == "parquet"
    best = ["trainer.load_best_model_at_end=true", "trainer.eval_strategy=steps", "data.validation=images.parquet"]
    found = run_identity(read_recipe("contrastive", path, [*best, "trainer.eval_steps=2"]))
    assert found["trainer"]["eval_steps"] == 2 and found["data"]["validation"] == found["data"]["train"]
    more = ["trainer.eval_steps=2", "trainer.per_device_eval_batch_size=4"]
    assert run_identity(read_recipe("contrastive", path, [*best, *more])) != found


def test_streams_are_known_by_content(folder, caplog):
    """An edit of the same length is another run; a copy is the same."""
    caplog.set_level("INFO")
    pictures = folder / "pictures"
    pictures.mkdir()
    for i in range(8):
        Image.new("RGB", (20, 30)).save(pictures / f"{i}.png")
    (pictures / "metadata.csv").write_text("file_name,caption\n" + "".join(f"{i}.png,a red apple\n" for i in range(8)))
    recipe = contrastive()
    recipe["data"] = {"train": "pictures", "streaming": True}
    path = write(recipe)
    run_stage("contrastive", path)
    assert caplog.text.count("to know them again") == 1
    shutil.copytree(pictures, "copied")
    run_stage("contrastive", path, ["data.train=copied"])
    assert "finished already" in caplog.text
    text = (pictures / "metadata.csv").read_text()
    (pictures / "metadata.csv").write_text(text.replace("red", "ret"))
    with pytest.raises(ValueError, match="data.train has another content"):
        run_stage("contrastive", path)


@pytest.mark.parametrize("kind", ["contrastive", "stream", "folder", "instruct"])
def test_images_that_rows_name_by_path_are_part_of_a_run(folder, kind, monkeypatch):
    monkeypatch.setattr(fingerprint, "_RECENT", 0)  # so that the stamp of a stream is believed at once

    def paint(colour):
        for i in range(4):
            Image.new("RGB", (20, 30), colour).save(folder / "named" / f"{i}.image", "PNG")

    (folder / "named").mkdir()
    paint("red")
    names, captions = [f"{i}.image" for i in range(4)], ["a red apple"] * 4
    pq.write_table(pa.table({"image": [f"named/{name}" for name in names], "caption": captions}), "named.parquet")
    pq.write_table(pa.table({"file_name": names, "caption": captions}), "named/metadata.parquet")
    recipe = contrastive()
    recipe["data"] = {"train": "named" if kind == "folder" else "named.parquet"}
    if kind in ("stream", "folder"):
        recipe["data"]["streaming"] = True
    if kind == "instruct":
        recipe = {**language_model(), "data": recipe["data"]}
    recipe = read_recipe("instruct" if kind == "instruct" else "contrastive", write(recipe))
    red = run_identity(recipe)
    paint("blue")
    blue = run_identity(recipe, red)
    paint("red")
    assert red["data"]["train"]["sha256"] != blue["data"]["train"]["sha256"]
    assert run_identity(recipe, blue)["data"]["train"]["sha256"] == red["data"]["train"]["sha256"]


def test_every_argument_of_the_library_is_known():
    """A name in the list of what is free that the library does not have would hide a misspelling."""
    from seed_hf.recipes import identity

    fields = set(TrainingArguments.__dataclass_fields__)
    later = {"activation_checkpointing", "activation_checkpointing_kwargs"}  # not in the oldest library
    assert identity._FREE - fields <= later


def test_a_folder_of_another_program_is_refused(folder):
    (folder / "out" / "checkpoint-2").mkdir(parents=True)
    with pytest.raises(ValueError, match="out holds checkpoint-2, but no record of the run"):
        run_stage("contrastive", write(contrastive()))
    shutil.rmtree("out")
    tiny_tokenizer().save_pretrained("out")
    before = (folder / "out" / "model.safetensors").read_bytes()
    with pytest.raises(ValueError, match="out holds model.safetensors, but no record"):
        run_stage("contrastive", write(contrastive()))
    assert (folder / "out" / "model.safetensors").read_bytes() == before
    (folder / "out" / ".run").mkdir(exist_ok=True)
    for text, message in (("{", "not readable as JSON"), ('{"format": 7}', "not a record of format 1")):
        (folder / "out" / ".run" / "record.json").write_text(text)
        with pytest.raises(ValueError, match=message):
            run_stage("contrastive", write(contrastive()))


def test_a_run_that_never_trained_may_be_begun_otherwise(folder):
    path = write(contrastive(per_device_train_batch_size=64, max_steps=-1, num_train_epochs=1))
    with pytest.raises(ValueError, match="data.train has 8 rows and one batch takes 64"):
        run_stage("contrastive", path)
    with pytest.raises(ValueError, match="num_train_epochs must be positive, got 0"):
        run_stage("contrastive", path, ["trainer.num_train_epochs=0"])
    stream = ["data.streaming=true", "data.on_error=skip", "data.min_side=1000", "trainer.max_steps=2"]
    with pytest.raises(ValueError, match="training data gave no batch: it is empty, filters leave out all rows"):
        run_stage("contrastive", path, stream)
    assert not list(Path("out").glob("*.safetensors"))
    run_stage("contrastive", path, ["trainer.per_device_train_batch_size=4"])
    assert Path("out/model.safetensors").is_file()


def test_a_finished_run_without_its_files(finished):
    weights = load_file("out/model.safetensors")
    Path("out/config.json").unlink()
    run_stage("contrastive", write(contrastive()))
    assert Path("out/config.json").is_file()
    assert all(torch.equal(value, weights[name]) for name, value in load_file("out/model.safetensors").items())
    damaged = bytearray(Path("out/model.safetensors").read_bytes())
    damaged[-1] ^= 1
    Path("out/model.safetensors").write_bytes(damaged)
    with pytest.raises(ValueError, match="model.safetensors is not what the run saved"):
        run_stage("contrastive", write(contrastive()))
    assert Path("out/model.safetensors").read_bytes() == damaged


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("save_strategy='no'", "finished run without a checkpoint, so it cannot go on to trainer.max_steps: 5"),
        ("save_only_model=true", "checkpoint-3 holds no state of the optimizer"),
    ],
)
def test_what_cannot_go_on_says_so(folder, option, message):
    path = write(contrastive())
    option = f"trainer.{option}"
    run_stage("contrastive", path, [option])
    run_stage("contrastive", path, [option])  # finished already
    with pytest.raises(ValueError, match=message):
        run_stage("contrastive", path, [option, "trainer.max_steps=5"])


@pytest.mark.parametrize("strategy", ["steps", "no"])  # at the first checkpoint, at the end
def test_a_full_disk_is_one_line_and_the_same_command_goes_on(folder, strategy):
    arguments = ("train", "contrastive", "--config", write(contrastive(save_strategy=strategy)))
    with room_for(100_000):
        status, _, err = run(*arguments)
    assert status == 2 and "Traceback" not in err
    said = "while writing into out. Whole checkpoints stay. Free some room or repair the folder, then run the same"
    assert said in err.splitlines()[-1]
    assert not Path("out/model.safetensors").exists()
    assert run(*arguments)[0] == 0 and Path("out/model.safetensors").is_file()


HOLDER = """
import os, sys, time
from seed_hf.locks import FolderLock
with FolderLock(sys.argv[1], "training"):
    if os.fork() == 0:  # a loader of data that outlives the training
        time.sleep(60)
        os._exit(0)
    print("held", flush=True)
    time.sleep(60)
"""


def test_two_trainings_do_not_share_a_folder(folder):
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, "out"], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    try:
        refused("train", "contrastive", "--config", write(contrastive()), words=f"out: process {holder.pid} on")
        assert not Path("out/.run/record.json").exists() and not list(Path("out").glob("checkpoint-*"))
        with pytest.raises(BlockingIOError, match="is training here"):
            stage_one.trainer_for(tiny_tokenizer(), stage_one.config("out")).train()
    finally:
        holder.kill()
        holder.wait()
    run_stage("contrastive", write(contrastive()))  # a killed holder lets go, whatever its children do


def test_the_lock_is_of_one_process_and_says_whose(tmp_path):
    with FolderLock(tmp_path, "training"), FolderLock(tmp_path, "training"):
        said = json.loads((tmp_path / ".run" / "lock").read_text())
        assert said["pid"] == os.getpid()
        code = f"from seed_hf.locks import FolderLock\nwith FolderLock({str(tmp_path)!r}, 'training'): pass"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode == 1 and f"BlockingIOError: {tmp_path}: process {os.getpid()}" in done.stderr
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_records_are_of_one_kind_for_all_stages(folder):
    record = RunRecord("fresh")
    recipe = read_recipe("contrastive", write(contrastive(hub_token="a-secret")))
    identity = run_identity(recipe)
    assert record.check(identity, recipe.trainer) == "new" and not Path("fresh").exists()
    record.begin(identity, recipe.trainer)
    assert "secret" not in record.path.read_text() and "hub_token" not in record.path.read_text()
    assert record.check({**identity, "stage": "other"}, recipe.trainer) == "new"  # nothing there to mix with
