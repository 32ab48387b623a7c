"""Results of `seed-hf evaluate TASK` in a card: which belong together, their tables, and entries of leaderboards."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from huggingface_hub import EvalResultEntry

from seed_hf.evaluation.result import figures_table


# Task -> the section of a kind that it tells about, the Hub's name of its metric, and its main figures: group, metric.
_TASKS: dict[str, tuple[str, str, tuple[tuple[str, str], ...]]] = {
    "retrieval": ("retrieval", "recall", (("codes", "R@m"), ("embeddings", "R@m"))),
    "caption": ("captions", "cider", (("all", "CIDEr-D"), ("all", "exact_match"))),
    "vqa": ("questions", "accuracy", (("all", "accuracy"),)),
    "choice": ("questions", "accuracy", (("all", "accuracy"),)),
    "codebook": ("codebook", "perplexity", (("all", "usage"),)),
    "similarity": ("drawing", "clip_score", (("all", "similarity"),)),
    "generation": ("drawing", "accuracy", (("all", "correct"), ("all", "mean of tags"))),
    "roundtrip": ("reconstruction", "accuracy", (("all", "equal codes"),)),
}


SECTIONS = frozenset(section for section, *_ in _TASKS.values())


def is_evaluation(result: Mapping[str, Any]) -> bool:
    """Whether this is what `seed-hf evaluate TASK` writes."""
    return isinstance(result.get("task"), str) and all(
        isinstance(result.get(name), Mapping) for name in ("figures", "data", "model")
    )


def models_of(result: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What a result says of each model that took part: of a drawing, also of the parts that drew.

    Args:
        result: Of `seed-hf evaluate`.
    """
    model = result["model"]
    found = [model, *(part for part in model.values() if isinstance(part, Mapping))]
    return [part for part in found if "sha256" in part]


def joined(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Evaluations as one mapping, `evaluations`.

    Args:
        results: Of the same weights.

    Raises:
        ValueError: Of different weights.
    """
    weights: dict[tuple[str, str], str] = {}  # a hash is of the weights as loaded, in their number type
    for model in (model for result in results for model in models_of(result)):
        name, sha256 = str(model.get("class")), str(model.get("sha256"))
        if weights.setdefault((name, str(model.get("dtype"))), sha256) != sha256:
            raise ValueError(f"The results do not belong together: they are of different weights of a {name}.")
    return {"evaluations": [dict(result) for result in results]}


def evaluation_tables(results: Mapping[str, Any], sections: Sequence[str]) -> str:
    """A heading and a table for each evaluation that tells something about a kind; empty if there are none.

    Args:
        results: From `joined`.
        sections: Of the kind.
    """
    lines = []
    for result in telling(results, sections):
        data, split = result["data"], result["data"].get("split")
        named = f"{data['format']}, {split}" if split else data["format"]
        said = f"the first {data['rows']} rows: not comparable" if data.get("limit") else f"{data['rows']} rows"
        dtype = next((model["dtype"] for model in models_of(result) if "dtype" in model), "an unknown number type")
        lines += [f"### {result['task']} on {named}", "", f"{said}, {dtype}.", ""]
        lines += [*figures_table(result["figures"]), ""]
        lines += [f"- {text}" for text in result.get("deviations", ())]
        lines += [""] if result.get("deviations") else []
    return "\n".join(lines).strip()


def evaluation_metrics(results: Mapping[str, Any], sections: Sequence[str]) -> list[str]:
    """The Hub's names of the metrics in the tables.

    Args:
        results: From `joined`.
        sections: Of the kind.
    """
    shown = telling(results, sections)
    return list(dict.fromkeys(_TASKS[result["task"]][1] for result in shown if result["task"] in _TASKS))


def evaluation_entries(
    results: Mapping[str, Any], sections: Sequence[str], dataset_id: str
) -> dict[str, list[EvalResultEntry]]:
    """Entries of leaderboards by the name of their file, without evaluations of a part of the data.

    Args:
        results: From `joined`.
        sections: Of the kind.
        dataset_id: Hub id of the data.

    Raises:
        ValueError: The evaluations are of several data sets, which one id cannot name.
    """
    shown = [result for result in telling(results, sections) if not result["data"].get("limit")]
    if len(formats := sorted({result["data"]["format"] for result in shown})) > 1:
        raise ValueError(
            f"These results are of several data sets ({', '.join(formats)}), and the evaluation data set is one: "
            f"{dataset_id}. Give only the results on it, or no evaluation data set."
        )
    entries: dict[str, list[EvalResultEntry]] = {}
    for result in shown:
        split, date = result["data"].get("split"), result.get("environment", {}).get("date")
        for group, metric in _TASKS.get(result["task"], ("", "", ()))[2]:
            value = result["figures"].get(group, {}).get(metric)
            if value is not None:
                parts = [part for part in (split, result["task"], group, metric) if part and part != "all"]
                task = re.sub(r"[^a-z0-9_]+", "_", "_".join(parts).replace("@", "_at_").lower())
                note = f"{metric} of {result['task']}, {result['data']['rows']} rows"
                entry = EvalResultEntry(dataset_id, task, value, date=date, notes=note)
                file = re.sub(r"[^A-Za-z0-9_.-]+", "_", split or result["data"]["format"])
                entries.setdefault(file, []).append(entry)
    return entries


def telling(results: Mapping[str, Any], sections: Sequence[str]) -> list[Mapping[str, Any]]:
    """Evaluations that a card shows.

    Args:
        results: From `joined`.
        sections: Of the kind.
    """
    return [result for result in results["evaluations"] if _TASKS.get(result["task"], ("",))[0] in sections]
