"""Measured results: from report files to the tables of a card and to `.eval_results/*.yaml`, figures unchanged.

Results are what `seed-hf evaluate TASK` writes, one file or several of the same weights; or a flat mapping from metric
to number.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

from seed_hf.artifacts.kinds import KINDS
from seed_hf.files import read_json

from .evaluations import evaluation_entries, evaluation_metrics, evaluation_tables, is_evaluation, joined


Given = Mapping[str, Any] | str | os.PathLike | Sequence[str | os.PathLike]


def read_results(results: Given) -> dict[str, Any]:
    """Results as one mapping; several files become one.

    Args:
        results: A result of `seed-hf evaluate` or a flat mapping, its path, or the paths of several results.

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
            raise ValueError("Only results of `seed-hf evaluate` go together; give flat results as one mapping.")
        found, name = parts[0], str(paths[0])
    if _holds_evaluations(found):
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


def _holds_evaluations(results: Mapping[str, Any]) -> bool:
    found = results.get("evaluations")
    return isinstance(found, list) and all(isinstance(result, Mapping) and is_evaluation(result) for result in found)


def is_limited(results: Mapping[str, Any]) -> bool:
    """Whether some figures are of a part of the data.

    Args:
        results: From `read_results`.
    """
    return _holds_evaluations(results) and any(result["data"].get("limit") for result in results["evaluations"])


def results_table(results: Mapping[str, Any], kind: str) -> str:
    """The figures that say something about this kind, as a Markdown table; empty if there are none.

    Args:
        results: From `read_results`.
        kind: From `kind_of`.
    """
    if _holds_evaluations(results):
        return evaluation_tables(results, KINDS[kind].sections)
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
    return evaluation_metrics(results, KINDS[kind].sections) if _holds_evaluations(results) else []


def eval_result_files(results: Mapping[str, Any], kind: str, dataset_id: str) -> dict[str, str]:
    """`.eval_results/SPLIT.yaml` -> its text: entries for the Hub's leaderboards, one file for each set.

    Results on a part of the data (`limit`) give none: their figures are not comparable with any others.

    Args:
        results: From `read_results`.
        kind: From `kind_of`.
        dataset_id: Hub id of the evaluation data.
    """
    if not _holds_evaluations(results):
        return {}
    found = evaluation_entries(results, KINDS[kind].sections, dataset_id)
    return {f".eval_results/{name}.yaml": _yaml(entries) for name, entries in found.items()}


def _yaml(entries: list[EvalResultEntry]) -> str:
    return yaml.safe_dump(eval_result_entries_to_yaml(entries), sort_keys=False, allow_unicode=True)


def to_text(results: Mapping[str, Any]) -> str:
    """JSON as this package writes it into a folder."""
    return json.dumps(results, indent=1, ensure_ascii=False) + "\n"
