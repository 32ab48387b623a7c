"""The files about the project agree with each other: version, changelog, make targets, workflow, hooks, citation."""

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import seed_hf
from docs_blocks import ROOT


MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = re.search(r"^\.PHONY: (.+)$", MAKEFILE, re.MULTILINE)[1].split()
WORKFLOW = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")


def test_there_is_one_version():
    """Setup, package and changelog say the same; between two releases the package's is `.dev0` of the next."""
    command = [sys.executable, "setup.py", "--version"]
    asked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()[-1]
    assert asked == seed_hf.__version__
    heading = re.search(r"^## (\S+) \((.+)\)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert heading[1] == seed_hf.__version__.removesuffix(".dev0")
    assert heading[2] == "unreleased" or re.fullmatch(r"\d{4}-\d\d-\d\d", heading[2])


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_help_has_a_line_for_each_target():
    command = ["make", "--no-print-directory", "help"]  # inside another make it would announce the folder
    lines = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    assert sorted(line.split()[1] for line in lines) == sorted(TARGETS)
    assert all(len(line.split()) > 3 for line in lines)


def test_no_test_imports_another():
    """What tests share is in `tests/support/`, so that each file runs alone and can be moved."""
    tests = {path.stem for path in (ROOT / "tests").rglob("test_*.py")}
    for path in (ROOT / "tests").rglob("*.py"):
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
        names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
        assert not names & tests, path


def test_the_workflow_calls_the_targets_of_ci():
    called = re.findall(r"^make (\S+)$", (ROOT / ".ci" / "run").read_text(encoding="utf-8"), re.MULTILINE)
    runs = [step.get("run", "") for job in yaml.safe_load(WORKFLOW)["jobs"].values() for step in job["steps"]]
    of_workflow = {run.split()[1] for run in runs if run.startswith("make ")}
    assert called and set(called) <= of_workflow <= set(TARGETS)
    for name in re.findall(r"tests/\S+\.py", WORKFLOW):
        assert (ROOT / name).is_file(), name


def test_hooks_check_with_the_versions_of_make_lint():
    pins = dict(re.findall(r"^(\S+)==(\S+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE))
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    assert {repo["repo"].rpartition("/")[2]: repo["rev"] for repo in hooks} == {
        "ruff-pre-commit": f"v{pins['ruff']}",
        "typos": f"v{pins['typos']}",
    }


def test_reports_of_bugs_bring_the_environment():
    for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"):
        form = yaml.safe_load(path.read_text(encoding="utf-8"))
        fields = {field["id"]: field for field in form["body"] if field["type"] != "markdown"}
        assert form["name"] and form["description"] and "seed-hf env" in fields["environment"]["attributes"]["label"]


def test_the_citation_is_that_of_the_model_cards():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    paper = citation["preferred-citation"]
    authors = " and ".join(f"{author['family-names']}, {author['given-names']}" for author in paper["authors"])
    card = (ROOT / "model_cards" / "base.md").read_text(encoding="utf-8")
    assert authors in card and paper["title"].replace("SEED", "{SEED}") in card and "2307.08041" in paper["url"]


def test_files_and_functions_stay_small():
    """At most 450 lines a file and 80 a function, its docstring not counted. What version 0.1 saved is left alone."""
    tracked = subprocess.run(["git", "ls-files", "*.py", ":!tests/fixtures"], cwd=ROOT, capture_output=True, text=True)
    paths = [ROOT / name for name in tracked.stdout.split()] or list(ROOT.glob("seed_hf/**/*.py"))
    large = []
    for path in filter(Path.is_file, paths):
        text = path.read_text(encoding="utf-8")
        if text.count("\n") > 450:
            large.append(f"{path.relative_to(ROOT)}: {text.count(chr(10))} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                first = node.body[0] if ast.get_docstring(node, clean=False) is not None else None
                docstring = first.end_lineno - first.lineno + 1 if first else 0
                if (lines := node.end_lineno - node.lineno + 1 - docstring) > 80:
                    large.append(f"{path.relative_to(ROOT)}: {node.name} has {lines} lines")
    assert not large
