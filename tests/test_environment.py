"""`seed_hf.environment`: complete, free of what is private, and there even without any library."""

import json
import os
import subprocess
import sys
from pathlib import Path

import torch

import seed_hf.environment as environment_module
from docs_blocks import ROOT
from seed_hf.environment import LIBRARIES, environment


def test_versions_and_devices_are_those_of_this_process():
    import transformers

    told = environment()
    assert {"seed_hf", "python", "platform", "devices", "threads", "native bf16", *LIBRARIES} == set(told)
    assert told["torch"] == torch.__version__ and told["transformers"] == transformers.__version__
    assert told["python"] == ".".join(map(str, sys.version_info[:3]))
    assert told["devices"].startswith("cpu (") and ("cuda:0" in told["devices"]) == torch.cuda.is_available()
    assert told["threads"].startswith(f"torch {torch.get_num_threads()}, ")


def test_the_cores_of_a_container_are_counted(monkeypatch):
    monkeypatch.setattr(environment_module, "available_cores", lambda: 1)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert environment()["threads"].endswith(", 1 of 64 cores")


def asked(*options: str, code: str = "", **variables: str) -> str:
    """The environment as JSON, from a process of its own that finds the package in the working directory."""
    code += "; import json; from seed_hf.environment import environment; print(json.dumps(environment()))"
    command = [sys.executable, *options, "-c", f"import sys{code}"]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_is_told_without_any_library():
    told = json.loads(asked("-S", PYTHONPATH=""))
    assert {told[name] for name in LIBRARIES} == {"not installed"}
    assert "ModuleNotFoundError" in told["devices"] and "cores" in told["threads"]


def test_it_tells_nothing_private():
    told = asked(HF_TOKEN="hf_private", USER="someone-private")
    for private in ("hf_private", "someone-private", sys.prefix, str(ROOT), str(Path.home())):
        assert private not in told


def test_a_broken_torch_is_no_error():
    told = json.loads(asked(code='; sys.modules["torch"] = None'))
    assert "not usable" in told["devices"] and torch.__version__.startswith(told["torch"].partition("+")[0])
