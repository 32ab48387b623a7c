"""`seed-hf train instruct` from recipes: every source, mixtures, and what is refused before anything is trained."""

import base64
import io
import json
import logging
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from datasets import load_dataset
from PIL import Image

from command_line import refused, run
from seed_hf.artifacts.loading import load_tokenizer
from seed_hf.modeling.modeling_seed_text import SeedLlamaForCausalLM
from seed_hf.recipes.checking import check_recipe
from seed_hf.recipes.language_model_stage import language_model_trainer
from seed_hf.recipes.reading import read_recipe
from seed_hf.recipes.running import run_stage
from stage_recipes import TRAINER, folder, write  # noqa: F401  folder is a fixture
from tiny import tiny_text_tokenizer
from tiny_families import plain_model


CODES = [(7 * i) % 64 for i in range(32)]
ONE = [{"role": "user", "content": "a question"}, {"role": "assistant", "content": "an answer"}]
DRAWN = [
    {"role": "user", "content": "Draw a red apple."},
    {"role": "assistant", "content": [{"type": "text", "text": "Here."}, {"type": "image", "codes": CODES}]},
]


def png(colour="red") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (30, 20), colour).save(buffer, "PNG")
    return buffer.getvalue()


def seen(image: dict) -> list[dict]:
    content = [{"type": "image", **image}, {"type": "text", "text": "What is shown?"}]
    return [{"role": "user", "content": content}, {"role": "assistant", "content": "a red apple"}]


def json_lines(name: str, rows: list[dict]) -> str:
    Path(name).write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return name


@pytest.fixture
def here(folder):  # noqa: F811
    """The working directory, with a language model of SEED-LLaMA's format and conversations."""
    plain_model("llama").save_pretrained("llama")
    torch.manual_seed(0)
    model = SeedLlamaForCausalLM.from_language_model(
        "llama", codebook_size=64, text_vocab_size=len(tiny_text_tokenizer())
    )
    model.config.prompt_format = "vicuna"
    model.save_pretrained("lm")
    json_lines("train.jsonl", [{"messages": ONE}, {"messages": DRAWN}] * 4)
    return folder


def recipe(train="train.jsonl", model=(), data=(), **trainer) -> dict:
    return {
        "model": {"language_model": "lm", "text_tokenizer": "text_tokenizer", **dict(model)},
        "data": {"train": train, **dict(data)},
        "trainer": {**TRAINER, "output_dir": "out", "lora_r": 2, **trainer},
    }


def opened(**kwargs):
    return language_model_trainer(read_recipe("instruct", write(recipe(**kwargs))))[0]


def test_a_run_from_the_command_line(here):
    status, out, err = run("train", "instruct", "--config", write(recipe(data={"pack_length": 160})), "--check")
    assert status == 0 and "rows: train 8" in out and "SeedLlamaForCausalLM" in out, err
    status, out, err = run("train", "instruct", "--config", "recipe.yaml")
    assert status == 0, err
    trained, before = SeedLlamaForCausalLM.from_pretrained("out"), SeedLlamaForCausalLM.from_pretrained("lm")
    layer = "model.layers.0.self_attn.q_proj.weight"
    assert not torch.equal(trained.state_dict()[layer], before.state_dict()[layer])
    record = json.loads(Path("out/train_config.json").read_text())
    assert record["stage"] == "instruct" and record["trainer"]["learning_rate"] == 1e-3
    assert "finished already" in run("train", "instruct", "--config", "recipe.yaml", "--check")[1]
    json_lines("train.jsonl", [{"messages": ONE}] * 8)
    refused("train", "instruct", "--config", "recipe.yaml", words="data.train has another content")
    assert run("train", "instruct", "--config", "recipe.yaml", "--full", "--set", "trainer.output_dir=all")[0] == 0


SOURCES = {
    "paths in JSON Lines": lambda: json_lines("a.jsonl", [{"messages": seen({"path": "a.png"})}]),
    "bytes in JSON Lines": lambda: json_lines(
        "a.jsonl", [{"messages": seen({"base64": base64.b64encode(png()).decode()})}]
    ),
    "images of the row": lambda: json_lines("a.jsonl", [{"messages": seen({}), "images": ["a.png"]}]),
    "Parquet": lambda: parquet({"messages": seen({"image": {"bytes": png(), "path": None}})}),
    "Parquet, images of the row": lambda: parquet({"messages": seen({}), "images": [{"bytes": png(), "path": None}]}),
    "a folder of images": lambda: image_folder({"file_name": "a.png", "messages": seen({})}),
    "tars": lambda: tar({"0.jpg": png(), "0.json": json.dumps({"messages": seen({})}).encode()}),
}


def tar(files: dict[str, bytes]) -> str:
    with tarfile.open("a.tar", "w") as file:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            file.addfile(member, io.BytesIO(data))
    return "a.tar"


def parquet(row: dict) -> str:
    """Arrow has one type for all contents, and a field for everything that a part may have."""
    for message in row["messages"]:
        content = message["content"]
        message["content"] = [{"type": "text", "text": content}] if isinstance(content, str) else content
    pq.write_table(pa.Table.from_pylist([row]), "a.parquet")
    return "a.parquet"


def image_folder(row: dict) -> str:
    Path("images").mkdir()
    Path("images/a.png").write_bytes(png())
    return str(Path(json_lines("images/metadata.jsonl", [row])).parent)


@pytest.mark.parametrize("name", SOURCES)
def test_images_become_codes(here, name):
    Path("a.png").write_bytes(png())
    source = SOURCES[name]()
    trainer = opened(train=source, model={"image_tokenizer": "tokenizer"})
    [row] = trainer.train_dataset
    tokenizer, image_processor = load_tokenizer("tokenizer", device="cpu")
    pixels = image_processor(Image.open(io.BytesIO(png())), return_tensors="pt").pixel_values
    codes = tokenizer.encode(pixels)[0].tolist()
    assert row["messages"][0]["content"][0]["codes"] == codes
    assert check_recipe(read_recipe("instruct", "recipe.yaml", ["trainer.per_device_train_batch_size=1"])).rows == {
        "train": 1
    }
    del trainer
    with pytest.raises(ValueError, match="image without codes. Give model.image_tokenizer"):
        opened(train=source)


def test_a_plain_model_gets_the_bos_and_the_end_of_the_text_tokenizer(here):
    """As `from_language_model` does with the folder's own: guidance begins with bos, and generation ends at eos."""
    tokenizer = tiny_text_tokenizer()
    tokenizer.bos_token, tokenizer.eos_token = None, tokenizer.convert_ids_to_tokens(9)
    tokenizer.save_pretrained("words")
    parts = {"language_model": "llama", "visual_tokenizer": "tokenizer", "text_tokenizer": "words"}
    model = opened(model=parts, lora_r=0).model
    assert model.config.bos_token_id is None and model.config.eos_token_id == [2, 9]


def test_images_are_encoded_once(here):
    Path("a.png").write_bytes(png())
    json_lines("a.jsonl", [{"messages": seen({"path": "a.png"}), "id": "x", "source": "y"}, {"messages": ONE}])
    said = run("data", "conversations", "a.jsonl", "--tokenizer", "tokenizer", "--out", "made/train.parquet",
               "--ignore-columns", "source")  # fmt: skip
    assert said[0] == 0 and "2 rows" in said[1], said
    [first, second] = opened(train="made/train.parquet").train_dataset
    assert first["id"] == "x" and second["messages"][0]["content"] == [
        {"type": "text", "text": "a question", "codes": None}
    ]
    assert len(first["messages"][0]["content"][0]["codes"]) == 32
    assert len(load_dataset("parquet", data_files="made/train.parquet", split="train", cache_dir="cache")) == 2
    words = "a.jsonl, row 0: unknown columns: source. Known are "
    refused("data", "conversations", "a.jsonl", "--tokenizer", "tokenizer", "--out", "b.parquet", words=words)
    before = Path("images.parquet").read_bytes()
    for source in ("images.parquet", "*.parquet"):
        refused("data", "conversations", source, "--tokenizer", "tokenizer", "--out", "images.parquet",
                words="a file of the source")  # fmt: skip
    assert Path("images.parquet").read_bytes() == before
    assert not Path("b.parquet").exists()


def test_pairs_questions_texts_and_documents(here):
    """What the language-model stage reads, and images with captions, are sources too."""
    document = {"document": [{"type": "text", "text": "a red apple"}, {"type": "image", "codes": CODES}]}
    json_lines("mixed.jsonl", [document, {"text": "an answer"}, {"codes": CODES, "caption": "a red apple"}])
    assert len(opened(train="mixed.jsonl").train_dataset) == 3
    trainer = opened(train="codes.parquet", data={"directions": {"text_to_image": 1, "question": 1}})
    batch = trainer.data_collator([trainer.train_dataset[number] for number in range(8)])
    assert len(batch["input_ids"]) == 8
    rows = opened(train="images.parquet", model={"image_tokenizer": "tokenizer"}, data={"ignore_columns": ["words"]})
    assert rows.train_dataset["captions"][0] == ["a red apple"] and len(rows.train_dataset["codes"][0]) == 32


def test_the_language_model_stage_reads_documents(here):
    json_lines(
        "documents.jsonl", [{"document": [{"type": "text", "text": "a"}, {"type": "image", "codes": CODES}]}] * 8
    )
    plan = check_recipe(read_recipe("lm", write(recipe("documents.jsonl", data={"loss_on": "all", "max_images": 7}))))
    assert plan.rows == {"train": 8}
    run_stage("lm", "recipe.yaml")
    bad = {"document": [{"type": "image", "codes": [64] * 32}]}
    json_lines("bad.jsonl", [{"document": "a text"}, bad])
    with pytest.raises(ValueError, match=r"bad.jsonl, row 1: codes must lie in 0..63"):
        check_recipe(read_recipe("lm", write(recipe("bad.jsonl"))))
    with pytest.raises(ValueError, match="has conversations .*, which the stage instruct trains on"):
        check_recipe(read_recipe("lm", write(recipe())))


def test_chat_without_images_is_mixed_in_by_weight(here):
    json_lines("chat.jsonl", [{"messages": ONE}] * 3)
    json_lines("drawn.jsonl", [{"messages": DRAWN}] * 40)
    entries = [{"source": "drawn.jsonl", "weight": 3}, {"source": "chat.jsonl", "weight": 1, "max_length": 64},
               {"source": "codes.parquet", "weight": 0}]  # fmt: skip
    rows = opened(train=entries).train_dataset
    chats = [row for row in rows if row["max_length"] == 64]
    assert 0.15 < len(chats) / len(rows) < 0.35 and sum(row["max_length"] is None for row in rows) >= 40
    again = opened(train=entries).train_dataset
    assert again["messages"] == rows["messages"]
    whole = opened(train=["drawn.jsonl", "chat.jsonl", {"source": "codes.parquet", "direction": "text_to_image"}])
    assert len(whole.train_dataset) == 51 and whole.train_dataset["direction"].count("text_to_image") == 8
    json_lines("blank.jsonl", [{"text": "some words"}, {"text": " "}])  # a row that is left out and counted
    run_stage("instruct", write(recipe([*entries, {"source": "blank.jsonl", "weight": 1}])))


LONG = [*ONE, {"role": "user", "content": "apple " * 80}, {"role": "assistant", "content": "yes"}]


def test_long_conversations_are_cut_and_counted(here, caplog):
    json_lines("long.jsonl", [{"messages": ONE}, {"messages": LONG}, {"messages": LONG}])
    with caplog.at_level(logging.WARNING):
        trainer = opened(train="long.jsonl", data={"max_length": 60})
    assert (
        "data.train: 2 of 3 conversations are longer than max_length, which is 60. They are cut at the end of a turn, "
        "2 turns in all; the first is long.jsonl, row 1." in caplog.text
    )
    batch = trainer.data_collator(list(trainer.train_dataset))
    assert batch["input_ids"][0].tolist() == batch["input_ids"][1].tolist()
    json_lines("long.jsonl", [{"messages": ONE}, {"messages": LONG[2:]}, {"messages": LONG[2:]}])
    wrong = recipe("long.jsonl", data={"max_length": 60})
    words = r"data.train: long.jsonl, row 1: The first turn alone has \d+ tokens .* \(2 such rows in all\)"
    with pytest.raises(ValueError, match=words):
        run_stage("instruct", write(wrong))
    assert not Path("out/.run/record.json").exists() and not list(Path("out").glob("checkpoint*"))
    with pytest.raises(ValueError, match=words):
        check_recipe(read_recipe("instruct", "recipe.yaml"))
    kept = opened(train="long.jsonl", data={"max_length": 60, "on_error": "skip"}).train_dataset
    assert len(kept) == 1
    json_lines("long.jsonl", [{"codes": CODES, "caption": "apple " * 99}])
    with pytest.raises(ValueError, match="long.jsonl, row 0: The first turn alone"):
        opened(train="long.jsonl", data={"max_length": 100})
    json_lines("long.jsonl", [{"codes": CODES, "caption": "a red apple"}] * 20)
    trainer = opened(train="long.jsonl", data={"max_length": 72, "directions": {"text_to_image": 1}})
    batch = trainer.data_collator(list(trainer.train_dataset) * 20)  # where a wording does not fit, the shortest does
    assert batch["input_ids"].shape[1] <= 72


WRONG = {
    "an unknown column": ([{"messages": ONE, "massages": 1}], "row 0: unknown columns: massages. Known are"),
    "a column without use": ([{"messages": ONE, "caption": "a"}], "row 0: caption is not used in a row with messages"),
    "two contents": ([{"messages": ONE, "text": "a"}], "this one has messages and text"),
    "nothing": ([{"id": "7"}], "this one has none of them, but id"),
    "no JSON": (["{"], "row 0: json: not valid JSON"),
    "an unknown field": ([{"messages": [{**ONE[0], "name": "x"}, ONE[1]]}], r"messages\[0\] has unknown fields: name"),
    "the second row": ([{"messages": ONE}, {"messages": ONE[:1]}], r"wrong.jsonl, row 1: messages ends with user"),
    "codes of others": ([{"messages": seen({"codes": [64] * 32})}], "row 0: codes must lie in 0..63"),
    "few codes": ([{"messages": seen({"codes": [1]})}], "row 0: codes must be 32 integers"),
    "no such image": ([{"messages": seen({"path": "b.png"})}], "row 0: .*b.png"),
    "no image": ([{"messages": seen({"path": "recipe.yaml"})}], "row 0: .*recipe.yaml"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_rows_are_named_before_anything_happens(here, name):
    rows, words = WRONG[name]
    Path("wrong.jsonl").write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    write(recipe("wrong.jsonl", model={"image_tokenizer": "tokenizer"}))
    for attempt in (run_stage, lambda stage, path: check_recipe(read_recipe(stage, path))):
        with pytest.raises(ValueError, match=words):
            attempt("instruct", "recipe.yaml")
    assert not list(Path("out").glob("*")) or not list(Path("out").glob("checkpoint*"))


SETTINGS = {
    "prompts": ({"data": {"caption_prompt": "x"}}, "data.caption_prompt is not used: in a conversation"),
    "an unknown key": ({"train": [{"source": "a", "wight": 1}]}, r"data.train\[0\] has unknown keys: wight"),
    "no source": ({"train": [{"weight": 1}]}, r"data.train\[0\] must be a source"),
    "no sources": ({"train": []}, "data.train is an empty list"),
    "some weights": ({"train": ["a", {"source": "b", "weight": 1}]}, r"data.train\[0\] has no weight"),
    "a negative weight": ({"train": [{"source": "b", "weight": -1}]}, r"\[0\].weight must be a number"),
    "no weight": ({"train": [{"source": "b", "weight": 0}]}, "at least one weight must be positive"),
    "a direction": ({"train": [{"source": "b", "direction": "up"}]}, r"\[0\].direction must be one of"),
    "a loss": ({"data": {"loss_on": "some"}}, "data.loss_on must be one of answers, all"),
    "a cut": ({"data": {"cut": "half"}}, "data.cut must be one of whole, tokens"),
    "on_error": ({"data": {"on_error": "hide"}}, "data.on_error must be one of raise, skip"),
    "two tokenizers": (
        {"model": {"image_tokenizer": "a", "visual_tokenizer": "b"}}, "model.image_tokenizer is not used"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SETTINGS)
def test_wrong_settings_are_refused(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    settings, words = SETTINGS[name]
    with pytest.raises(ValueError, match=words):
        read_recipe("instruct", write(recipe(**settings)))


def test_requests_are_of_this_stage(here):
    with pytest.raises(ValueError, match="data.requests is not used: the stage lm has prompts"):
        read_recipe("lm", write(recipe("codes.parquet", data={"requests": "r.json"})))
    Path("r.json").write_text(json.dumps({"draw": [{"request": "{} now", "answer": "ok"}], "describe": ["eh?"]}))
    trainer = opened(train="codes.parquet", data={"requests": "r.json", "directions": {"text_to_image": 1}})
    encode = trainer.data_collator.sequences.encode
    given = trainer.data_collator([trainer.train_dataset[0]])["input_ids"][0].tolist()
    assert given[1 : -36 - len(encode("ok")) + 1] == encode("USER: a red apple now\nASSISTANT:")
    text = recipe(train="codes.parquet", data={"requests": "r.json"})
    run_stage("instruct", write(text))
    Path("r.json").write_text(json.dumps({"draw": [{"request": "{} please", "answer": "ok"}], "describe": ["eh?"]}))
    with pytest.raises(ValueError, match="data.requests has another content"):
        run_stage("instruct", write(text))
