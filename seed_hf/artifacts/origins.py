"""From which bundled checkpoint weights come: its licence and notices go along with copies and what is made of them.

The configurations of a bundled checkpoint have the field `derived_from`. transformers keeps fields that it does not
know: they are there again after `save_pretrained`, training, extending and taking apart.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from seed_hf.files import read_json

from .adapters import base_model_of
from .bundled import bundled_names


FIELD = "derived_from"
_CONFIGS = ("config.json", "seed_model/config.json")


def origins_of(folder: Path) -> list[str]:
    """The bundled checkpoints that the weights in a folder were made from.

    Args:
        folder: Of an artifact; of an adapter, its base model counts.

    Raises:
        ValueError: A configuration is damaged.
    """
    found = [name for config in _CONFIGS if (folder / config).is_file() for name in _named(read_json(folder / config))]
    if (folder / "adapter_config.json").is_file() and (base := base_model_of(folder)) and Path(base).is_dir():
        found += origins_of(Path(base))
    return [name for name in dict.fromkeys(found) if name in bundled_names()]


def _named(config: Any) -> list[str]:
    if not isinstance(config, dict):
        return []
    own = [config[FIELD]] if isinstance(config.get(FIELD), str) else []
    return own + [name for value in config.values() for name in _named(value)]
