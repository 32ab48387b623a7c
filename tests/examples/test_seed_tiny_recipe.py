"""The command lines of `examples/seed_tiny` and `examples/small_world`. `make pages` runs the stages of the first."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture
def recipe(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parents[2] / "examples" / "seed_tiny"), *sys.path])
    import recipe

    return recipe


@pytest.mark.parametrize("quick", [True, False])
def test_the_results_of_a_few_steps_become_no_part_of_a_real_run(recipe, quick, monkeypatch, capsys, tmp_path):
    (tmp_path / ("features" if quick else "quick")).touch()  # begun the other way
    arguments = ["--data", "data", "--work", str(tmp_path), "--out", "out", *(["--quick"] if quick else [])]
    monkeypatch.setattr(sys, "argv", ["recipe.py", *arguments])
    with pytest.raises(SystemExit):
        recipe.main()
    assert f"was begun with{'out' if quick else ''} --quick: take another folder" in capsys.readouterr().err


@pytest.mark.parametrize("quick", [True, False])
def test_the_small_world_keeps_a_few_steps_apart_too(quick, tmp_path):
    """In a child: its modules have the names of seed-tiny's."""
    (tmp_path / ("vocabulary" if quick else "quick")).touch()  # begun the other way
    recipe = Path(__file__).parents[2] / "examples" / "small_world" / "recipe.py"
    arguments = ["--data", "data", "--work", str(tmp_path), "--out", "out", *(["--quick"] if quick else [])]
    done = subprocess.run([sys.executable, recipe, *arguments], capture_output=True, text=True)
    assert done.returncode == 2
    assert f"was begun with{'out' if quick else ''} --quick: take another folder" in done.stderr
