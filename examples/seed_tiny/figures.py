"""The figures of seed-tiny in README.md: every evaluation on every set of scenes, and the table of what they found.

    python examples/seed_tiny/figures.py --pictograms data/pictograms --out runs/figures

Evaluations whose result is there are not done again, so the command can be killed and started again. It takes about
an hour of one CPU core.
"""

import argparse
import json
from pathlib import Path

from seed_hf.threads import prepare_threads


prepare_threads()  # before torch is imported

from seed_hf.cli.app import app
from seed_hf.hub.results import read_results, to_text


SETS = {
    "test": "known",
    "test_colour": "new colours",
    "test_pair": "new pairs",
    "test_art": "unseen drawings",
    "test_style": "unseen style",
}
LAYOUTS = {
    "colors": "one thing",
    "single_object": "one thing, colours not named",
    "position": "two things",
    "counting": "two to four of a kind",
}


def run(*command: str | int | Path) -> None:
    """A command of `seed-hf`, in this process."""
    if status := app([str(part) for part in command], standalone_mode=False):
        raise SystemExit(status)


def evaluate(task: str, out: Path, *options: str | Path) -> dict:
    """The figures of `seed-hf evaluate TASK`, measured unless `out` has them."""
    if not out.exists():
        run("evaluate", task, "--out", out, *options)
    return json.loads(out.read_text(encoding="utf-8"))["figures"]


def prepare(pictograms: Path, out: Path, rows: int, quick: bool) -> Path:
    """Scenes and their judge."""
    sizes = ("--train-rows", 20 if quick else 1000, "--other-rows", 8 if quick else rows)
    few = ("--scenes", 16, "--measured", 4) if quick else ()
    for done, command in (
        (out / "scenes" / "edits_test.parquet", ("data", "scenes", "--out", out / "scenes", *sizes)),
        (out / "judge" / "judge.json", ("evaluate", "judge", "--out", out / "judge", *few)),
    ):
        if not done.exists():
            run(*command, "--pictograms", pictograms)
    return out / "scenes"


def measure(scenes: Path, out: Path, seeing: list, drawing: list) -> dict[str, dict[str, dict]]:
    """Figures by task and set."""
    judge, found = ("--judge", out / "judge"), {}
    for name in SETS:
        data = ("--data", scenes / f"{name}.parquet")
        for task in ("retrieval", "caption", "vqa"):
            all_right = ("--caption-column", "captions") if task == "caption" else ()
            file = out / f"{task}-{name}.json"
            found.setdefault(task, {})[name] = evaluate(task, file, *data, *all_right, *seeing)
        for source, task in (("captions", "drawn"), ("images", "redrawn")):
            options = (*data, *judge, "--source", source, *drawing)
            spans = ("--valid-spans",) if (name, task) == ("test", "drawn") else ()
            file = out / f"{task}-{name}.json"
            found.setdefault(task, {})[name] = evaluate("generation", file, *options, *spans)
    edits = ("--data", scenes / "edits_test.parquet", *judge, "--source", "edits", *drawing)
    found["edited"] = {"test": evaluate("generation", out / "edited.json", *edits)}
    found["codebook"] = {
        "train": evaluate("codebook", out / "codebook.json", "--data", scenes / "train.parquet", *seeing)
    }
    return found


def table(found: dict[str, dict[str, dict]]) -> str:
    """Markdown: a row for each question, a column for each set."""
    rows = [["", *SETS.values()], ["---"] * (len(SETS) + 1)]

    def row(title: str, task: str, group: str, figure: str, beside: str = "") -> None:
        cells = []
        for name in SETS:
            figures = found[task][name].get(group, {})
            value = figures.get(figure)
            cell = "-" if value is None else f"{value:.1f}"
            cells.append(cell + (f" ({figures[beside]:.1f})" if value is not None and beside else ""))
        if any(cell != "-" for cell in cells):
            rows.append([title, *cells])

    row("retrieval on the 32 codes, R@m", "retrieval", "codes", "R@m")
    row("... on the embeddings before the codebook", "retrieval", "embeddings", "R@m")
    row("greedy caption exactly right", "caption", "all", "exact_match")
    row("questions answered right (always the most frequent answer)", "vqa", "all", "accuracy", "majority")
    for task, verb in (("drawn", "drawn from the caption"), ("redrawn", "drawn again from its own codes")):
        for group, layout in LAYOUTS.items():
            row(f"{layout}, {verb}: all right (the real image)", task, group, "correct", "real: correct")
            if group == "colors":
                row("... thing right", task, group, "objects", "real: objects")
                row("... colour right", task, group, "colours", "real: colours")
            if group == "position":
                row("... both things right", task, group, "objects", "real: objects")
    lines = [f"| {' | '.join(cells)} |" for cells in rows]
    edited, codes = found["edited"]["test"]["all"], found["codebook"]["train"]["all"]
    spans = found["drawn"]["test"]["all"]["valid spans without the constraint"]
    lines += [
        "",
        f"- edits of colour: all right {edited['correct']:.1f}, thing kept {edited['objects']:.1f}, "
        f"colour changed {edited['colours']:.1f} (of {edited['rows']})",
        f"- codes used by {codes['num_images']} images: {codes['used_codes']} of {codes['codebook_size']}, perplexity "
        f"{codes['perplexity']:.0f}, different ones in an image {codes['distinct_per_image']:.1f} of 32",
        f"- whole images written without the constraint: {spans:.1f}",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictograms", type=Path, required=True, help="folder of `seed-hf data pictograms`")
    parser.add_argument("--out", type=Path, required=True, help="folder for scenes, judge and results")
    parser.add_argument("--checkpoint", type=Path, help="folder of assemble.py; by default the bundled one")
    parser.add_argument("--rows", type=int, default=300, help="of each set")
    parser.add_argument(
        "--quick", action="store_true", help="eight rows and a hasty judge, to see that everything runs"
    )
    arguments = parser.parse_args()
    given = arguments.checkpoint
    seeing, drawing = (["--model", given / "model"], ["--model", given / "pipeline"]) if given else ([], [])
    scenes = prepare(arguments.pictograms, arguments.out, arguments.rows, arguments.quick)
    found = measure(scenes, arguments.out, seeing, drawing)
    results = read_results([str(file) for file in sorted(arguments.out.glob("*.json"))])
    (arguments.out / "card").mkdir(exist_ok=True)
    (arguments.out / "card" / "seed-tiny.json").write_text(to_text(results), encoding="utf-8")
    print(table(found))


if __name__ == "__main__":
    main()
