"""`write_card`: the README.md of an artifact folder, from a template and from what is on record."""

import json
import os
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from huggingface_hub import DatasetCardData, ModelCardData

from seed_hf.artifacts.bundled import bundled_part
from seed_hf.artifacts.hub_ids import is_hub_id
from seed_hf.artifacts.kinds import KINDS, kind_of
from seed_hf.artifacts.publishable import is_regular
from seed_hf.files import read_json, write_text

from .facts import RESULTS, TRAIN_CONFIG, Facts, facts_of, facts_of_bundled, parents_of, read_facts
from .front_matter import check_card, size_category
from .licences import front_matter as licence_keys
from .licences import licences_of
from .measured_weights import check_measured_weights
from .results import (
    Given,
    eval_result_files,
    is_limited,
    metrics_of,
    read_results,
    results_table,
    shown_number,
    to_text,
)
from .snippet import adapter_base, snippet_for, without_the_package
from .snippet import run_snippet as run
from .standalone import origins_on_record, write_notices
from .templates import render


_OURS = "# Written by seed_hf\n"  # first line of the files in .eval_results that a new card may replace


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

    Every figure in the card is read from a results file or from `train_config.json`. What is not on record is left
    out. The usage snippet runs on the folder, in a process of its own and offline, before the card shows its output.

    Args:
        folder: Of a tokenizer, model, language model, pipeline, LoRA adapter or pre-tokenized data set.
        title: Heading; by default the name of the repository or of the folder.
        training: What was trained on what, as `ModelCardCallback` records it. Written to `train_config.json`, which is
            the default.
        results: A result of `seed-hf evaluate` or a mapping from metric to number, its path, or the paths of several
            results of the same weights. Written to `results.json`, which is the default; `{}` for none.
        base_model, datasets: Hub ids of what it was made from and trained on, for the front matter.
        evaluation_dataset: Hub id of the data that the results were measured on. `.eval_results` is only written with
            it, since entries there belong to a data set on the Hub.
        facts: The author's words: a `Facts`, or the path of a YAML file with its fields. Default: `card.yaml` in the
            folder, which [`write_facts`] writes for the next card.
        repo_id: Hub id that it will be published under, which the snippet loads.
        kind, config: Of a model that is not saved yet. Default: `kind_of(folder)` and the folder's configuration.
        run_snippet: Whether to run the snippet. If not, the card shows it without an output.

    Returns:
        The path of the card.

    Raises:
        ValueError: Not an artifact, damaged records, results of other weights, metadata that the Hub would refuse, or
            a snippet that fails. An existing card then stays as it was.
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
    if training is not None and (notes := facts.training.get("notes")):
        given["training"] = {"notes": notes, **training}
    facts = Facts(**{**vars(facts), **{name: value for name, value in given.items() if value is not None}})
    figures = read_results(facts.results) if facts.results else {}
    if config is None:  # saved
        check_measured_weights(folder, kind, figures)
    entries = eval_result_files(figures, kind, facts.evaluation_dataset) if facts.evaluation_dataset else {}
    origins = [] if bundled_part(folder) else origins_on_record(folder, config)
    for name in origins:
        facts.licence_notes = facts.licence_notes or facts_of_bundled(name).licence_notes
    metadata = _metadata(folder, kind, facts, figures, origins)
    snippet = snippet_for(folder, kind, repo_id, facts.training.get("stage"))
    shown, described = snippet, config or _described(folder, kind)
    if kind == "adapter" and Path(base := adapter_base(folder)).is_dir():  # the card does not tell its path
        name = part[0] if (part := bundled_part(Path(base))) else Path(base).name
        shown = snippet.replace(json.dumps(base), json.dumps(name))
        described = {**described, "base_model_name_or_path": name}
    path = folder / "README.md"
    before = path.read_bytes() if path.is_file() else None

    def write(output: str | None) -> None:
        text = _card_text(folder, kind, facts, figures, metadata, repo_id, shown, output, described, origins)
        check_card(text, kind)
        write_text(path, text)

    write(None)
    if run_snippet:
        try:  # with the card in the folder: `datasets` reads from its front matter which files to load
            output = run(folder, kind, repo_id, snippet)
        except BaseException:
            path.unlink() if before is None else path.write_bytes(before)
            raise
        if output is not None:
            write(output)
    if origins:
        write_notices(folder)
    _write_results(folder, figures, entries)
    if training:
        write_text(folder / TRAIN_CONFIG, to_text(training))
    return path


def _metadata(
    folder: Path, kind: str, facts: Facts, figures: Mapping[str, Any], origins: Sequence[str]
) -> dict[str, Any]:
    parents = parents_of(folder, kind, facts)
    keys: dict[str, Any] = licence_keys(list(licences_of(parents, origins).values()))
    if facts.license:
        keys = {name: getattr(facts, name) for name in ("license", "license_name", "license_link")}
    keys |= {"language": facts.language, "tags": list(dict.fromkeys(["seed_hf", *KINDS[kind].tags, *facts.tags]))}
    if kind == "dataset":
        manifest = read_json(folder / "manifest.json")
        keys |= {
            "pretty_name": facts.title,
            "size_categories": [size_category(manifest.get("rows", {}).get("written", 0))],
            "task_categories": ["image-to-text", "text-to-image"],
            "configs": [{"config_name": "default", "data_files": "*.parquet"}],
        }
        return {name: value for name, value in keys.items() if value}
    keys |= {
        "library_name": KINDS[kind].library,
        "pipeline_tag": KINDS[kind].task,
        "base_model": parents,
        "datasets": list(facts.datasets) or list(facts.training.get("datasets") or ()),
        "metrics": metrics_of(figures, kind),
    }
    return {name: value for name, value in keys.items() if value}


def _card_text(folder, kind, facts: Facts, figures, metadata, repo_id, snippet, output, config, origins) -> str:
    data = (DatasetCardData if kind == "dataset" else ModelCardData)(**metadata)
    parents = parents_of(folder, kind, facts)
    text = render(
        f"{kind}.md",
        front_matter=data.to_yaml(),
        title=facts.title or (repo_id or "").rpartition("/")[2] or folder.resolve().name,
        facts=facts,
        training=_training_rows(facts.training),
        notes=facts.training.get("notes"),
        config=_with_common_names(config),
        results=results_table(figures, kind),
        limited=is_limited(figures),
        evaluations="evaluations" in figures,
        parents=parents,
        origins=origins,
        licences=licences_of(parents, origins),
        snippet=snippet,
        local_base=kind == "adapter" and "bundled(" not in snippet and not parents,
        untrained_generation=_has_no_target(facts.training),
        without=without_the_package(folder, kind, repo_id or folder.resolve().name),
        output=output,
        version=version("seed_hf"),
    )
    while "\n\n\n" in text:  # left by parts that the card does not have
        text = text.replace("\n\n\n", "\n\n")
    return text.strip() + "\n"


def _has_no_target(training: Mapping[str, Any]) -> bool:
    """Whether stage II ran without a target of the generation embeddings: it logs the losses that it has."""
    logged = training.get("last_logged") or {}
    return training.get("stage") == "quantization" and "vq_loss" in logged and "generation_loss" not in logged


def _training_rows(training: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """A nested configuration as rows of a table: (name, value)."""
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
    """The artifact's own configuration, for the sizes in the card."""
    path = folder / KINDS[kind].described_by
    return read_json(path) if path.is_file() else {}


def _with_common_names(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration that also has the library's names for what its family calls otherwise (Bloom's `n_layer`)."""
    from transformers import CONFIG_MAPPING

    family = config.get("model_type")
    names = CONFIG_MAPPING[family].attribute_map if family in CONFIG_MAPPING else {}
    return {**{common: config[own] for common, own in names.items() if own in config}, **config}


def _write_results(folder: Path, figures: Mapping[str, Any], entries: Mapping[str, str]) -> None:
    kept = folder / RESULTS
    if figures:
        write_text(kept, to_text(figures))
    else:
        kept.unlink(missing_ok=True)  # it was of other weights
    there = folder / ".eval_results"
    for old in there.glob("*.yaml") if there.is_dir() else ():
        if is_regular(old) and old.read_text(encoding="utf-8").startswith(_OURS):  # files by others stay
            old.unlink()
    for name, text in entries.items():
        there.mkdir(exist_ok=True)
        write_text(folder / name, _OURS + text)
