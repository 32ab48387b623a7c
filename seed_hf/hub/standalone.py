"""Writes a bundled part so that it stands alone: in the package it shares weight files with its neighbours."""

from collections.abc import Mapping
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

from seed_hf.artifacts.bundled import bundled_names, bundled_part
from seed_hf.artifacts.kinds import KINDS, class_name_in, load_class
from seed_hf.artifacts.loading import load_pretrained
from seed_hf.artifacts.origins import origins_of
from seed_hf.files import whole_file, write_text


NOTICES = ("LICENSE", "NOTICE")


def write_standalone(folder: Path, kind: str, out: Path) -> None:
    """Load the artifact in `folder` and save it into `out`, with all its weights and nothing else.

    Weights that half precision holds exactly are stored in half precision, as those of the bundled checkpoints are.
    The number type in the configuration, which says how they are loaded, stays.

    Args:
        folder: Of the artifact.
        kind: From `kind_of`.
        out: New folder.

    Raises:
        ValueError: This package does not write artifacts of this kind.
    """
    known = KINDS[kind]
    if known.cls is None:
        raise ValueError(f"{folder}: its weights lie outside the folder. Load it and save it again.")
    out.mkdir(parents=True, exist_ok=True)
    processor = known.processor
    if kind == "tokenizer" and (folder / "tokenizer.json").is_file():  # of its text tower
        processor = KINDS["model"].processor
    for name in filter(None, (class_name_in(folder, kind), processor)):
        load_pretrained(load_class(name), folder).save_pretrained(out)
    for file in out.rglob("*.safetensors"):
        _store_in_half(file)
    if bundled_part(folder):
        write_notices(out)


def write_notices(folder: Path) -> None:
    """Write the licence of the package and its notices into a folder of weights that they belong to.

    Args:
        folder: Files of these names that are there stay as they are.

    Raises:
        ValueError: This installation of the package lacks them.
    """
    for name in NOTICES:
        if not (folder / name).exists():
            write_text(folder / name, _notice(name))


def origins_on_record(folder: Path, config: Mapping[str, Any] | None = None) -> list[str]:
    """As [`origins_of`]; where configurations tell nothing, by the notices that were put there before.

    An adapter names its base by another name, once that is published.

    Args:
        folder: Of an artifact.
        config: Of a model that is not saved yet.
    """
    path = folder / "NOTICE"
    kept = path.is_file() and path.read_text(encoding="utf-8", errors="replace") == _notice("NOTICE")
    return origins_of(folder, config) or (bundled_names() if kept else [])


def _notice(name: str) -> str:
    """A licence text of this package: installed with it, or at the top of a checkout."""
    checkout = Path(__file__).parents[2]
    if (checkout / "setup.py").is_file():
        return (checkout / name).read_text(encoding="utf-8")
    text = distribution("seed_hf").read_text(f"licenses/{name}")
    if text is None:
        raise ValueError(f"This installation of seed_hf lacks {name}, which has to go along. Install it again.")
    return text


def _store_in_half(file: Path) -> None:
    """Rewrite a file of weights in float16, if that changes no value."""
    import torch
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    tensors = load_file(file)
    halves = {name: value.half() if value.dtype == torch.float32 else value for name, value in tensors.items()}
    if all(torch.equal(halves[name].to(value.dtype), value) for name, value in tensors.items()):
        with whole_file(file) as temporary:
            save_file(halves, temporary, metadata=metadata)
