"""The figures of seed-tiny on its pages are those of its results, and its sizes those of its files."""

import json
import re
from pathlib import Path

import pytest
from safetensors import safe_open

from docs_blocks import ROOT
from seed_hf import bundled
from seed_hf.pictograms.scene_things import read_things


RECIPE = ROOT / "examples" / "seed_tiny"
WORDS = "no one two three four five six seven eight nine ten eleven twelve".split()
DRAWINGS = {"captions": "drawn", "images": "redrawn", "edits": "edited"}


@pytest.fixture
def figures(monkeypatch):
    monkeypatch.syspath_prepend(str(RECIPE))
    import figures

    return figures


@pytest.fixture
def found(figures):
    """What `figures.py` measured, by task and set, from the file that it wrote: its sets are in the order of names."""
    results = json.loads((ROOT / "model_cards" / "results" / "seed-tiny.json").read_text(encoding="utf-8"))
    by_task = {}
    for result in results["evaluations"]:
        task = DRAWINGS.get(result["settings"].get("source"), result["task"])
        by_task.setdefault(task, []).append(result)
    alone = {"edited": ["test"], "codebook": ["train"]}
    found = {}
    for task, measured in by_task.items():
        found[task] = {}
        for name, result in zip(alone.get(task, sorted(figures.SETS)), measured, strict=True):
            found[task][name] = result["figures"]
            if task in ("drawn", "redrawn"):
                assert list(result["data"]["files"]) == [f"{name}.parquet"]
    return found


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def section(page: Path, heading: str) -> str:
    return re.split(r"^## ", read(page).partition(f"## {heading}\n")[2], flags=re.MULTILINE)[0]


def rows_of(text: str) -> list[list[str]]:
    """The cells of a table, without its first two lines."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_the_tables_are_what_the_recipe_prints(figures, found):
    printed = figures.table(found)
    assert printed in section(RECIPE / "README.md", "All figures")
    shown = [line for line in section(ROOT / "README.md", "Figures").splitlines() if line.startswith("|")]
    edits = f"| edits of colour: all right | {found['edited']['test']['all']['correct']:.1f} |{' - |' * 4}"
    assert len(shown) > 8 and shown[-1] == edits
    # A caption carries no drawing, so the README leaves the last two columns of what is drawn from it out.
    ours = [
        re.sub(r"( [^|]+ \|){2}$", " - | - |", line) if "drawn from the caption" in line else line
        for line in printed.splitlines()
    ]
    assert not set(shown[:-1]) - set(ours)


def test_what_is_said_of_two_things_and_of_the_codes(found):
    text = " ".join(section(ROOT / "README.md", "Figures").split())
    assert f"questions about two things {found['vqa']['test']['two']['accuracy']:.0f} of 100 are right" in text
    assert f"1,000 images use {found['codebook']['train']['all']['usage']:.1f} % of the codes" in text


def test_the_last_row_of_what_hours_buy_is_of_these_weights(found):
    def of(task: str, figure: str, *sets: str) -> str:
        return ", ".join(f"{found[task][name]['all'][figure]:.1f}" for name in sets)

    drawn = (f"{found['drawn']['test'][layout]['correct']:.1f}" for layout in ("colors", "position"))
    both = ("test", "test_pair")
    row = [of("caption", "exact_match", *both), of("vqa", "accuracy", *both), *drawn, of("edited", "correct", "test")]
    assert rows_of(section(RECIPE / "README.md", "What hours buy"))[-1][1:] == row


def test_the_aims_that_are_missed_say_so(found):
    one = found["drawn"]["test"]["colors"]
    codes = found["codebook"]["train"]["all"]
    measured = [
        f"{found['vqa']['test']['all']['accuracy']:.1f}",
        f"{100 * one['correct'] / one['real: correct']:.0f} ({one['correct']:.1f} of {one['real: correct']:.1f})",
        f"{found['drawn']['test']['position']['correct']:.1f}",
        f"{found['redrawn']['test_art']['colors']['correct']:.1f}",
        f"{codes['usage']:.1f}",
        f"{codes['perplexity']:,.0f}",
    ]
    rows = rows_of(section(RECIPE / "README.md", "Aims"))
    assert [row[3] for row in rows if row[1] == "`figures.py`"] == measured
    missed = []
    for what, _, aim, reached, verdict in rows:
        aim, first = (float(re.match(r"[\d,.]*\d", cell)[0].replace(",", "")) for cell in (aim, reached))
        holds = first <= aim if what.startswith("points") else first >= aim
        assert verdict == ("" if holds else "missed"), what
        missed += [what] if verdict else []
    said = re.search(r"(\w+) \[aims\]\S+ of which (\w+) are missed", read(ROOT / "README.md"))
    assert (said[1], said[2]) == (WORDS[len(rows)], WORDS[len(missed)])


def test_the_sizes_are_those_of_the_files():
    files = sorted(bundled("seed-tiny", "model").parent.rglob("*.safetensors"))
    weights = 0
    for file in files:
        with safe_open(file, "pt") as tensors:
            weights += sum(tensors.get_tensor(name).numel() for name in tensors.keys())  # noqa: SIM118
    known = json.loads(read(bundled("seed-tiny", "model") / "known_words.json"))
    things = len(read_things())
    assert len(known["things"]) == things
    million, size = (
        f"{weights / 1e6:.0f} million weights",
        f"{sum(file.stat().st_size for file in files) / 1e6:.1f} MB",
    )
    said = {
        "README.md": [f"{million} in {size}", f"{things} things from emoji", f"it knows {len(known['words'])} words"],
        "docs/index.md": [million],
        "docs/scenes.md": [f"{things} things"],
        "docs/evaluation.md": [f"among {things} things"],
        "examples/seed_tiny/README.md": [f"writes the checkpoint, {size}"],
        "examples/seed_tiny/history.md": [f"(704 for 1,024): {size}"],
        "model_cards/seed-tiny.yaml": [f"{things} icon-like things"],
    }
    for page, phrases in said.items():
        text = " ".join(read(ROOT / page).split())
        assert all(phrase in text for phrase in phrases), (page, phrases)
