"""LoRA adapters: what their folder says about the base model."""

from pathlib import Path

from seed_hf.files import read_json


def base_model_of(folder: Path) -> str:
    """The base model that an adapter's folder names: a Hub id or a folder; `""` if it names none.

    Raises:
        ValueError: `adapter_config.json` is damaged.
    """
    base = read_json(folder / "adapter_config.json").get("base_model_name_or_path")
    return base if isinstance(base, str) else ""


def adapts_whole_model(folder: Path) -> bool:
    """Whether the base is a whole SeedForConditionalGeneration; otherwise it is a language model alone.

    Raises:
        ValueError: `adapter_config.json` is damaged.
    """
    mapping = read_json(folder / "adapter_config.json").get("auto_mapping") or {}
    return mapping.get("base_model_class") == "SeedForConditionalGeneration"
