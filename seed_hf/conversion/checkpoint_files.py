"""Reads the authors' checkpoint files into one state dict: tensors alone, never code."""

import json
import pickle
import re
import struct
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from .report import ConversionError, shown


# LAVIS, the trainers and most other programs store the state dict under one of these keys.
_CONTAINERS = ("model", "state_dict", "module")


@dataclass
class Checkpoint:
    """A state dict read from one or more files.

    Args:
        state_dict: The authors' key -> tensor, as stored.
        sources: Key -> the file it was read from.
        files: The files, in order.
        replaced: Keys for which a later file has other values than an earlier one.
    """

    state_dict: dict[str, torch.Tensor] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)


def read_checkpoint(paths: str | Path | Iterable[str | Path]) -> Checkpoint:
    """Read `.pth`, `.pt`, `.bin` or `.safetensors` files and merge them. Where two hold a key, the later one counts.

    The authors' class reads `causal_qformer.pth` and `seed_tokenizer.pth` in that order. The keys of a bare ViT
    (`eva_vit_g.pth`) get the prefix `visual_encoder.`. Only tensors are unpickled.

    Args:
        paths: One file or several.

    Raises:
        ConversionError: A file is absent, cut off, not a checkpoint, or holds pickled code. The message names the
            file and, if possible, the keys.
    """
    paths = [paths] if isinstance(paths, (str, Path)) else list(paths)
    if not paths:
        raise ConversionError("No checkpoint file was given.")
    merged = Checkpoint()
    for path in map(Path, paths):
        tensors = unwrapped(read_file(path), str(path))
        merged.files.append(str(path))
        for key, tensor in tensors.items():
            before = merged.state_dict.get(key)
            if before is not None and not (before.shape == tensor.shape and torch.equal(before, tensor)):
                merged.replaced.append(key)
            merged.state_dict[key] = tensor
            merged.sources[key] = str(path)
    return merged


def unwrapped(content, name: str = "the state dict") -> dict[str, torch.Tensor]:
    """The state dict in the content of a checkpoint file: without its container, with the prefixes of the model.

    Args:
        content: What the file holds.
        name: Of the file, for messages.

    Raises:
        ConversionError: It holds no mapping from names to tensors.
    """
    while isinstance(content, Mapping) and not any(isinstance(value, torch.Tensor) for value in content.values()):
        inside = next((content[key] for key in _CONTAINERS if isinstance(content.get(key), Mapping)), None)
        if inside is None:
            keys = [str(key) for key in content]
            raise ConversionError(f"{name}: holds no tensors, only {', '.join(shown(keys)) or 'nothing'}.")
        content = inside
    if not isinstance(content, Mapping):
        raise ConversionError(f"{name}: holds a {type(content).__name__}, not a state dict (names and tensors).")
    wrong = [str(key) for key, value in content.items() if not isinstance(value, torch.Tensor)]
    if wrong:
        raise ConversionError(f"{name}: these keys hold no tensors: {', '.join(shown(wrong))}.", unknown=wrong)
    tensors = {str(key): value for key, value in content.items()}
    if all(key.startswith("module.") for key in tensors):  # saved from inside DistributedDataParallel
        tensors = {key.removeprefix("module."): value for key, value in tensors.items()}
    if "patch_embed.proj.weight" in tensors:  # a ViT on its own
        tensors = {f"visual_encoder.{key}": value for key, value in tensors.items()}
    return tensors


def read_file(path: Path):
    """The content of a checkpoint file: tensors and containers of them, never code. Pickles in a zip file are mapped.

    Args:
        path: The file.

    Raises:
        ConversionError: The file is absent, cut off, no checkpoint, or holds pickled code.
    """
    if not path.is_file():
        what = "a folder, not a file" if path.is_dir() else "no such file"
        raise ConversionError(f"{path}: {what}. Give the checkpoint files themselves.")
    with path.open("rb") as file:
        start = file.read(9)
    # Files have any ending. A safetensors file starts with the length of its JSON header.
    if path.suffix == ".safetensors" or (len(start) == 9 and start[8:] == b"{"):
        try:
            return load_file(path)
        except (SafetensorError, ValueError, OSError) as error:
            lost = _lost_tensors(path)
            raise ConversionError(
                f"{path}: damaged or cut off ({error})." + (f" Lost: {', '.join(shown(lost))}." if lost else ""),
                missing=lost,
            ) from error
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL ([\w.]+)|[Cc]lass ([\w.]+)", str(error))
        if found is None or "nsupported" not in str(error):  # "Unsupported" or "unsupported"
            raise ConversionError(f"{path}: damaged, cut off, or no checkpoint at all.") from error
        raise ConversionError(
            f"{path}: holds pickled Python code ({found.group(1) or found.group(2)}), which is not run. Save its "
            "state dict alone, as safetensors, on a machine where you trust the file."
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, AttributeError, TypeError, IndexError, OSError) as error:
        reason = str(error).strip().partition("\n")[0].partition(". ")[0] if isinstance(error, RuntimeError) else ""
        raise ConversionError(
            f"{path}: damaged, cut off, or no checkpoint at all{f' ({reason})' if reason else ''}."
        ) from error


def _lost_tensors(path: Path) -> list[str]:
    """Names of the tensors that a cut safetensors file lacks, as far as its header can be read."""
    try:
        with path.open("rb") as file:
            length = struct.unpack("<Q", file.read(8))[0]
            there = path.stat().st_size - 8 - length
            header = json.loads(file.read(length)) if there >= 0 else {}
        return [key for key, info in header.items() if key != "__metadata__" and info["data_offsets"][1] > there]
    except (struct.error, ValueError, KeyError, TypeError, AttributeError):
        return []
