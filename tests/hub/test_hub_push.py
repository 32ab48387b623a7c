"""Publishing to a stand-in Hub: one commit, private, resumable; what was pushed loads in a fresh process."""

import itertools
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from command_line import refused, run
from seed_hf.artifacts.kinds import KINDS
from seed_hf.artifacts.publishable import files_of
from seed_hf.hub import push, write_card
from stand_in_hub import Repository, StandInHub
from tiny_artifacts import save_artifact, tiny_evaluation


LOADING = """
import hashlib, json, sys
without, folders = json.loads(sys.argv[1]), json.loads(sys.argv[2])
if without:
    sys.modules["seed_hf"] = None  # any import of the package fails
    trust = {"trust_remote_code": True}
else:
    import seed_hf.auto
    trust = {}

def digest(weights):
    seen = hashlib.sha256()
    for name, value in sorted(weights.items()):
        seen.update(name.encode() + value.float().numpy().tobytes())
    return seen.hexdigest()

def tokenizer(place):
    from transformers import AutoModel
    return digest(AutoModel.from_pretrained(place, **trust).state_dict())

def model(place):
    from transformers import AutoModelForMultimodalLM, AutoProcessor
    text = AutoProcessor.from_pretrained(place, **trust).tokenizer
    return [len(text), digest(AutoModelForMultimodalLM.from_pretrained(place, **trust).state_dict())]

def language_model(place):
    from transformers import AutoModelForCausalLM, AutoTokenizer
    model = AutoModelForCausalLM.from_pretrained(place, **trust)
    return [len(AutoTokenizer.from_pretrained(place, **trust)), digest(model.state_dict())]

def pipeline(place):
    if without:
        from diffusers import DiffusionPipeline as pipeline_class
    else:
        from seed_hf import SeedImagePipeline as pipeline_class
    pipe = pipeline_class.from_pretrained(place, **trust)
    return [digest(part.state_dict()) for part in (pipe.seed_model, pipe.unet, pipe.vae, pipe.empty_prompt)]

def adapter(place):
    from peft import PeftModel
    from transformers import OPTForCausalLM
    adapted = PeftModel.from_pretrained(OPTForCausalLM.from_pretrained(folders["base"]), place)
    return digest({name: value for name, value in adapted.state_dict().items() if "lora" in name})

def dataset(place):
    from datasets import load_dataset
    rows = load_dataset(place, split="train")
    return [rows.column_names, rows.num_rows, rows[5]]

for kind in [kind for kind in folders if kind != "base"]:
    there, here = (globals()[kind](place) for place in ("tester/tiny-" + kind, folders[kind]))
    print(json.dumps([kind, there == here]))
"""


@pytest.fixture
def hub():
    with StandInHub() as hub:
        yield hub
        assert hub.unknown == []


@pytest.fixture(scope="module")
def published(saved, tmp_path_factory):
    """The stand-in after a push of every kind, and the folders."""
    place = tmp_path_factory.mktemp("published")
    folders = {kind: str(shutil.copytree(saved[kind], place / kind)) for kind in KINDS}
    with StandInHub() as hub:
        code = """
import json, sys
from seed_hf.hub import push
for kind, folder in json.loads(sys.argv[1]).items():
    report = push(folder, "tester/tiny-" + kind)
    assert report.kind == kind and report.private and report.changed
"""
        python(code, hub.environment(place / "home"), json.dumps(folders))
        yield hub, {**folders, "base": str(saved["adapter"].parent / "base")}
        assert hub.unknown == []


def python(code: str, environment: dict, *arguments: str) -> str:
    """The output of a program that runs in a process of its own."""
    # Exit without stopping pyarrow's threads, which sometimes aborts.
    code += "\nimport os, sys\nsys.stdout.flush()\nos._exit(0)\n"
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def pushing(*arguments) -> list[str]:
    return [sys.executable, "-m", "seed_hf.cli", "push", *map(str, arguments)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_push_is_one_private_commit_of_the_whole_folder(published, kind):
    hub, folders = published
    repository = hub.repositories["dataset" if kind == "dataset" else "model", f"tester/tiny-{kind}"]
    folder = Path(folders[kind])
    assert repository.private and len(repository.commits) == 1
    assert repository.files == {path: (folder / path).read_bytes() for path in files_of(folder)[0]}
    card = repository.files["README.md"].decode()
    assert "[More Information Needed]" not in card  # peft saves such a draft
    assert card.startswith("---\n") and f'"tester/tiny-{kind}"' in card


@pytest.mark.parametrize("without", [False, True], ids=["with the package", "without it"])
def test_what_was_pushed_loads_in_a_fresh_process(published, tmp_path, without):
    hub, folders = published
    printed = python(LOADING, hub.environment(tmp_path), json.dumps(without), json.dumps(folders))
    loaded = dict(json.loads(line) for line in printed.splitlines() if line.startswith("["))
    assert loaded == dict.fromkeys(KINDS, True)


def test_nothing_is_sent_twice(hub, artifact, tmp_path):
    folder, name = artifact("tokenizer"), "tester/again"
    hub.repositories["model", name] = repository = Repository(private=True, files={"old.json": b"{}"})
    code = """
import json, pathlib, sys
from seed_hf.hub import push
folder, results = pathlib.Path(sys.argv[1]), sys.argv[2]
first, second = push(folder, "tester/again"), push(folder, "tester/again")
assert first.changed and not second.changed and first.commit == second.commit
assert first.stale == second.stale == ("old.json",)
(folder / "README.md").unlink()  # written again, with results
(folder / "results.json").write_text(results)
assert push(folder, "tester/again").changed
"""
    python(code, hub.environment(tmp_path), str(folder), json.dumps(tiny_evaluation(folder)))
    assert [[name for name in changed if not name.endswith(".py")] for _, changed in repository.commits] == [
        ["README.md", "config.json", "model.safetensors", "preprocessor_config.json"],
        ["README.md", "results.json"],
    ]
    assert len(hub.uploads) == 1 and "old.json" in repository.files


def test_shards_take_the_place_of_one_file(hub, tmp_path):
    """transformers loads model.safetensors before an index: the old weights would stay in effect."""
    from tiny_language import tiny_language_model, tiny_text_tokenizer

    model, folder, name = tiny_language_model(), tmp_path / "sharded", "tester/shards"
    model.save_pretrained(folder, max_shard_size="8KB")
    tiny_text_tokenizer().save_pretrained(folder)
    hub.repositories["model", name] = repository = Repository(
        private=True, files={"model.safetensors": b"old", "notes.md": b"mine"}
    )
    code = """
import sys
from seed_hf.hub import push
report = push(sys.argv[1], "tester/shards")
assert report.removed == ("model.safetensors",) and report.stale == ("notes.md",), report
assert push(sys.argv[1], "tester/shards").removed == ()
"""
    python(code, hub.environment(tmp_path), str(folder))
    assert "model.safetensors" not in repository.files and "notes.md" in repository.files
    assert "model.safetensors.index.json" in repository.files
    model.save_pretrained(tmp_path / "one")  # and back: diffusers would load an index first
    tiny_text_tokenizer().save_pretrained(tmp_path / "one")
    code = """
import sys
from seed_hf.hub import push
report = push(sys.argv[1], "tester/shards")
assert report.removed == ("model.safetensors.index.json",), report
push(sys.argv[1], "tester/told-nothing", private=None)
"""
    python(code, hub.environment(tmp_path), str(tmp_path / "one"))
    assert "model.safetensors.index.json" not in repository.files
    assert hub.repositories["model", "tester/told-nothing"].private


def test_an_interrupted_push_goes_on_where_it_was(hub, tmp_path):
    from tiny_language import tiny_language_model, tiny_text_tokenizer

    folder, name = tmp_path / "sharded", "tester/sharded"
    tiny_language_model().save_pretrained(folder, max_shard_size="8KB")
    tiny_text_tokenizer().save_pretrained(folder)
    shards = len(list(folder.glob("*.safetensors")))
    assert shards >= 3
    hub.hang_after = 2
    process = subprocess.Popen(
        pushing(folder, name), env=hub.environment(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert hub.hanging.wait(600)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    repository = hub.repositories["model", name]
    assert repository.commits == [] and repository.files == {} and len(hub.uploads) == 2
    hub.hang_after = None
    hub.release.set()
    subprocess.run(pushing(folder, name), env=hub.environment(tmp_path), check=True, timeout=600)
    assert len(repository.commits) == 1 and len(hub.uploads) == len(set(hub.uploads)) == shards
    assert {path: (folder / path).read_bytes() for path in files_of(folder)[0]} == repository.files


def test_an_existing_public_repository_stays_public_and_is_named(hub, artifact, tmp_path):
    hub.repositories["model", "tester/open"] = Repository(private=False)
    command = pushing(artifact("tokenizer"), "tester/open")
    done = subprocess.run(command, env=hub.environment(tmp_path), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0 and not hub.repositories["model", "tester/open"].private
    assert "(PUBLIC)" in done.stdout and "tester/open exists already and is public" in done.stderr
    command = pushing(artifact("tokenizer", "other"), "tester/asked", "--public")
    assert subprocess.run(command, env=hub.environment(tmp_path), timeout=600).returncode == 0
    assert not hub.repositories["model", "tester/asked"].private


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
pipe = tiny_pipeline(model, processor=processor)
pipe.push_to_hub("tester/pipeline", commit_message="mine")
tiny_tokenizer().push_to_hub("no-owner", create_pr=False, private=None)
tiny_tokenizer().push_to_hub("tester/described")
for number, part in enumerate((model, processor, pipe, model.config)):
    part.save_pretrained(f"saved{number}", push_to_hub=True, repo_id=f"tester/saved{number}", private=None)
model.config.push_to_hub("tester/config")
""".replace("TESTS", repr(str(Path(__file__).parents[1] / "support")))
    words = b"---\nlicense: mit\n---\n# My own words\n"
    hub.repositories["model", "tester/described"] = Repository(private=True, files={"README.md": words})
    python(f"import os; os.chdir({str(tmp_path)!r}); import seed_hf.auto\n" + code, hub.environment(tmp_path))
    for name in ("no-owner", "saved0", "saved1", "saved2", "saved3", "config"):
        assert hub.repositories["model", f"tester/{name}"].private, name
    described = hub.repositories["model", "tester/described"].files
    assert described["README.md"] == words and "model.safetensors" in described
    assert b"tester/no-owner" in hub.repositories["model", "tester/no-owner"].files["README.md"]
    model = hub.repositories["model", "tester/model"]
    assert model.private and {"tokenizer.json", "model.safetensors", "processor_config.json"} <= set(model.files)
    assert b"any-to-any" in model.files["README.md"] and len(model.commits) == 2
    assert not hub.repositories["model", "tester/tokenizer"].private
    pipeline = hub.repositories["model", "tester/pipeline"]
    assert pipeline.private and pipeline.commits[0][0] == "mine" and b"text-to-image" in pipeline.files["README.md"]


def test_what_cannot_be_saved_makes_no_repository(hub, tmp_path):
    code = """
import sys
sys.path.insert(0, TESTS)
from tiny_diffusion import tiny_model_and_processor, tiny_pipeline
try:
    tiny_pipeline(tiny_model_and_processor()[0]).push_to_hub("tester/pickled", safe_serialization=False)
except ValueError as error:
    print(error)
""".replace("TESTS", repr(str(Path(__file__).parents[1] / "support")))
    assert "safetensors alone" in python("import seed_hf.auto\n" + code, hub.environment(tmp_path))
    assert not hub.repositories


def test_the_classes_are_private_however_they_are_imported(hub, tmp_path):
    code = """
from seed_hf.modeling.publishing_seed import PrivateByDefault
from seed_hf.modeling.image_processing_seed import SeedImageProcessor
import sys
assert "seed_hf.auto" not in sys.modules
SeedImageProcessor().push_to_hub("tester/processor")
"""
    python(code, hub.environment(tmp_path))
    assert hub.repositories["model", "tester/processor"].private


def test_a_dry_run_lists_and_touches_nothing(artifact, monkeypatch):
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


def test_what_is_not_published(artifact, tmp_path):
    numbers = itertools.count()

    def refuse(kind, words, spoil):
        folder = artifact(kind, f"bad{next(numbers)}")
        spoil(folder)
        refused("push", folder, "tester/x", "--dry-run", words=words)

    refuse("tokenizer", "can run code", lambda folder: (folder / "optimizer.bin").write_bytes(b"x"))
    refuse("tokenizer", "can run code", lambda folder: (folder / "optimizer.pt").write_bytes(b"x"))
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

    def of_an_old_card(folder):
        write_card(folder, run_snippet=False)
        path = folder / "adapter_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "base_model_name_or_path": "owner/other"}))

    refuse("adapter", "does not name its base model owner/other", of_an_old_card)
    folder = artifact("tokenizer", "trained")
    for name in ("trainer_state.json", "events.out.tfevents.1.host", "training_args.bin"):
        (folder / name).write_text("/home/jane")
    assert "training_args.bin" in push(folder, "tester/x", dry_run=True).left_out  # every Trainer saves it
    refused("push", folder, "tester/x", "--dry-run", "--include", "training_args.bin", words="can run code")
    assert not [name for name in files_of(folder)[0] if "state" in name or "events" in name]
    refused("push", artifact("tokenizer"), "no-owner", "--dry-run", words="owner/name")
    refused("push", tmp_path, "tester/x", words="holds no artifact")


def test_an_unfinished_data_set_is_not_published(tmp_path):
    folder = save_artifact("dataset", tmp_path / "codes")
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "complete": False}))
    refused("push", folder, "tester/x", "--dry-run", words="has not ended")
