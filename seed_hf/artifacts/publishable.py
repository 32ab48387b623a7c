"""Which files of an artifact's folder may be published."""

import os
from pathlib import Path


# Formats that run code when they are opened.
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib")
# Hidden names that belong to a repository. All others (.git, .env, .job ...) are left out.
_HIDDEN = (".eval_results", ".gitattributes")
# What a Trainer leaves beside its result, which names paths of the machine.
_OF_A_TRAINING = ("trainer_state.json", "events.out.tfevents")
_LARGEST_FILE = 50_000_000_000  # bytes; the Hub's limit


def files_of(folder: Path) -> tuple[dict[str, int], list[str]]:
    """The files to publish, by name with sizes in bytes, and the names that are left out.

    Left out are hidden files and folders, and what a Trainer leaves beside its result (`checkpoint-*`, state, logs).

    Raises:
        ValueError: A symbolic link, a pickle, or a file over the Hub's limit.
    """
    files, left_out = {}, []
    for parent, folders, names in os.walk(folder):
        place, kept = Path(parent), []
        for name in sorted(folders):
            if (place / name).is_symlink():
                raise ValueError(f"{place / name}: a symbolic link. Put the folder itself there.")
            if name.startswith("checkpoint-") or name in ("runs", "__pycache__") or _hidden(name):
                left_out.append(f"{(place / name).relative_to(folder).as_posix()}/")
            else:
                kept.append(name)
        folders[:] = kept  # os.walk goes on into these
        for name in sorted(names):
            shown = (place / name).relative_to(folder).as_posix()
            if _hidden(name) or name.startswith(_OF_A_TRAINING):
                left_out.append(shown)
            else:
                files[shown] = _checked_size(place / name)
    return files, left_out


def _hidden(name: str) -> bool:
    return name.startswith(".") and name not in _HIDDEN


def _checked_size(path: Path) -> int:
    if path.is_symlink():
        raise ValueError(f"{path}: a symbolic link. Put the file itself there.")
    if path.suffix.lower() in PICKLES:
        raise ValueError(
            f"{path}: files of this format can run code when they are opened, and are not published. Save weights as "
            "safetensors (save_pretrained does) and remove the file."
        )
    size = path.stat().st_size
    if size > _LARGEST_FILE:
        raise ValueError(
            f"{path}: {size / 1e9:.0f} GB in one file; the Hub takes {_LARGEST_FILE / 1e9:.0f}. Save it again in "
            'shards: save_pretrained(folder, max_shard_size="5GB").'
        )
    return size
