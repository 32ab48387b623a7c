"""Finds the checkpoints that are shipped inside the package."""

from pathlib import Path


CHECKPOINTS = Path(__file__).parents[1] / "checkpoints"


def bundled(name: str = "seed-tiny", part: str = "pipeline") -> Path:
    """The folder of a shipped checkpoint, ready for `from_pretrained`.

    The parts of a checkpoint share weight files: the index of one part points into the folder of another. Move or copy
    the whole checkpoint, not a single part. `save_pretrained` writes a part that stands alone.

    Args:
        name: The checkpoint, e.g. `"seed-tiny"`.
        part: `"tokenizer"` ([`SeedTokenizer`]), `"model"` ([`SeedForConditionalGeneration`] and [`SeedProcessor`]) or
            `"pipeline"` ([`SeedImagePipeline`]).

    Raises:
        ValueError: There is no such checkpoint, or it has no such part. The message lists what there is.
    """
    names = bundled_names()
    if name not in names:
        raise ValueError(f"No bundled checkpoint {name!r}. This installation has: {', '.join(names) or 'none'}.")
    parts = _folders(CHECKPOINTS / name)
    if part not in parts:
        raise ValueError(f"The bundled checkpoint {name!r} has no part {part!r}, only: {', '.join(parts) or 'none'}.")
    return CHECKPOINTS / name / part


def bundled_names() -> list[str]:
    """The checkpoints that this installation has."""
    return _folders(CHECKPOINTS)


def bundled_part(folder: Path) -> tuple[str, str] | None:
    """Checkpoint and part, if the folder is one that is shipped with the package."""
    folder, checkpoints = folder.resolve(), CHECKPOINTS.resolve()
    parts = folder.relative_to(checkpoints).parts if folder.is_relative_to(checkpoints) else ()
    return (parts[0], parts[1]) if len(parts) == 2 else None


def _folders(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir() if entry.is_dir()) if path.is_dir() else []
