"""What a card says beyond what its folder shows: the author's words, and what the training recorded.

Sources, the first that has a value wins: the arguments of `write_card`; `card.yaml` in the folder, or for a bundled
checkpoint its file beside the templates; `train_config.json` and `results.json` in the folder.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from importlib.resources import files
from pathlib import Path
from reprlib import repr as shown
from typing import Any

import yaml

from seed_hf.artifacts.bundled import bundled_part
from seed_hf.artifacts.hub_ids import names_repository
from seed_hf.artifacts.origins import base_model_of
from seed_hf.files import read_json, write_text
from seed_hf.yaml_text import read_yaml


TRAIN_CONFIG, RESULTS, CARD = "train_config.json", "results.json", "card.yaml"


@dataclass
class Facts:
    """The fields of `card.yaml`. All are optional, and the card leaves out what is not given.

    Attributes:
        title, summary: Heading and first paragraph.
        intended_use, limits: Paragraphs, Markdown.
        license, license_name, license_link: As the Hub's front matter has them. Default: those of the base models.
        licence_notes: A paragraph on licences: what those who redistribute it must do.
        language: ISO 639 codes of the texts.
        tags: In addition to those of the kind.
        training: What was trained on what, beside what `train_config.json` records: the same keys, or `notes`, a text.
        results: Measured figures: a report's path (beside `card.yaml`) or content, or metric -> number.
        base_model, datasets: Hub ids of what it was made from and trained on.
        evaluation_dataset: Hub id of the data that `results` were measured on.
    """

    title: str | None = None
    summary: str | None = None
    intended_use: str | None = None
    limits: str | None = None
    license: str | None = None
    license_name: str | None = None
    license_link: str | None = None
    licence_notes: str | None = None
    language: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    training: dict[str, Any] = field(default_factory=dict)
    results: Any = None
    base_model: list[str] = field(default_factory=list)
    datasets: list[str] = field(default_factory=list)
    evaluation_dataset: str | None = None

    def __post_init__(self):
        for name in _LISTS:
            value = getattr(self, name)
            texts = [] if value is None else [value] if isinstance(value, str) else value
            if not isinstance(texts, (list, tuple)) or not all(isinstance(text, str) for text in texts):
                raise _wrong(name, "text or a list of texts", value)
            setattr(self, name, list(texts))
        if not isinstance(self.training or {}, Mapping):
            raise _wrong("training", "a mapping, for instance {notes: three days}", self.training)
        self.training = dict(self.training or {})
        for name in _TEXTS:
            if not isinstance(value := getattr(self, name), (str, type(None))):
                raise _wrong(name, "text", value)
        if not isinstance(notes := self.training.get("notes"), (str, type(None))):
            raise _wrong("training.notes", "text", notes)


_LISTS = ("language", "tags", "base_model", "datasets")
_TEXTS = tuple(entry.name for entry in fields(Facts) if entry.name not in (*_LISTS, "training", "results"))


def _wrong(name: str, wanted: str, value: Any) -> ValueError:
    return ValueError(f"{name} is {wanted}; got {shown(value)}. Put a text in quotes that looks like a number.")


def write_facts(facts: Facts, folder: str | os.PathLike) -> None:
    """Save an author's words as `card.yaml`, so that the next card of the folder has them, too.

    Args:
        facts: All but `results`, which have a file of their own.
        folder: Of the artifact.
    """
    words = {name: value for name, value in vars(facts).items() if value and name != "results"}
    text = yaml.safe_dump(words, allow_unicode=True, sort_keys=False, width=120)
    write_text(Path(folder) / CARD, text)


def read_facts(path: Path) -> Facts:
    """Facts from a YAML file.

    Raises:
        ValueError: It is not YAML, or a key or value is not allowed. The message lists the keys that are.
    """
    found = read_yaml(path) or {}
    known = [entry.name for entry in fields(Facts)]
    if not isinstance(found, Mapping) or set(found) - set(known):
        unknown = ", ".join(sorted(set(found) - set(known))) if isinstance(found, Mapping) else "no mapping"
        raise ValueError(f"{path}: unknown keys: {unknown[:200]}. Allowed are {', '.join(known)}.")
    try:
        facts = Facts(**found)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if not isinstance(facts.results, (str, Mapping, type(None))):
        raise ValueError(f"{path}: {_wrong('results', 'a file beside it or a mapping', facts.results)}")
    if isinstance(facts.results, str):
        facts.results = path.parent / facts.results
        if not facts.results.resolve().is_relative_to(path.parent.resolve()):
            raise ValueError(f"{path}: results must lie beside it or below, got {facts.results}.")
    return facts


def facts_of(folder: str | os.PathLike) -> Facts:
    """What is on record about a folder.

    Args:
        folder: Of the artifact.

    Raises:
        ValueError: One of the files is damaged.
    """
    folder = Path(folder)
    facts = Facts()
    if (folder / CARD).is_file():
        facts = read_facts(folder / CARD)
    elif checkpoint := bundled_part(folder):
        name, part = checkpoint
        facts = facts_of_bundled(name)
        facts.title = f"{facts.title or name}, {part}"
    if (folder / TRAIN_CONFIG).is_file():  # the author's words go before what was recorded, and beside it
        facts.training = {**read_json(folder / TRAIN_CONFIG), **facts.training}
    if facts.results is None and (folder / RESULTS).is_file():
        facts.results = folder / RESULTS
    return facts


def facts_of_bundled(name: str) -> Facts:
    """What is on record about a checkpoint that is bundled with the package.

    Args:
        name: Such as "seed-tiny".
    """
    card = Path(str(files("seed_hf.model_cards"))) / f"{name}.yaml"
    return read_facts(card) if card.is_file() else Facts()


def parents_of(folder: Path, kind: str, facts: Facts) -> list[str]:
    """Hub ids of the models that this one was made from, as far as they are on record. Nothing is guessed.

    They are given, or recorded by the training, by peft (the adapter's base) or by diffusers (the UNet's origin).

    Args:
        folder: Of the artifact.
        kind: From `kind_of`.
        facts: From `facts_of`.
    """
    found = list(facts.base_model) or list(facts.training.get("base_model") or ())
    recorded: list[str | None] = []
    if kind == "adapter":
        recorded.append(base_model_of(folder))
    if kind == "pipeline":
        recorded.append(read_json(folder / "unet" / "config.json").get("_name_or_path"))
        for part in ("seed_model", "unet"):
            if (folder / part / TRAIN_CONFIG).is_file():
                found += read_json(folder / part / TRAIN_CONFIG).get("base_model") or ()
    found += [name for name in recorded if name and names_repository(name)]
    return list(dict.fromkeys(found))
