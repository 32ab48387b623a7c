"""Publishing the bundled checkpoint: its card has the measured figures, and its parts stand alone."""

import json
import re
from importlib.resources import files

import pytest
import torch
from safetensors import safe_open

from seed_hf import SeedForConditionalGeneration, bundled
from seed_hf.artifacts.fingerprints import weights_fingerprint
from seed_hf.artifacts.whole import problems, weights_outside
from seed_hf.hub import push, write_card
from seed_hf.hub.evaluations import evaluation_tables
from seed_hf.hub.facts import facts_of
from seed_hf.hub.front_matter import check_card
from seed_hf.hub.standalone import write_standalone


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The bundled model, standing alone."""
    folder = tmp_path_factory.mktemp("standalone") / "model"
    write_standalone(bundled("seed-tiny", "model"), "model", folder)
    return folder


def test_a_part_that_stands_alone_is_the_same_and_no_larger(model):
    assert weights_outside(bundled("seed-tiny", "model")) and not weights_outside(model)
    assert problems(model, "model") == []
    before = SeedForConditionalGeneration.from_pretrained(bundled("seed-tiny", "model"))
    after = SeedForConditionalGeneration.from_pretrained(model)
    assert after.dtype == torch.float32 and weights_fingerprint(before) == weights_fingerprint(after)
    with safe_open(model / "model.safetensors", "pt") as opened:
        assert {opened.get_slice(name).get_dtype() for name in opened.keys()} <= {"F16", "I64"}
    assert "OpenMoji" in (model / "NOTICE").read_text() and "Apache License" in (model / "LICENSE").read_text()


def test_the_figures_are_those_of_the_results_file_and_of_these_weights(model):
    path = files("seed_hf.model_cards") / "results" / "seed-tiny.json"
    results = json.loads(path.read_text(encoding="utf-8"))
    weights = SeedForConditionalGeneration.from_pretrained(model)
    of_models = [result["model"] for result in results["evaluations"]]
    parts = [part for model in of_models for part in ([model] if "sha256" in model else model.values())]
    hashes = {part["class"]: part["sha256"] for part in parts}
    assert hashes[type(weights).__name__] == weights_fingerprint(weights)
    assert hashes["SeedTokenizer"] == weights_fingerprint(weights.visual_tokenizer)
    text = write_card(model, facts=facts_of(bundled("seed-tiny", "model")), run_snippet=False).read_text()
    assert evaluation_tables(results, ("retrieval", "captions", "questions", "codebook")) in text
    # and there are no other figures in prose
    prose = re.sub(r"```.*?```|^\|.*?$|\([^)]*\)|`[^`]*`", "", text.partition("## Results")[0], flags=re.DOTALL)
    assert not re.findall(r"\d+\.\d+ ?%|\d+ ?%", prose)
    metadata = check_card(text, "model")
    assert metadata["license"] == "apache-2.0" and metadata["language"] == ["en"]
    assert "NOTICE" in text and "EfficientNet-Lite0" in text and "# seed-tiny, model" in text


def test_a_dry_run_of_each_part(tmp_path):
    for part in ("tokenizer", "model", "pipeline"):
        before = sorted(bundled("seed-tiny", part).rglob("*"))
        report = push(bundled("seed-tiny", part), "tester/seed-tiny", dry_run=True)
        assert report.kind == part and {"NOTICE", "LICENSE", "README.md"} <= set(report.files)
        assert report.size < 60e6 and sorted(bundled("seed-tiny", part).rglob("*")) == before
