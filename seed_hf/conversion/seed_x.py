"""Folders of SEED-X and SEED-Story, which are near in name alone: known by their files, and declined."""

import json
from collections.abc import Iterable
from pathlib import Path

from .report import ConversionError


_ROWS = 32330  # of SEED-X's language model. SEED-Story's has 32,066, as LLaMA with 64 codes would have.


def decline_seed_x(folder: Path) -> None:
    """Raises `ConversionError` for a folder of SEED-X or SEED-Story.

    Args:
        folder: With `agent/` and `llm/`, as SEED-X has them, or with several of these; or a language model's.
    """
    for place in (folder, *(path for path in folder.iterdir() if path.is_dir())):
        if (place / "agent" / "pytorch_model.bin").is_file():
            raise no_codes(folder)
        for config in (place / "config.json", place / "llm" / "config.json"):
            if _rows(config) == _ROWS:
                raise no_codes(folder)


def are_continuous(names: Iterable[str]) -> bool:
    """Whether names of weights are those of a model whose images are features: both models have resamplers."""
    return any("_resampler." in name for name in names)


def no_codes(folder: Path) -> ConversionError:
    """The error for such a folder."""
    return ConversionError(
        f"{folder}: looks like SEED-X or SEED-Story. Their images are continuous features for SDXL, not visual codes, "
        "so this package cannot hold them. Use the authors' code: github.com/AILab-CVC/SEED-X, TencentARC/SEED-Story."
    )


def _rows(config: Path) -> int | None:
    try:
        return json.loads(config.read_text(encoding="utf-8")).get("vocab_size")
    except (OSError, ValueError, AttributeError):
        return None  # whatever it is, it is not SEED-X's
