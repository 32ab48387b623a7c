"""Publishing against a stand-in Hub: one commit, private, resumable, and what comes back loads in a fresh process."""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from seed_hf.hub.artifact import KINDS, files_of
from stand_in_hub import StandInHub
from test_cli import refused, run
from test_hub_card import artifact, saved  # noqa: F401  fixtures
from tiny_artifacts import save_artifact, tiny_report


WITHOUT_PACKAGE = "import sys; sys.modules['seed_hf'] = None\n"
LOAD = {
    "tokenizer": """
from seed_hf import SeedImageProcessor, SeedTokenizer
SeedImageProcessor.from_pretrained(ID)
weights = SeedTokenizer.from_pretrained(ID).state_dict()
""",
    "model": """
from seed_hf import SeedForConditionalGeneration, SeedProcessor
SeedProcessor.from_pretrained(ID)
weights = SeedForConditionalGeneration.from_pretrained(ID).state_dict()
""",
    "language_model": """
from seed_hf import SeedForCausalLM
from transformers import AutoTokenizer
AutoTokenizer.from_pretrained(ID)
weights = SeedForCausalLM.from_pretrained(ID).state_dict()
""",
    "pipeline": """
from seed_hf import SeedImagePipeline
weights = SeedImagePipeline.from_pretrained(ID).unet.state_dict()
""",
    "adapter": WITHOUT_PACKAGE
    + """
from peft import PeftModel
from transformers import OPTForCausalLM
base = OPTForCausalLM.from_pretrained(BASE)
weights = {k: v for k, v in PeftModel.from_pretrained(base, ID).state_dict().items() if "lora" in k}
""",
    "dataset": WITHOUT_PACKAGE
    + """
from datasets import load_dataset
weights, rows = {}, load_dataset(ID, split="train")
print(rows.column_names, rows.num_rows, rows[5]["codes"])
""",
}
DIGEST = """
import hashlib
digest = hashlib.sha256()
for name, value in sorted(weights.items()):
    digest.update(name.encode() + value.float().numpy().tobytes())
print(digest.hexdigest())
"""


@pytest.fixture
def hub():
    with StandInHub() as hub:
        yield hub
        assert hub.unknown == []


def python(code: str, environment: dict, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=cwd, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def pushing(*arguments) -> list[str]:
    return [sys.executable, "-m", "seed_hf.cli", "push", *map(str, arguments)]


def push(hub, home, *arguments, fails=False) -> subprocess.CompletedProcess:
    done = subprocess.run(pushing(*arguments), env=hub.environment(home), capture_output=True, text=True, timeout=300)
    assert bool(done.returncode) == fails, done.stderr[-3000:]
    return done


@pytest.mark.parametrize("kind", KINDS)
def test_pushed_listed_downloaded_and_loaded(hub, artifact, saved, tmp_path, kind):  # noqa: F811
    folder, name = artifact(kind, kind), f"tester/tiny-{kind}"
    type_ = "dataset" if kind == "dataset" else "model"
    done = push(hub, tmp_path / "home", folder, name)
    assert "(private)" in done.stdout
    repository = hub.repositories[type_, name]
    files, _ = files_of(folder)
    assert repository.private and len(repository.commits) == 1
    assert repository.files == {path: (folder / path).read_bytes() for path in files}
    assert repository.files["README.md"].startswith(b"---\n")
    assert f'"{name}"' in repository.files["README.md"].decode()
    local = LOAD[kind].replace("BASE", repr(str(folder.parent / "base"))).replace("ID", repr(str(folder)))
    remote = LOAD[kind].replace("BASE", repr(str(folder.parent / "base"))).replace("ID", repr(name))
    if kind == "adapter":
        shutil.copytree(saved[kind].parent / "base", folder.parent / "base")
    environment, offline = hub.environment(tmp_path / "home"), {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "x")}
    there = python(remote + DIGEST, environment, tmp_path)
    assert there == python(local + DIGEST, {**environment, **offline}, tmp_path)


def test_nothing_is_sent_twice(hub, artifact, tmp_path):  # noqa: F811
    folder, name = artifact("tokenizer"), "tester/again"
    push(hub, tmp_path, folder, name)
    repository, sent = hub.repositories["model", name], len(hub.uploads)
    assert "nothing new" in push(hub, tmp_path, folder, name).stdout
    assert len(repository.commits) == 1 and len(hub.uploads) == sent
    # another card: one small file changes, and what the folder no longer has is named and stays
    repository.files["old.json"] = b"{}"
    (folder / "README.md").unlink()
    (folder / "results.json").write_text(json.dumps(tiny_report()))
    done = push(hub, tmp_path, folder, name)
    assert repository.commits[1][1] == ["README.md", "results.json"] and len(hub.uploads) == sent
    assert "old.json" in done.stdout and "old.json" in repository.files


def test_an_interrupted_push_goes_on_where_it_was(hub, tmp_path):
    from tiny_language import tiny_language_model, tiny_text_tokenizer

    folder, name = tmp_path / "sharded", "tester/sharded"
    tiny_language_model().save_pretrained(folder, max_shard_size="10KB")
    tiny_text_tokenizer().save_pretrained(folder)
    shards = len(list(folder.glob("*.safetensors")))
    assert shards > 3
    hub.hang_after = 2
    process = subprocess.Popen(
        pushing(folder, name), env=hub.environment(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert hub.hanging.wait(120)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    repository = hub.repositories["model", name]
    assert repository.commits == [] and repository.files == {} and len(hub.uploads) == 2
    hub.hang_after = None
    hub.release.set()
    push(hub, tmp_path, folder, name)
    assert len(repository.commits) == 1 and len(hub.uploads) == len(set(hub.uploads)) == shards
    assert {path: (folder / path).read_bytes() for path in files_of(folder)[0]} == repository.files


def test_visibility(hub, artifact, tmp_path):  # noqa: F811
    folder = artifact("tokenizer")
    push(hub, tmp_path, folder, "tester/open", "--public")
    assert not hub.repositories["model", "tester/open"].private
    done = push(hub, tmp_path, folder, "tester/open")  # exists: stays as it is, and the user is told
    assert not hub.repositories["model", "tester/open"].private
    assert "(PUBLIC)" in done.stdout and "is public" in done.stderr


def test_push_to_hub_of_the_classes_is_private_and_has_a_card(hub, tmp_path):
    code = """
import sys
sys.path.insert(0, TESTS)
from tiny_diffusion import tiny_model_and_processor, tiny_pipeline
from tiny import tiny_tokenizer
model, processor = tiny_model_and_processor()
model.push_to_hub("tester/model")
processor.push_to_hub("tester/model")
tiny_tokenizer().push_to_hub("tester/tokenizer", private=False)
tiny_pipeline(model, processor=processor).push_to_hub("tester/pipeline", commit_message="mine")
""".replace("TESTS", repr(os.path.dirname(__file__)))
    python("import seed_hf.auto\n" + code, hub.environment(tmp_path), tmp_path)
    model = hub.repositories["model", "tester/model"]
    assert model.private and {"tokenizer.json", "model.safetensors", "processor_config.json"} <= set(model.files)
    assert b"any-to-any" in model.files["README.md"] and len(model.commits) == 2
    assert not hub.repositories["model", "tester/tokenizer"].private
    pipeline = hub.repositories["model", "tester/pipeline"]
    assert pipeline.private and pipeline.commits[0][0] == "mine" and b"text-to-image" in pipeline.files["README.md"]


def test_the_classes_are_private_however_they_are_imported(hub, tmp_path):
    code = """
from seed_hf.modeling.configuration_seed import PrivateByDefault
from seed_hf.modeling.image_processing_seed import SeedImageProcessor
import sys
assert "seed_hf.auto" not in sys.modules
SeedImageProcessor().push_to_hub("tester/processor")
"""
    python(code, hub.environment(tmp_path), tmp_path)
    assert hub.repositories["model", "tester/processor"].private


def test_a_dry_run_lists_and_touches_nothing(artifact, monkeypatch):  # noqa: F811
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    folder = artifact("pipeline")
    (folder / "checkpoint-3").mkdir()
    (folder / "checkpoint-3" / "optimizer.pt").write_bytes(b"x")
    (folder / ".env").write_text("secret")
    before = sorted(folder.rglob("*"))
    status, text, _ = run("push", folder, "tester/x", "--dry-run")
    assert status == 0 and text.endswith("; nothing was sent\n") and sorted(folder.rglob("*")) == before
    listed = {line.split(maxsplit=2)[2]: line.split(maxsplit=2)[:2] for line in text.splitlines()[:-1]}
    assert listed[".env"] == listed["checkpoint-3/"] == ["left", "out"] and listed["README.md"] == ["to", "write"]
    size = (folder / "unet" / "diffusion_pytorch_model.safetensors").stat().st_size
    assert listed["unet/diffusion_pytorch_model.safetensors"] == [f"{size / 1000:.1f}", "kB"]


def test_what_is_not_published(artifact, tmp_path):  # noqa: F811
    numbers = itertools.count()

    def refuse(kind, words, spoil):
        folder = artifact(kind, f"bad{next(numbers)}")
        spoil(folder)
        refused("push", folder, "tester/x", "--dry-run", words=words)

    refuse("tokenizer", "can run code", lambda folder: (folder / "training_args.bin").write_bytes(b"x"))
    refuse("tokenizer", "can run code", lambda folder: (folder / "optimizer.pt").write_bytes(b"x"))
    refuse("tokenizer", "symbolic link", lambda folder: (folder / "more.json").symlink_to(folder / "config.json"))
    refuse("tokenizer", "no weights", lambda folder: (folder / "model.safetensors").unlink())
    refuse("tokenizer", "preprocessor_config.json", lambda folder: (folder / "preprocessor_config.json").unlink())
    refuse("model", "no processor_config.json", lambda folder: (folder / "processor_config.json").unlink())
    refuse("language_model", "tokenizer.json", lambda folder: [p.unlink() for p in folder.glob("tokenizer*")])
    refuse("pipeline", "no folder vae", lambda folder: shutil.rmtree(folder / "vae"))
    refuse("adapter", "adapter_model", lambda folder: (folder / "adapter_model.safetensors").unlink())
    refuse("dataset", "no codes-00000-00001", lambda folder: (folder / "codes-00000-00001.parquet").unlink())
    refuse("tokenizer", "no front matter", lambda folder: (folder / "README.md").write_text("mine"))

    def of_a_local_base(folder):
        path = folder / "adapter_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "base_model_name_or_path": str(tmp_path)}))

    refuse("adapter", "nobody else has", of_a_local_base)
    refused("push", artifact("tokenizer"), "no-owner", "--dry-run", words="owner/name")
    refused("push", tmp_path, "tester/x", words="holds no artifact")


def test_an_unfinished_data_set_is_not_published(tmp_path):
    folder = save_artifact("dataset", tmp_path / "codes")
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "complete": False}))
    refused("push", folder, "tester/x", "--dry-run", words="has not ended")
