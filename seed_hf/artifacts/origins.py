"""From which bundled checkpoint weights come: its licence and notices go along with copies and what is made of them.

The configurations of a bundled checkpoint have the field `derived_from`. transformers keeps fields that it does not
know: they are there again after `save_pretrained`, training, extending and taking apart. Of a pipeline, the embedding
of the empty prompt stands for what draws.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seed_hf.files import read_json

from .bundled import bundled_names


FIELD = "derived_from"


def origins_of(folder: Path, config: Mapping[str, Any] | None = None) -> list[str]:
    """The bundled checkpoints that the weights in a folder were made from.

    Args:
        folder: Of an artifact; of an adapter, its base model counts.
        config: Of a model that is not saved yet.

    Raises:
        ValueError: A configuration is damaged.
    """
    folders = [folder]
    if (folder / "adapter_config.json").is_file() and (base := base_model_of(folder)) and Path(base).is_dir():
        folders.append(Path(base))
    parts = ("", "seed_model", "empty_prompt")  # other folders are not the artifact's
    files = [place / part / "config.json" for place in folders for part in parts]
    files = [file for file in files if file.is_file()]
    found = [name for values in (config, *map(read_json, files)) for name in _named(values)]
    return [name for name in dict.fromkeys(found) if name in bundled_names()]


def base_model_of(folder: Path) -> str:
    """The base model that an adapter's folder names: a Hub id or a folder; `""` if it names none.

    Raises:
        ValueError: `adapter_config.json` is damaged.
    """
    base = read_json(folder / "adapter_config.json").get("base_model_name_or_path")
    return base if isinstance(base, str) else ""


def _named(config: Any) -> list[str]:
    if not isinstance(config, Mapping):
        return []
    own = [config[FIELD]] if isinstance(config.get(FIELD), str) else []
    return own + [name for value in config.values() for name in _named(value)]
