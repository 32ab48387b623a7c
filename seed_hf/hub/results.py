"""Measured results: from report files to the tables of a card and to `.eval_results/*.yaml`, figures unchanged.

Results are what `seed-hf evaluate TASK` writes, one file or several of the same weights; what
`seed-hf evaluate report` writes (parts are merged); or a flat mapping from metric to number.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

from seed_hf.artifacts.kinds import KINDS
from seed_hf.evaluation.report_table import figures_table
from seed_hf.files import read_json

from .evaluations import evaluation_entries, evaluation_metrics, evaluation_tables, is_evaluation, joined


# Section -> the Hub's name of its metric.
_METRICS = {"retrieval": "recall", "captions": "exact_match", "questions": "exact_match"}
# Entries of leaderboards: section, path to the figure, what it says.
_ENTRIES = (
    ("retrieval", ("codes", "R@m"), "mean recall of image-text retrieval on the visual codes, percent"),
    ("retrieval", ("embeddings", "R@m"), "mean recall of image-text retrieval before the codebook, percent"),
    ("captions", ("exact_match",), "greedy caption exactly right, percent"),
    ("questions", ("exact_match",), "questions answered right, percent"),
    ("drawing", ("caption_first",), "a judge ranks the caption of a drawing first, percent"),
    ("reconstruction", ("caption_first",), "a judge ranks the caption of a reconstruction first, percent"),
)

Given = Mapping[str, Any] | str | os.PathLike | Sequence[str | os.PathLike]


def read_results(results: Given) -> dict[str, Any]:
    """Results as one mapping; several files become one.

    Args:
        results: A result of `seed-hf evaluate`, a report or a flat mapping, its path, or the paths of several results
            or of partial reports.

    Raises:
        ValueError: Not readable, none of these, or results that do not belong together.
        FileNotFoundError: There is no such file.
    """
    if isinstance(results, (str, os.PathLike)):
        results = [results]
    if isinstance(results, Mapping):
        found, name = dict(results), "results"
    else:
        paths = [Path(path) for path in results]
        for path in paths:
            if not path.is_file():
                raise FileNotFoundError(f"{path}: no such file of results.")
        parts = [read_json(path) for path in paths]
        if all(map(is_evaluation, parts)):
            return joined(parts)
        if len(parts) > 1:
            return merge_reports(parts)
        found, name = parts[0], str(paths[0])
    if is_report(found) or _holds_evaluations(found):
        return found
    if is_evaluation(found):
        return joined([found])
    wrong = [key for key, value in found.items() if isinstance(value, bool) or not isinstance(value, (int, float))]
    if wrong:
        raise ValueError(
            f"{name}: {', '.join(map(str, wrong[:5]))} is not a number. Results are what `seed-hf evaluate` writes, "
            "or a flat mapping from metric to number."
        )
    return found


def is_report(results: Mapping[str, Any]) -> bool:
    return isinstance(results.get("sets"), Mapping) and isinstance(results.get("settings"), Mapping)


def _holds_evaluations(results: Mapping[str, Any]) -> bool:
    found = results.get("evaluations")
    return isinstance(found, list) and all(isinstance(result, Mapping) and is_evaluation(result) for result in found)


def is_limited(results: Mapping[str, Any]) -> bool:
    """Whether some figures are of a part of the data.

    Args:
        results: From `read_results`.
    """
    if _holds_evaluations(results):
        return any(result["data"].get("limit") for result in results["evaluations"])
    return is_report(results) and bool(results["settings"].get("limit"))


def merge_reports(reports: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Partial reports of the same weights, data and settings as one, with all their figures unchanged.

    Args:
        reports: At least one.

    Raises:
        ValueError: Not reports; different weights, data or settings; two different values for one figure.
    """
    if not all(is_report(report) for report in reports):
        raise ValueError("Only reports of `seed-hf evaluate report` can be merged; give flat results as one mapping.")
    merged: dict[str, Any] = {}
    for report in reports:
        settings = {name: value for name, value in report["settings"].items() if name not in _SCOPE}
        _unite(merged, {"settings": settings, "fingerprints": report["fingerprints"]}, "")
        for name in _SCOPE:
            known = merged["settings"].setdefault(name, [])
            known += [value for value in report["settings"][name] if value not in known]
        merged.setdefault("environment", report["environment"])
        for split, found in report["sets"].items():
            _unite(merged.setdefault("sets", {}).setdefault(split, {}), found, split)
        merged.setdefault("seconds", {}).update(report.get("seconds", {}))
        lines = merged.setdefault("floor", [])
        lines += [line for line in report.get("floor") or () if line not in lines]
    return merged


_SCOPE = ("sets", "codebook_sets", "sections")  # in these, partial reports may differ


def _unite(into: dict, more: Mapping, place: str) -> None:
    for key, value in more.items():
        if isinstance(value, Mapping) and isinstance(into.get(key, {}), dict):
            _unite(into.setdefault(key, {}), value, f"{place} {key}".strip())
        elif into.setdefault(key, value) != value:
            raise ValueError(f"The reports do not belong together: {place} {key} is {into[key]!r} and {value!r}.")


def results_table(results: Mapping[str, Any], kind: str) -> str:
    """The figures that say something about this kind, as a Markdown table; empty if there are none.

    Args:
        results: From `read_results`.
        kind: From `kind_of`.
    """
    if _holds_evaluations(results):
        return evaluation_tables(results, KINDS[kind].sections)
    if is_report(results):
        lines = figures_table(results["sets"], KINDS[kind].sections)
        return "\n".join(lines) if len(lines) > 3 else ""
    if not results:
        return ""
    rows = [f"| {name} | {shown_number(value)} |" for name, value in results.items()]
    return "\n".join(["| metric | value |", "| --- | --- |", *rows])


def shown_number(value: float) -> str:
    """Whole numbers as they are, others with four significant digits."""
    return str(value) if isinstance(value, int) else f"{value:.4g}"


def metrics_of(results: Mapping[str, Any], kind: str) -> list[str]:
    """The Hub's names of the metrics in the table.

    Args:
        results: From `read_results`.
        kind: From `kind_of`.
    """
    if _holds_evaluations(results):
        return evaluation_metrics(results, KINDS[kind].sections)
    if not is_report(results):
        return []
    shown = {section for found in results["sets"].values() for section in found} & set(KINDS[kind].sections)
    return list(dict.fromkeys(metric for section, metric in _METRICS.items() if section in shown))


def eval_result_files(results: Mapping[str, Any], kind: str, dataset_id: str) -> dict[str, str]:
    """`.eval_results/SPLIT.yaml` -> its text: entries for the Hub's leaderboards, one file for each set.

    A report on a part of each set (`limit`) gives none: its figures are not comparable with any others.

    Args:
        results: From `read_results`.
        kind: From `kind_of`.
        dataset_id: Hub id of the evaluation data.
    """
    if _holds_evaluations(results):
        found = evaluation_entries(results, KINDS[kind].sections, dataset_id)
        return {f".eval_results/{name}.yaml": _yaml(entries) for name, entries in found.items()}
    if not is_report(results) or results["settings"].get("limit"):
        return {}
    date = results.get("environment", {}).get("date")
    files = {}
    for split, found in results["sets"].items():
        entries = []
        for section, path, note in _ENTRIES:
            value: Any = found.get(section) if section in KINDS[kind].sections else None
            for key in path:
                value = value.get(key) if isinstance(value, Mapping) else None
            if value is not None:
                task = "_".join((split, section, *path)).replace("@", "_at_").lower()
                entries.append(EvalResultEntry(dataset_id, task, value, date=date, notes=note))
        if entries:
            files[f".eval_results/{split}.yaml"] = _yaml(entries)
    return files


def _yaml(entries: list[EvalResultEntry]) -> str:
    return yaml.safe_dump(eval_result_entries_to_yaml(entries), sort_keys=False, allow_unicode=True)


def to_text(results: Mapping[str, Any]) -> str:
    """JSON as this package writes it into a folder."""
    return json.dumps(results, indent=1, ensure_ascii=False) + "\n"
