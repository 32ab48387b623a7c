"""The result of an evaluation: what is said of models and machine, and its Markdown page."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seed_hf.artifacts.fingerprints import weights_fingerprint
from seed_hf.artifacts.finite import check_finite_weights
from seed_hf.environment import environment
from seed_hf.files import read_json


if TYPE_CHECKING:
    import torch


def model_facts(model: torch.nn.Module) -> dict[str, str]:
    """What a result says of a model: class, type, number type, and SHA-256 of its weights as loaded.

    Args:
        model: Of transformers, diffusers or this package.

    Raises:
        ValueError: A weight holds NaN or infinite values: texts and images of it look like any others.
    """
    parameter = next(model.parameters())
    check_finite_weights(model, type(model).__name__)
    config = getattr(model, "config", None)
    facts = {"class": type(model).__name__, "dtype": str(parameter.dtype).removeprefix("torch.")}
    if text_config := getattr(config, "text_config", None):
        facts["language_model"] = text_config.model_type
    return {**facts, "sha256": weights_fingerprint(model)}


_IMAGE_SETTINGS = "size resample rescale_factor image_mean image_std do_resize do_rescale do_normalize".split()
# Special ids follow from the vocabulary; sampling is off; what tasks decide stands in their settings.
_WITHOUT_EFFECT = (
    "transformers_version use_cache output_attentions output_hidden_states output_scores output_logits "
    "return_dict_in_generate pad_token_id bos_token_id eos_token_id decoder_start_token_id do_sample temperature "
    "top_k top_p min_p typical_p epsilon_cutoff eta_cutoff num_beams max_new_tokens max_length length_penalty "
    "num_return_sequences cache_implementation cache_config"
).split()


def image_settings(image_processor: Any) -> dict[str, Any]:
    """How images are prepared, ready for JSON: it decides codes and features as the weights do.

    Args:
        image_processor: Of the model.
    """
    found = image_processor.to_dict()
    return {"image_processor": json.loads(json.dumps({name: found.get(name) for name in _IMAGE_SETTINGS}))}


def generation_settings(model: Any) -> dict[str, Any]:
    """What the generation config of a model changes in its texts, such as `repetition_penalty`; empty if nothing.

    Args:
        model: Generates.
    """
    found = model.generation_config.to_diff_dict()
    changed = {name: value for name, value in found.items() if name[0] != "_" and name not in _WITHOUT_EFFECT}
    return {"generation_config": json.loads(json.dumps(changed, default=str))} if changed else {}


def environment_of() -> dict[str, str]:
    """What a result says of the machine: versions, devices and the date."""
    return {**environment(), "date": datetime.now(UTC).date().isoformat()}


def check_replaceable(out: Path, task: str) -> None:
    """Check where a result is written: results replace results alone, and not, say, the data.

    Args:
        out: The JSON file to write, a page of the same name beside it.
        task: Its name.

    Raises:
        ValueError: It does not end with .json, is a folder, or something else is there.
    """
    if out.suffix != ".json" or out.is_dir():
        raise ValueError(f"{out}: the result is a file that ends with .json, with a page beside it. Give such a file.")
    page = out.with_suffix(".md")
    if out.exists():
        other = None if _is_result(out) else out
    else:
        other = page if page.exists() and not _is_page(page, task) else None
    if other is not None:
        raise ValueError(f"{other}: this is no result of an evaluation, and would be replaced. Give another --out.")


def _is_result(path: Path) -> bool:
    try:
        return {"task", "settings", "data", "figures"} <= read_json(path).keys()
    except ValueError:
        return False


def _is_page(path: Path, task: str) -> bool:
    text = path.read_text(encoding="utf-8", errors="replace")
    return text.startswith(f"# {task}: ") and "\n## Settings\n" in text


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
