"""`seed-hf convert`: checkpoint files become a whole artifact; or one clear line, and nothing is written."""

import os
import re

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from command_line import refused, run
from full_disks import room_for
from original import GOLDEN, HEADS, golden_io, golden_weights, original_state, other_size
from seed_hf import SeedImageProcessor, SeedTokenizer
from seed_hf.conversion import ConversionError, convert_checkpoint, read_checkpoint
from tiny_blip2 import blip2


SEED1 = GOLDEN / "seed1_tokenizer_weights.safetensors"


class RunsCode:
    def __reduce__(self):
        return os.system, ("echo this must not run > ran.txt",)


def arguments(kind, *files, out, extra=("--vision-heads", 4)):
    return ["convert", kind, "--checkpoint", *files, "--out", out, *extra]


def saved(path, content):
    torch.save(content, path)
    return path


# Work


@pytest.mark.parametrize(
    "kind, name",
    [("seed1", "seed1_tokenizer"), ("seed2", "seed2_tokenizer"), ("blip2", "stage1_contrastive"),
     ("stage1", "stage1_contrastive"), ("seed1", "stage2_text"), ("seed2", "stage2_image")],
)  # fmt: skip
def test_convert_verify_load_encode(kind, name, tmp_path):
    verify = ("--verify", GOLDEN / f"{name}_io.safetensors")
    out = tmp_path / "made" / name
    status, printed, _ = run(*arguments(kind, GOLDEN / f"{name}_weights.safetensors", out=out), *verify)
    assert status == 0 and printed.splitlines()[-1] == str(out)
    assert "too far" not in printed and ("100.00 %" in printed or name == "stage1_contrastive")
    files = {path.name for path in out.iterdir() if path.suffix != ".py"}  # the code goes along
    assert files == {"config.json", "model.safetensors", "preprocessor_config.json"}
    assert SeedImageProcessor.from_pretrained(out).size["height"] == 56
    model, recorded = SeedTokenizer.from_pretrained(out), golden_io(name)
    codes = model.encode(recorded["pixel_values"])
    assert "codes" not in recorded or torch.equal(codes, recorded["codes"])


def test_several_files_make_one_checkpoint(tmp_path):
    """The three files of SEED-1: the Q-Former's, the tokenizer's, and EVA's ViT with its own short names."""
    state = golden_weights("seed1_tokenizer")
    vit = {key.removeprefix("visual_encoder."): value for key, value in state.items() if "visual_encoder." in key}
    spare = {key.replace("blocks.1.", "blocks.2."): value for key, value in vit.items() if "blocks.1." in key}
    vit |= {**spare, "norm.weight": torch.ones(44), "head.weight": torch.ones(7, 44), "head.bias": torch.ones(7)}
    qformer = {key: value for key, value in state.items() if key.startswith(("Qformer.", "query_tokens", "ln_vision"))}
    rest = {key: value for key, value in state.items() if key not in qformer and "visual_encoder." not in key}
    stale = {"encode_task_layer.0.bias": torch.ones(48)}
    files = [
        saved(tmp_path / "causal_qformer.pth", {"model": {**qformer, **stale}, "epoch": 1}),
        saved(tmp_path / "seed_tokenizer.pth", {"model": rest, "optimizer": {"state": {}, "param_groups": []}}),
        saved(tmp_path / "eva_vit_g.pth", vit),
    ]
    out = tmp_path / "out"
    verify = ("--verify", GOLDEN / "seed1_tokenizer_io.safetensors")
    status, printed, _ = run(*arguments("seed1", *files, out=out), *verify)
    assert status == 0 and "100.00 %" in printed and all(str(file) in printed for file in files)
    _, report = convert_checkpoint(files, **HEADS)
    assert report.replaced == ["encode_task_layer.0.bias"]
    assert {key.split(".")[1] for key in report.unused} == {"blocks", "norm", "head"}
    each = [part for file in files for part in ("--checkpoint", file)]
    assert run("convert", "seed1", *each, "--out", tmp_path / "again", "--vision-heads", 4)[0] == 0
    refused("convert", "seed1", *each, files[0], "--out", tmp_path / "c", words="after one --checkpoint")
    refused(*arguments("seed1", *files[:2], out=tmp_path / "d"), words="visual_encoder.pos_embed")
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize("legacy", [False, True])
def test_files_by_any_name(legacy, tmp_path):
    path = tmp_path / "seed_quantizer.pt"
    torch.save({"state_dict": golden_weights("seed1_tokenizer")}, path, _use_new_zipfile_serialization=not legacy)
    assert len(convert_checkpoint(path, **HEADS)[1].used) == 224
    save_file(golden_weights("seed1_tokenizer"), tmp_path / "weights.bin")
    assert len(read_checkpoint(tmp_path / "weights.bin").state_dict) == 224


# Damage


def damaged(folder):
    """Name -> (file, words of the message)."""
    weights = golden_weights("seed1_tokenizer")
    whole, old = saved(folder / "whole.pth", {"model": weights}), folder / "old.pth"
    torch.save(weights, old, _use_new_zipfile_serialization=False)
    cuts = {}
    for file in (whole, old, SEED1):
        cuts[file.name] = folder / f"cut_{file.name}"
        cuts[file.name].write_bytes(file.read_bytes()[:300_000])
    (folder / "text.pth").write_text("hello")
    (folder / "empty.safetensors").write_bytes(b"")
    (folder / "header.safetensors").write_bytes(b"\xff" * 7 + b"\x00" + b"{" * 20)
    renamed = {key.replace("encode_task_layer.0.bias", "encode_task_layer.0.bais"): v for key, v in weights.items()}
    reshaped = {**weights, "query_tokens": torch.zeros(1, 32, 47)}
    half = dict(list(weights.items())[::2])
    old_code = folder / "old_code.pth"
    torch.save({"model": weights, "hook": RunsCode()}, old_code, _use_new_zipfile_serialization=False)
    return {
        "cut zip": (cuts["whole.pth"], "damaged, cut off"),
        "cut pickle": (cuts["old.pth"], "damaged, cut off"),
        "cut safetensors": (cuts[SEED1.name], "Lost: Reverse_Qformer.bert.encoder.layer.2."),
        "text": (folder / "text.pth", "no checkpoint at all"),
        "empty": (folder / "empty.safetensors", "damaged or cut off"),
        "bad header": (folder / "header.safetensors", "damaged or cut off"),
        "absent": (folder / "absent.pth", "no such file"),
        "folder": (folder, "a folder, not a file"),
        "code": (saved(folder / "code.pth", {"model": weights, "x": RunsCode()}), "Python code (posix.system)"),
        "old code": (old_code, "pickled Python code (posix.system)"),
        "module": (saved(folder / "module.pth", torch.nn.Linear(2, 2)), "pickled Python code (torch.nn.modules"),
        "numpy": (saved(folder / "numpy.pth", {"model": {"a": np.zeros(3)}}), "pickled Python code (numpy"),
        "list": (saved(folder / "list.pth", [torch.zeros(2)]), "holds a list"),
        "no tensors": (saved(folder / "none.pth", {"model": {"a": 1}}), "holds no tensors, only a"),
        "renamed": (saved(folder / "renamed.pth", renamed), "Missing (1): encode_task_layer.0.bias."),
        "renamed to": (saved(folder / "renamed.pth", renamed), "Unknown (1): encode_task_layer.0.bais ("),
        "reshaped": (saved(folder / "reshaped.pth", reshaped), "query_tokens is (1, 32, 47), must be (1, 32, 48)"),
        "half": (saved(folder / "half.pth", half), "Missing (112): visual_encoder.pos_embed, visual_encoder"),
        "other kind": (GOLDEN / "stage1_contrastive_weights.safetensors", "looks like stage1 instead"),
    }  # fmt: skip


def test_damage_is_told_in_one_line_and_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cases = damaged(tmp_path)
    before = sorted(tmp_path.iterdir())
    for file, words in cases.values():
        refused(*arguments("seed1", file, out=tmp_path / "out"), words=words)
        refused(*arguments("seed1", file, out=tmp_path / "out"), words=f"{file}")
    assert sorted(tmp_path.iterdir()) == before  # no folder, nothing unfinished, and no code has run
    with pytest.raises(ConversionError, match="No checkpoint file"):
        read_checkpoint([])


def test_a_full_disk_is_told_in_one_line(tmp_path):
    out = tmp_path / "out"
    with room_for(100_000):
        status, _, err = run(*arguments("seed1", SEED1, out=out))
    assert status == 2 and f"while writing into {out}. Free some room" in err and err.count("\n") == 1
    assert not list(tmp_path.iterdir())
    assert run(*arguments("seed1", SEED1, out=out))[0] == 0


def test_what_does_not_verify_is_not_written(tmp_path):
    extra = ("--vision-heads", 2, "--verify", GOLDEN / "seed1_tokenizer_io.safetensors")
    status, printed, error = run(*arguments("seed1", SEED1, out=tmp_path / "out", extra=extra))
    assert status == 2 and "too far" in printed and "not written" in error and not list(tmp_path.iterdir())
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(b"nothing")
    for file in (bad, tmp_path / "absent.safetensors"):
        status, _, error = run(*arguments("seed1", SEED1, out=tmp_path / "out"), "--verify", file)
        assert status == 2 and str(file) in error and not (tmp_path / "out").exists()
    loose = (*extra, "--tolerance", 10)
    assert run(*arguments("seed1", SEED1, out=tmp_path / "out", extra=loose))[0] == 2  # the codes differ


def test_a_recording_without_results_verifies_nothing(tmp_path):
    inputs = {"pixel_values": golden_io("seed1_tokenizer")["pixel_values"]}
    save_file(inputs, tmp_path / "inputs.safetensors")
    command = arguments("seed1", SEED1, out=tmp_path / "out")
    status, _, error = run(*command, "--verify", tmp_path / "inputs.safetensors")
    assert status == 2 and "no result to compare with" in error and not (tmp_path / "out").exists()


def test_a_folder_of_transformers_is_taken_whole_and_accounted_for(tmp_path):
    blip2().save_pretrained(tmp_path / "blip2")
    stored = load_file(tmp_path / "blip2" / "model.safetensors")
    command = ("convert", "blip2", "--checkpoint", tmp_path / "blip2", "--out", tmp_path / "out")
    for option in (("--image-size", 56), ("--vision-heads", 4), ("--allow-missing", "nonsense")):
        refused(*command, *option, words=f"taken whole: without {option[0]}")
    status, printed, _ = run(*command)
    counts = dict(re.findall(r"^  (used|unused|missing|unknown|new) +(\d+)$", printed, re.MULTILINE))
    assert status == 0 and int(counts["used"]) + int(counts["unused"]) == len(stored) and int(counts["new"]) > 0
    unused = int(counts["unused"])
    assert unused == sum(key.startswith("itm_head") for key in stored) and int(counts["used"]) > 50
    os.remove(tmp_path / "blip2" / "model.safetensors")
    torch.save(stored, tmp_path / "blip2" / "pytorch_model.bin")
    again = run(*command[:-1], tmp_path / "again")[1]
    assert re.findall(r"^  used .*$", again, re.MULTILINE) == re.findall(r"^  used .*$", printed, re.MULTILINE)


def test_folders_that_are_taken(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    refused(*arguments("seed1", SEED1, out=tmp_path / "full"), words="not empty")
    refused(*arguments("seed1", SEED1, out=tmp_path / "full" / "mine.txt"), words="a file of that name")
    (tmp_path / "free").mkdir()
    assert run(*arguments("seed1", SEED1, out=tmp_path / "free"))[0] == 0
    assert (tmp_path / "full" / "mine.txt").read_text() == "mine"


def test_allowing_by_name(tmp_path):
    state = original_state(other_size(text_tower=True))
    state["surprise"] = torch.zeros(1)
    del state["temp"]
    file = saved(tmp_path / "a.pth", state)
    heads = ("--vision-heads", 8, "--text-tower")
    refused(*arguments("seed1", file, out=tmp_path / "out", extra=heads), words="surprise")
    allow = (*heads, "--allow-missing", "temp", "--allow-unknown", "surprise")
    status, printed, _ = run(*arguments("seed1", file, out=tmp_path / "out", extra=allow))
    assert status == 0 and "unknown           1" in printed and "missing           1" in printed
