"""The result of an evaluation: what is said of models and machine, and its Markdown page."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from seed_hf.artifacts.fingerprints import weights_fingerprint
from seed_hf.environment import environment


if TYPE_CHECKING:
    import torch


def model_facts(model: torch.nn.Module) -> dict[str, str]:
    """What a result says of a model: class, type, number type, and SHA-256 of its weights as loaded.

    Args:
        model: Of transformers, diffusers or this package.
    """
    parameter = next(model.parameters())
    config = getattr(model, "config", None)
    facts = {"class": type(model).__name__, "dtype": str(parameter.dtype).removeprefix("torch.")}
    if text_config := getattr(config, "text_config", None):
        facts["language_model"] = text_config.model_type
    return {**facts, "sha256": weights_fingerprint(model)}


def environment_of() -> dict[str, str]:
    """What a result says of the machine: versions, devices and the date."""
    return {**environment(), "date": datetime.now(UTC).date().isoformat()}


def markdown(result: Mapping[str, Any]) -> str:
    """A result as a page: its figures, what deviates from the authors' protocol, bad rows, settings.

    Args:
        result: What `run_task` returns.
    """
    data, figures = result["data"], result["figures"]
    lines = [f"# {result['task']}: {data['format']}", "", f"{data['rows']} rows.", ""]
    if data.get("limit"):
        lines += [f"**A quick look at the first {data['limit']} rows: not comparable with anything.**", ""]
    lines += figures_table(figures)
    lines += _section("Deviations from the authors' protocol", [f"- {text}" for text in result["deviations"]])
    bad = [f"- {row['id']} (row {row['row']}): {row['bad']}" for row in data["bad_rows"]]
    lines += _section(f"Rows that could not be used: {len(bad)}" if bad else "", bad)
    for name in ("settings", "model", "data", "environment"):
        lines += _section(name.capitalize(), _items(result[name]))
    return "\n".join(lines) + "\n"


def figures_table(figures: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Lines of a table: a row for each metric, a column for each group.

    Args:
        figures: From groups to metrics to numbers.
    """
    metrics = dict.fromkeys(metric for group in figures.values() for metric in group)
    rows = [[metric, *(_shown(group.get(metric)) for group in figures.values())] for metric in metrics]
    return [f"| {' | '.join(cells)} |" for cells in (["", *figures], ["---"] * (1 + len(figures)), *rows)]


def _shown(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def _items(values: Mapping[str, Any]) -> list[str]:
    return [f"- {name}: {value}" for name, value in values.items() if name != "bad_rows"]


def _section(title: str, lines: list[str]) -> list[str]:
    return ["", f"## {title}", "", *lines] if lines else []
