"""`write_card`: the README.md of an artifact folder, from a template and from nothing but what is on record."""

import json
import os
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
from huggingface_hub import DatasetCardData, ModelCardData

from seed_hf.artifacts.kinds import KINDS, kind_of, read_json
from seed_hf.files import whole_file

from .facts import RESULTS, TRAIN_CONFIG, Facts, facts_of, parents_of, read_facts
from .front_matter import LIBRARIES, check_card, is_hub_id, size_category
from .licences import front_matter as licence_keys
from .licences import licences_of
from .results import Given, eval_result_files, metrics_of, read_results, results_table, shown_number, to_text
from .snippet import adapter_base, snippet_for, without_the_package
from .snippet import run_snippet as run


_TAGS = {
    "tokenizer": ["image-tokenization"],
    "model": ["image-tokenization", "text-to-image", "image-to-text"],
    "language_model": ["image-tokenization"],
    "pipeline": ["image-tokenization"],
    "adapter": ["lora"],
    "dataset": ["image-tokenization", "pre-tokenized"],
}


_OURS = "# Written by seed_hf\n"


def write_card(
    folder: str | os.PathLike,
    *,
    title: str | None = None,
    training: Mapping[str, Any] | None = None,
    results: Given | None = None,
    base_model: str | Sequence[str] | None = None,
    datasets: str | Sequence[str] | None = None,
    evaluation_dataset: str | None = None,
    facts: Facts | str | os.PathLike | None = None,
    repo_id: str | None = None,
    kind: str | None = None,
    config: Mapping[str, Any] | None = None,
    run_snippet: bool = True,
) -> Path:
    """Write `README.md` into a folder and, with it, `.eval_results/*.yaml` and `results.json`.

    Every figure in the card is read from a results file, or from `train_config.json`; what is not on record is left
    out. The usage snippet runs on the folder, in a process of its own and offline, before its output is shown.

    Args:
        folder: Of a tokenizer, model, language model, pipeline, LoRA adapter or pre-tokenized data set.
        title: Heading; by default the name of the repository or of the folder.
        training: What was trained on what, as `ModelCardCallback` records it. Kept in `train_config.json`, which is
            also the default.
        results: A report of `seed_hf.evaluation.report`, its path or several paths of partial ones, or a mapping from
            metric to number. Kept in `results.json`, which is also the default; `{}` for none.
        base_model, datasets: Ids on the Hub of what it was made from and trained on, for the front matter.
        evaluation_dataset: Id on the Hub of the data that the results were measured on. Without it there is no
            `.eval_results`, whose entries belong to a data set on the Hub.
        facts: A person's words: a `Facts` or the path of a YAML file with its fields; by default `card.yaml` in the
            folder.
        repo_id: Where it will be published: what the snippet loads.
        kind, config: By default `kind_of(folder)` and what the folder's configuration says; a card of a model that is
            still to be saved needs them.
        run_snippet: Otherwise the snippet is shown, and the card does not say that it ran.

    Returns:
        The path of the card.

    Raises:
        ValueError: Not an artifact, damaged records, metadata that the Hub would refuse, or a snippet that fails. A
            card that was there before stays as it was.
        FileNotFoundError: There is no such file of results.
    """
    folder = Path(folder)
    if kind is not None and kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}.")
    if repo_id is not None and not is_hub_id(repo_id):
        raise ValueError(f"{repo_id!r} is not the name of a repository. Give owner/name.")
    kind = kind or kind_of(folder)
    facts = facts_of(folder) if facts is None else facts if isinstance(facts, Facts) else read_facts(Path(facts))
    given = {"training": training, "results": results, "base_model": base_model, "datasets": datasets}
    given |= {"title": title, "evaluation_dataset": evaluation_dataset}
    facts = Facts(**{**vars(facts), **{name: value for name, value in given.items() if value is not None}})
    figures = read_results(facts.results) if facts.results else {}
    metadata = _metadata(folder, kind, facts, figures)
    snippet = snippet_for(folder, kind, repo_id, facts.training.get("stage"))
    shown, described = snippet, config or _described(folder, kind)
    if kind == "adapter" and Path(base := adapter_base(folder)).is_dir():  # where it lies is nobody's business
        shown = snippet.replace(json.dumps(base), json.dumps(Path(base).name))
        described = {**described, "base_model_name_or_path": Path(base).name}
    path = folder / "README.md"
    before = path.read_bytes() if path.is_file() else None

    def write(output: str | None) -> None:
        text = _render(folder, kind, facts, figures, metadata, repo_id, shown, output, described)
        check_card(text, kind)
        _write(path, text)

    write(None)
    if run_snippet:
        try:  # against the folder as it will be, with its front matter: that is where `datasets` reads what to load
            output = run(folder, kind, repo_id, snippet)
        except BaseException:
            path.unlink() if before is None else path.write_bytes(before)
            raise
        if output is not None:
            write(output)
    _write_results(folder, kind, facts, figures)
    if training:
        _write(folder / TRAIN_CONFIG, to_text(training))
    return path


def _metadata(folder: Path, kind: str, facts: Facts, figures: Mapping[str, Any]) -> dict[str, Any]:
    parents = parents_of(folder, kind, facts)
    keys: dict[str, Any] = licence_keys(list(licences_of(parents).values()))
    if facts.license:
        keys = {name: getattr(facts, name) for name in ("license", "license_name", "license_link")}
    keys |= {"language": facts.language, "tags": list(dict.fromkeys(["seed_hf", *_TAGS[kind], *facts.tags]))}
    if kind == "dataset":
        manifest = read_json(folder / "manifest.json")
        keys |= {
            "pretty_name": facts.title,
            "size_categories": [size_category(manifest.get("rows", {}).get("written", 0))],
            "task_categories": ["image-to-text", "text-to-image"],
            "configs": [{"config_name": "default", "data_files": "*.parquet"}],
        }
        return {name: value for name, value in keys.items() if value}
    library, task = LIBRARIES[kind]
    keys |= {
        "library_name": library,
        "pipeline_tag": task,
        "base_model": parents,
        "datasets": list(facts.datasets) or list(facts.training.get("datasets") or ()),
        "metrics": metrics_of(figures, kind),
    }
    return {name: value for name, value in keys.items() if value}


def _render(folder, kind, facts: Facts, figures, metadata, repo_id, snippet, output, config) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(str(files("seed_hf.model_cards"))),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    data = (DatasetCardData if kind == "dataset" else ModelCardData)(**metadata)
    parents = parents_of(folder, kind, facts)
    text = environment.get_template(f"{kind}.md").render(
        front_matter=data.to_yaml(),
        title=facts.title or (repo_id or "").rpartition("/")[2] or folder.resolve().name,
        facts=facts,
        training=_training_rows(facts.training),
        notes=facts.training.get("notes"),
        config=config,
        results=results_table(figures, kind),
        limited=bool(figures.get("settings", {}).get("limit")) if isinstance(figures.get("settings"), dict) else False,
        report="sets" in figures,
        environment=figures.get("environment") if "sets" in figures else None,
        parents=parents,
        licences=licences_of(parents),
        snippet=snippet,
        without=without_the_package(kind, repo_id or folder.resolve().name),
        output=output,
        version=version("seed_hf"),
    )
    while "\n\n\n" in text:  # what was left out leaves no gap
        text = text.replace("\n\n\n", "\n\n")
    return text.strip() + "\n"


def _training_rows(training: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """A nested configuration as rows of a table: name, value."""
    rows = []
    for name, value in training.items():
        if value is None or value == [] or value == {} or (not prefix and name == "notes"):
            continue
        if isinstance(value, Mapping):
            rows += _training_rows(value, f"{prefix}{name}.")
        else:
            shown = shown_number(value) if isinstance(value, float) else value
            shown = shown if isinstance(shown, str) else json.dumps(shown, ensure_ascii=False)
            rows.append((f"{prefix}{name}", shown.replace("|", "\\|").replace("\n", " ")))
    return rows


def _described(folder: Path, kind: str) -> dict[str, Any]:
    """The sizes that a reader wants first, from the artifact's own configuration."""
    if kind == "dataset":
        manifest = read_json(folder / "manifest.json")
        names = ("rows", "tokenizer", "settings", "source")
        return {name: manifest[name] for name in names if name in manifest}
    config = folder / {"pipeline": "seed_model/config.json", "adapter": "adapter_config.json"}.get(kind, "config.json")
    return read_json(config) if config.is_file() else {}


def _write_results(folder: Path, kind: str, facts: Facts, figures: Mapping[str, Any]) -> None:
    kept = folder / RESULTS
    if figures:
        _write(kept, to_text(figures))
    else:
        kept.unlink(missing_ok=True)  # they were of other weights
    entries = eval_result_files(figures, kind, facts.evaluation_dataset) if facts.evaluation_dataset else {}
    there = folder / ".eval_results"
    for old in there.glob("*.yaml") if there.is_dir() else ():
        if old.read_text(encoding="utf-8").startswith(_OURS):  # those of other hands stay
            old.unlink()
    for name, text in entries.items():
        there.mkdir(exist_ok=True)
        _write(folder / name, _OURS + text)


def _write(path: Path, text: str) -> None:
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
