"""What `push` sends: the files that an artifact of its kind is made of, whole and matching; the rest is named."""

import json
import os
import re
import socket
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from command_line import refused, run
from seed_hf.artifacts.kinds import KINDS
from seed_hf.artifacts.publishable import files_of, other_form
from seed_hf.artifacts.whole import problems
from seed_hf.hub import push


STRANGERS = """
    id_rsa id_ed25519.pub credentials.json prod.env .env .netrc hf_token token kaggle.json secrets.yaml nohup.out core
    core.1234 train.log features.npy model.h5 model.onnx old.safetensors model.safetensors.bak model.old.safetensors
    adapter_model.safetensors.tmp config.json~ tokenizer.json.bak notes.txt NOTES.md LICENSE.key data.csv
    images.parquet codes-00009-00009.parquet recipe.yaml steal.py modeling_other.py run.sh thing.zip Thumbs.db
    .DS_Store trainer_state.json events.out.tfevents.1.host .README.md.1.unfinished README.md.orig optimizer
""".split()
FOLDERS = ("wandb", "runs", "checkpoint-3", "saving", "__pycache__", ".git", ".job", "unet_old", "images", ".cache")


def listed(*arguments) -> tuple[set[str], set[str]]:
    """The names that a dry run would send, and those that it leaves out."""
    status, text, error = run("push", *arguments, "tester/x", "--dry-run")
    assert status == 0, error
    lines = [line.strip() for line in text.splitlines()[:-1]]
    left_out = {line.removeprefix("left out  ") for line in lines if line.startswith("left out")}
    return {re.split("  +", line)[1] for line in lines if not line.startswith("left out")}, left_out


@pytest.mark.parametrize("kind", KINDS)
def test_only_what_the_kind_is_made_of_is_sent_and_the_rest_is_named(artifact, kind):
    folder = artifact(kind)
    before, named = listed(folder)
    places = [folder, folder / "unet"] if kind == "pipeline" else [folder]
    for place in places:
        for name in STRANGERS:
            (place / name).write_text("private")
        for name in FOLDERS:
            (place / name).mkdir(exist_ok=True)
            (place / name / "config.json").write_text("{}")
            (place / name / "model.safetensors").write_text("private")
        os.mkfifo(place / "pipe")
        os.link(place / "id_rsa", place / "hard_link")
        (place / "link.json").symlink_to("/etc/hostname")
        (place / "all").symlink_to("/etc")
    os.mkfifo(folder / "pipe.json")
    (folder / "\x1b[31m").write_text("")
    sent, left_out = listed(folder)
    assert sent == before
    strange = {*STRANGERS, *(f"{name}/" for name in FOLDERS), "pipe", "hard_link", "link.json", "all/"}
    assert left_out >= named | strange | {"pipe.json", "\\x1b[31m"}
    if kind == "pipeline":
        assert left_out >= {f"unet/{name}" for name in strange}


def test_what_is_asked_for_by_name_goes_and_secrets_do_not(artifact):
    folder = artifact("tokenizer")
    before, _ = listed(folder)
    (folder / "images" / "more").mkdir(parents=True)
    for name in ("notes.md", "other.md", "images/a.png", "images/more/b.png"):
        (folder / name).write_text("mine")
    sent, left_out = listed(folder, "--include", "notes.md", "--include", "images/")
    assert sent == before | {"notes.md", "images/a.png", "images/more/b.png"} and left_out == {"other.md"}
    assert "images/more/b.png" in listed(folder, "--include", "images/more")[0]
    refused("push", folder, "tester/x", "--include", "nothing.md", words="has no nothing.md")
    refused("push", folder, "tester/x", "--include", "../tokenizer", words="has no ../tokenizer")
    for name in ("id_rsa", "prod.env", "credentials.json", "kaggle.json", "hf_token", "my_secret.txt", "images/a.pem"):
        (folder / name).write_text("private")
        refused("push", folder, "tester/x", "--dry-run", "--include", name, words="the name of a secret")
    refused("push", folder, "tester/x", "--dry-run", "--include", "images", words="the name of a secret")
    (folder / "visual_tokens.png").write_text("a figure")
    assert "visual_tokens.png" in listed(folder, "--include", "visual_tokens.png")[0]
    (folder / "old.pt").write_text("pickle")
    refused("push", folder, "tester/x", "--dry-run", "--include", "old.pt", words="can run code")


@pytest.mark.parametrize(
    "secret",
    [
        "hf_" + "aB3" * 11 + "x",
        "ghp_" + "a1B2" * 9,
        "AKIA" + "ABCD" * 4,
        "-----BEGIN OPENSSH PRIVATE KEY-----",
        "-----BEGIN PGP PRIVATE KEY BLOCK-----",
        "line\\nhf_" + "aB3" * 11 + "x",
        "_hf_" + "aB3" * 11 + "x",
        "ASIA" + "ABCD" * 4,
        "github_pat_11ABC" + "a1_" * 22,
        "glpat-" + "aB3-x" * 4,
        "sk-proj-" + "aB3x" * 12,
    ],
)
@pytest.mark.parametrize("name", ["train_config.json", "LICENSE"])
def test_a_file_that_holds_a_secret_is_refused(artifact, name, secret):
    folder = artifact("tokenizer")
    (folder / name).write_text(json.dumps({"hub": secret}))
    refused("push", folder, "tester/x", "--dry-run", words="an access token or a private key")


def test_a_secret_in_the_header_of_weights_is_refused(artifact):
    folder = artifact("tokenizer")
    weights = load_file(folder / "model.safetensors")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt", "note": "hf_" + "aB3" * 11 + "x"})
    refused("push", folder, "tester/x", "--dry-run", words="an access token or a private key")


def test_weights_that_an_index_names_elsewhere_are_not_published(artifact, tmp_path):
    folder = artifact("tokenizer")
    (tmp_path / "private").mkdir()
    secret = (folder / "model.safetensors").rename(tmp_path / "private" / "secret.safetensors")
    names = dict.fromkeys(load_file(secret), "../private/secret.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))
    refused("push", folder, "tester/x", "--dry-run", words="its index names weights outside of it")


def test_weights_stored_as_integers_are_refused(artifact):
    folder = artifact("tokenizer")
    weights = load_file(folder / "model.safetensors")
    name = next(name for name, weight in weights.items() if name.endswith(".weight") and weight.ndim == 2)
    weights[name] = weights[name].to(torch.int8)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    refused("push", folder, "tester/x", "--dry-run", words="stored as no floating-point numbers")


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def unix_socket(path: Path) -> None:
    path.unlink()
    here = os.getcwd()
    os.chdir(path.parent)  # the name of a socket is short
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(path.name)
    os.chdir(here)


def hard_link(path: Path) -> None:
    os.link(path, path.parent.parent / "outside")


def symbolic_link(path: Path) -> None:
    path.rename(path.parent.parent / "outside")
    path.symlink_to(path.parent.parent / "outside")


@pytest.mark.parametrize("spoil", [fifo, unix_socket, hard_link, symbolic_link])
@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "generation_config.json"])
def test_a_file_to_send_must_be_a_file_of_its_own(artifact, name, spoil):
    folder = artifact("language_model")
    spoil(folder / name)
    with pytest.raises(ValueError, match="pipe|hard links|symbolic link|holds no artifact"):
        push(folder, "tester/x", dry_run=True)


def test_an_index_that_is_a_pipe_or_points_away_does_not_hang_and_is_refused(artifact):
    folder = artifact("language_model")
    os.mkfifo(folder / "model.safetensors.index.json")
    refused("push", folder, "tester/x", "--dry-run", words="model.safetensors.index.json: a link, a pipe")


def spoilt_index(folder: Path, change) -> None:
    """Give the weights an index, as if they were in one shard, and change it."""
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    tensors = load_file(folder / "model-00001-of-00001.safetensors")
    index = {"metadata": {}, "weight_map": {name: "model-00001-of-00001.safetensors" for name in tensors}}
    change(index["weight_map"])
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def changed(path: Path, change) -> None:
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


def first(tensors: dict) -> str:
    return sorted(tensors)[0]


def wider(tensors: dict) -> None:
    tensors[first(tensors)] = tensors[first(tensors)].new_zeros(7, 7)


def write_json(path: Path, **changes) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-8])


def longer(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"more")


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


WEIGHTS, DIFFUSION = "model.safetensors", "diffusion_pytorch_model.safetensors"
SPOILT = [
    ("tokenizer", "cannot be read as safetensors", lambda f: (f / WEIGHTS).write_bytes(b"garbage" * 99)),
    ("tokenizer", "cannot be read as safetensors", lambda f: (f / WEIGHTS).write_bytes(b"")),
    ("tokenizer", "cannot be read as safetensors", lambda f: cut(f / WEIGHTS)),
    ("tokenizer", "cannot be read as safetensors", lambda f: longer(f / WEIGHTS)),
    ("model", "the weights lack", lambda f: changed(f / WEIGHTS, lambda t: t.pop(first(t)))),
    ("model", "more than the model: more", lambda f: changed(f / WEIGHTS, lambda t: t.update(more=t[first(t)] + 1))),
    ("language_model", "not of the size in config.json", lambda f: changed(f / WEIGHTS, wider)),
    ("language_model", "not of the size in config.json", lambda f: write_json(f / "config.json", ffn_dim=17)),
    ("language_model", "config.json describes no", lambda f: write_json(f / "config.json", num_hidden_layers="a")),
    ("language_model", "other tensors than the index", lambda f: spoilt_index(f, lambda m: m.pop(first(m)))),
    ("language_model", "no other.safetensors", lambda f: spoilt_index(f, lambda m: m.update(a="other.safetensors"))),
    ("language_model", "weight_map", lambda f: spoilt_index(f, lambda m: m.update({first(m): 3}))),
    ("tokenizer", "both model", lambda f: (f / f"{WEIGHTS}.index.json").write_text('{"weight_map": {"a": "b"}}')),
    ("pipeline", "vae: .* cannot be read", lambda f: (f / "vae" / DIFFUSION).write_bytes(b"x")),
    ("pipeline", "unet: the weights lack", lambda f: changed(
        f / "unet" / DIFFUSION, lambda t: t.pop(first(t)))),
    ("pipeline", "empty_prompt: .* not of the size", lambda f: changed(
        f / "empty_prompt" / DIFFUSION, wider)),
    ("pipeline", "seed_model: the weights lack", lambda f: changed(
        f / "seed_model" / WEIGHTS, lambda t: t.pop(first(t)))),
    ("adapter", "cannot be read as safetensors", lambda f: flipped_header(f / "adapter_model.safetensors")),
    ("adapter", "not of the rank", lambda f: write_json(f / "adapter_config.json", r=64)),
    ("adapter", "no LoRA weights", lambda f: changed(f / "adapter_model.safetensors", rename_all)),
    ("dataset", "it changed after", lambda f: flipped(f / "codes-00000-00001.parquet")),
    ("dataset", "it changed after", lambda f: longer(f / "bad_images.jsonl")),
    ("dataset", "its shards are not", lambda f: write_json(f / "manifest.json", shards=[{"file": "../a"}])),
    ("dataset", "its shards are not", lambda f: write_json(f / "manifest.json", shards={"a": 1})),
    ("model", "modeling_seed.py is not Python", lambda f: (f / "modeling_seed.py").write_bytes(b"\0 garbage")),
    ("model", "has no class SeedConfig", lambda f: (f / "configuration_seed.py").write_text("")),
    ("pipeline", "seed_model: no modeling_seed.py", lambda f: (f / "seed_model" / "modeling_seed.py").unlink()),
    ("pipeline", "has no class EmptyPrompt", lambda f: (f / "empty_prompt/diffusers_empty_prompt.py").write_text("")),
    ("model", "tokenizer.json: not readable", lambda f: cut(f / "tokenizer.json")),
    ("model", "generation_config.json: expected", lambda f: (f / "generation_config.json").write_text("[]")),
]  # fmt: skip


def flipped_header(path: Path) -> None:
    path.write_bytes(b"\xff" + path.read_bytes()[1:])


def rename_all(tensors: dict) -> None:
    for name in [*tensors]:
        tensors[name.replace("lora_", "other_")] = tensors.pop(name)


@pytest.mark.parametrize(("kind", "words", "spoil"), SPOILT)
def test_weights_and_data_that_do_not_fit_are_refused_before_anything_is_sent(
    artifact, monkeypatch, kind, words, spoil
):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nothing answers there
    folder = artifact(kind)
    spoil(folder)
    with pytest.raises(ValueError, match=words):
        push(folder, "tester/x")


def test_a_whole_folder_in_shards_and_variants_is_whole(artifact):
    folder = artifact("language_model")
    spoilt_index(folder, lambda weight_map: None)
    assert problems(folder, "language_model") == []
    assert {"model.safetensors.index.json", "model-00001-of-00001.safetensors"} <= set(files_of(folder)[0])
    folder = artifact("tokenizer", "variant")
    (folder / WEIGHTS).rename(folder / "model.fp16.safetensors")
    assert problems(folder, "tokenizer") == [] and "model.fp16.safetensors" in files_of(folder)[0]


@pytest.mark.parametrize(
    ("one", "index"),
    [
        ("model.safetensors", "model.safetensors.index.json"),
        ("model.fp16.safetensors", "model.safetensors.index.fp16.json"),
        ("unet/x.non_ema.safetensors", "unet/x.safetensors.index.non_ema.json"),
    ],
)
def test_weights_in_one_file_and_in_shards_take_each_others_place(one, index):
    """As `save_pretrained` of transformers and diffusers names them."""
    assert (other_form(one), other_form(index), other_form("config.json")) == (index, one, None)
