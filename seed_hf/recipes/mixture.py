"""Several sources of rows in one run, each as often as its weight says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from datasets import Dataset, concatenate_datasets, interleave_datasets

from seed_hf.data.batches.language_model import DIRECTIONS, LOSSES
from seed_hf.data.sources.sequence_rows import SETTINGS


@dataclass
class WeighedSource:
    """A source of a list.

    Args:
        source: As `data.train` names it.
        weight: How often rows are drawn from it, compared with the others; `None` for every row once.
        settings: For all of its rows: `direction`, `loss_on`, `max_length`, `swap_images`.
    """

    source: str
    weight: float | None = None
    settings: dict[str, Any] = field(default_factory=dict)


def entries_of(value: str | list, key: str) -> list[WeighedSource]:
    """The sources that a recipe names, checked.

    Args:
        value: Of `data.train` or `data.validation`.
        key: Its name, for messages.

    Raises:
        ValueError: An entry is neither a source nor a mapping with one, or some have weights and others none.
    """
    if isinstance(value, str):
        return [WeighedSource(value)]
    if not value:
        raise ValueError(f"{key} is an empty list. Name at least one source.")
    entries = [_entry(each, f"{key}[{number}]") for number, each in enumerate(value)]
    weighed = [entry.weight is not None for entry in entries]
    if any(weighed) and not all(weighed):
        raise ValueError(
            f"{key}[{weighed.index(False)}] has no weight, but other sources have one. Weigh all or none."
        )
    if all(weighed) and not any(entry.weight for entry in entries):
        raise ValueError(f"{key}: at least one weight must be positive.")
    return entries


def mixed(parts: Sequence[Dataset], entries: Sequence[WeighedSource], seed: int) -> Dataset:
    """The rows of several sources as one dataset.

    With weights the rows are drawn from the sources in turn by chance, and a pass lasts until each source with a
    weight has been read to its end; those that end before are read again.

    Args:
        parts: The rows of each source.
        entries: Their weights and settings.
        seed: Of the drawing.
    """
    chosen = [(part, entry) for part, entry in zip(parts, entries) if entry.weight != 0]
    ready = [_aligned(part, entry.settings) for part, entry in chosen]
    if len(ready) == 1:
        return ready[0]
    if chosen[0][1].weight is None:
        return concatenate_datasets(ready)
    weights = [entry.weight or 0.0 for _, entry in chosen]
    shares = [weight / sum(weights) for weight in weights]
    return interleave_datasets(ready, shares, seed=seed, stopping_strategy="all_exhausted")


def _aligned(rows: Dataset, settings: dict[str, Any]) -> Dataset:
    """Rows with these settings, codes in one type and captions in lists: only equal columns go together."""
    table = (rows if rows._indices is None else rows.flatten_indices()).data.table
    if "caption" in table.column_names:
        texts = [None if text is None else [text] for text in table["caption"].to_pylist()]
        table = table.drop_columns(["caption"]).append_column("captions", pa.array(texts, pa.list_(pa.string())))
    for name, value in settings.items():
        table = table.drop_columns([name]) if name in table.column_names else table
        table = table.append_column(name, pa.array([value] * len(table)))
    for name, wanted in _TYPES.items():
        if name in table.column_names:
            table = table.set_column(table.column_names.index(name), name, table[name].cast(wanted))
    return Dataset(table.replace_schema_metadata(None))


_TYPES = {"codes": pa.list_(pa.int32()), "max_length": pa.int32(), "swap_images": pa.float64()}


def _entry(value: Any, name: str) -> WeighedSource:
    if isinstance(value, str):
        return WeighedSource(value)
    allowed = ("source", "weight", *SETTINGS)
    if not isinstance(value, dict) or not isinstance(value.get("source"), str):
        raise ValueError(f"{name} must be a source, or a mapping with source and maybe {', '.join(allowed[1:])}.")
    if unknown := sorted(map(str, value.keys() - set(allowed))):
        raise ValueError(f"{name} has unknown keys: {', '.join(unknown)}. Allowed keys: {', '.join(allowed)}.")
    weight = value.get("weight")
    if weight is not None and (isinstance(weight, bool) or not isinstance(weight, (int, float)) or weight < 0):
        raise ValueError(f"{name}.weight must be a number that is not negative, got {weight!r}.")
    settings = {key: value[key] for key in SETTINGS if value.get(key) is not None}
    for key, choices in (("direction", DIRECTIONS), ("loss_on", LOSSES)):
        if key in settings and settings[key] not in choices:
            raise ValueError(f"{name}.{key} must be one of {', '.join(choices)}; got {settings[key]!r}.")
    if (length := settings.get("max_length")) is not None and (type(length) is not int or length < 1):
        raise ValueError(f"{name}.max_length must be a positive whole number of tokens, got {length!r}.")
    if (share := settings.get("swap_images")) is not None and (type(share) not in (int, float) or not 0 <= share <= 1):
        raise ValueError(f"{name}.swap_images must be a frequency from 0 to 1, got {share!r}.")
    return WeighedSource(value["source"], None if weight is None else float(weight), settings)
