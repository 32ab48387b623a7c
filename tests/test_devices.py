"""Number types: fp32 on a CPU, and bf16 only where the hardware has it. A child process is limited to AVX2, as many
laptops are."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from seed_hf.devices import has_native_bf16, number_type, usable_device
from seed_hf.training import ContrastiveConfig
from stage_two import config
from tiny import tiny_tokenizer
from tiny_sources import rows, write_parquet


TESTS = Path(__file__).parent
AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}


def on_avx2(*command, **variables) -> subprocess.CompletedProcess:
    places = (TESTS / "support", TESTS.parent / "examples" / "seed_tiny")
    paths = os.pathsep.join(map(str, places))
    environment = {**os.environ, **AVX2, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", **variables}
    command = [sys.executable, *map(str, command)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, env=environment)
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.parametrize("asked", ["bf16", "int8", "nn", torch.int8])
def test_only_floating_point_numbers_are_computed_in(asked):
    with pytest.raises(ValueError, match="no number type .* Take float32, bfloat16 or float16"):
        number_type("cpu", asked)


def test_the_usual_number_types():
    assert number_type("cpu") == number_type("mps") == torch.float32
    assert number_type("cuda") == number_type(torch.device("cuda", 1)) == torch.bfloat16
    assert number_type("cuda", "float32") == torch.float32 and number_type("cuda", torch.float16) == torch.float16
    assert has_native_bf16("cuda") and not has_native_bf16("mps")
    assert usable_device("cpu") == torch.device("cpu")
    assert usable_device().type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(ValueError, match="device 'toaster' is not usable here .* Try 'cpu'"):
        usable_device("toaster")


def test_half_precision_that_was_asked_for_on_a_cpu(caplog):
    assert number_type("cpu", "bfloat16") == torch.bfloat16
    assert len(caplog.records) == (0 if has_native_bf16() else 1)
    caplog.clear()
    assert number_type("cpu", "float32") == torch.float32 and not caplog.records
    assert number_type("cpu", torch.float16) == torch.float16
    assert [record.getMessage()[:40] for record in caplog.records] == ["float16: this CPU has no hardware for it"]


def test_training_in_fp16_on_a_cpu_becomes_fp32(tmp_path, caplog):
    args = config(tmp_path, fp16=True, fp16_full_eval=True)
    assert not args.fp16 and not args.fp16_full_eval and args.mixed_precision == "no"
    (record,) = caplog.records
    assert record.getMessage().startswith("trainer.fp16, trainer.fp16_full_eval: the run is on a CPU")
    caplog.clear()
    assert config(tmp_path, bf16=True).bf16 == has_native_bf16() == (not caplog.records)


@pytest.mark.skipif(torch.accelerator.is_available(), reason="there is an accelerator, so a CPU must be asked for")
def test_bf16_where_there_is_only_a_cpu_means_the_cpu(tmp_path):
    args = ContrastiveConfig(output_dir=str(tmp_path), bf16=True, report_to="none")
    assert args.use_cpu and args.bf16 == has_native_bf16()


TRAINING = """
import sys
import seed_hf.devices
assert "torch" not in sys.modules
import torch
from seed_hf.devices import has_native_bf16
from stage_two import config, trainer_for
from tiny import tiny_tokenizer
assert not has_native_bf16()
trainer = trainer_for(tiny_tokenizer(), config(sys.argv[1], max_steps=2, bf16=True, bf16_full_eval=True))
autocast = []
trainer.model.register_forward_pre_hook(lambda *_: autocast.append(torch.is_autocast_enabled("cpu")))
trainer.train()
trainer.evaluate(trainer.train_dataset)
assert len(autocast) >= 3 and not any(autocast), autocast
assert {p.dtype for p in trainer.model.parameters()} == {torch.float32}
from optimizer import MuonAdamW
assert MuonAdamW(torch.nn.Linear(2, 2), 0.1, 0.0).parts[1].dtype == torch.float32
"""


def test_training_in_bf16_becomes_fp32_without_native_bf16(tmp_path):
    said = on_avx2("-c", TRAINING, tmp_path).stderr
    assert said.count("trainer.bf16, trainer.bf16_full_eval: the run is on a CPU that has no hardware for bf16") == 1
    assert said.count("no hardware") == 1 and "It trains in fp32 instead." in said


@pytest.mark.parametrize("limit", ["AVX2", "AVX512_CORE", "avx512_core_vnni"])
@pytest.mark.parametrize("name", ["ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"])
def test_a_limit_of_onednn_below_bf16_counts(name, limit):
    environment = {key: value for key, value in os.environ.items() if key not in (*AVX2, "DNNL_MAX_CPU_ISA")}
    code = "from seed_hf.devices import has_native_bf16; print(has_native_bf16())"
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=600, env={**environment, name: limit}
    )
    assert said.stdout == "False\n", said.stderr


def test_tokenizing_in_bf16_without_native_bf16_warns_once(tmp_path):
    tiny_tokenizer().save_pretrained(tmp_path / "tokenizer")
    source = write_parquet(tmp_path / "a.parquet", rows(3))
    command = ["-m", "seed_hf.cli", "tokenize", source, "--tokenizer", tmp_path / "tokenizer", "--workers", 0]
    said = on_avx2(*command, "--out", tmp_path / "out", "--device", "cpu", "--dtype", "bfloat16")
    assert said.stderr.count("bfloat16: this CPU has no hardware for it") == 1
    assert said.stdout == f"{tmp_path / 'out'}: 3 of 3 rows\n"


def test_muon_in_fp32_is_torchs_muon(monkeypatch):
    """But for the rounding of bf16."""
    monkeypatch.syspath_prepend(str(TESTS.parent / "examples" / "seed_tiny"))
    from optimizer import Muon

    weights = []
    for is_ours in (False, True):
        generator = torch.Generator().manual_seed(0)
        shapes = ((12, 30), (30, 12), (12, 30))
        matrices = [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes]
        theirs = {"lr": 0.1, "weight_decay": 0.1, "adjust_lr_fn": "match_rms_adamw"}
        optimizer = Muon(matrices, 0.1, 0.1, bf16=False) if is_ours else torch.optim.Muon(matrices, **theirs)
        for _ in range(3):
            for matrix in matrices:
                matrix.grad = torch.randn(matrix.shape, generator=generator)
            optimizer.step()
        weights.append([matrix.detach() for matrix in matrices])
        assert set(optimizer.state[matrices[0]]) == {"momentum_buffer"}
    for theirs, ours in zip(*weights):
        torch.testing.assert_close(ours, theirs, atol=0.01, rtol=0)


@pytest.mark.parametrize(("capability", "native"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_a_gpu_that_emulates_bf16_computes_in_fp16(monkeypatch, capability, native):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert has_native_bf16("cuda") == native
    assert number_type("cuda") == (torch.bfloat16 if native else torch.float16)


@pytest.mark.parametrize("asked", [None, "cuda", torch.device("cuda")])
def test_each_process_of_torchrun_has_its_own_gpu(monkeypatch, asked):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("LOCAL_RANK", "77")
    with pytest.raises(ValueError, match="device 'cuda:77' is not usable here"):
        usable_device(asked)
