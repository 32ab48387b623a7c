"""Weights of large models, read and written one tensor at a time."""

import ctypes
import json
import sys
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from seed_hf.files import disk_errors, read_json

from .checkpoint_files import read_file, unwrapped
from .report import ConversionError


# A shard is in memory twice while it is written.
SHARD_BYTES = 2**30
_INDICES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_SINGLE = ("model.safetensors", "pytorch_model.bin")


def weight_files(folder: Path) -> list[Path]:
    """The files that hold the weights of a folder, in the order of their index: those that transformers would read.

    Args:
        folder: With `model.safetensors` or `pytorch_model.bin`, or shards of one and their index.

    Raises:
        ConversionError: There are none, or the index names a file that is not there.
    """
    for single, index in zip(_SINGLE, _INDICES):
        if (folder / single).is_file():
            return [folder / single]
        if (folder / index).is_file():
            return _named_in(folder / index)
    shards = sorted(path.name for path in folder.glob("*-of-*"))
    hint = f" There are shards ({shards[0]}), but no index that says which weights they hold." if shards else ""
    raise ConversionError(f"{folder}: no weights ({', '.join((*_SINGLE, *_INDICES))}).{hint}")


def _named_in(index: Path) -> list[Path]:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ConversionError(f"{index}: has no weight_map.")
    strange = [file for file in weight_map.values() if not _lies_inside(file)]
    if strange:
        raise ConversionError(f"{index}: {strange[0]!r:.80} is no name of a file in this folder.")
    files = [index.parent / file for file in sorted(set(weight_map.values()))]
    if missing := [file.name for file in files if not file.is_file()]:
        raise ConversionError(f"{index.parent}: {index.name} names files that are not there: {', '.join(missing)}.")
    return files


def _lies_inside(name) -> bool:
    return isinstance(name, str) and not Path(name).is_absolute() and ".." not in Path(name).parts


def read_tensors(files: Iterable[Path]) -> Iterator[tuple[str, torch.Tensor, Path]]:
    """(name, tensor, file) of all weights; the memory of a tensor is free when the next one is asked for.

    Args:
        files: safetensors, or pickles of tensors alone.

    Raises:
        ConversionError: A file is damaged, or holds pickled code.
    """
    for file in files:
        if file.suffix == ".safetensors":
            try:
                with safe_open(file, framework="pt") as opened:
                    for name in opened.keys():  # noqa: SIM118 - no mapping
                        yield name, opened.get_tensor(name), file
            except (SafetensorError, OSError) as error:
                raise ConversionError(f"{file}: damaged or cut off ({error}).") from error
            continue
        mapped = zipfile.is_zipfile(file)  # as read_file maps it; an older pickle is read into memory
        for name, tensor in unwrapped(read_file(file), str(file)).items():
            yield name, tensor, file
            if mapped:
                _forget_pages(tensor)


class WeightShardWriter:
    """Writes weights as safetensors shards of at most about a gigabyte, with their index.

    Args:
        folder: To write into.
        out: What messages call it.
    """

    def __init__(self, folder: Path, out: Path):
        self.folder, self.out = folder, out
        self.shards: list[tuple[Path, list[str]]] = []
        self.waiting: dict[str, torch.Tensor] = {}
        self.bytes = self.total = 0

    def add(self, name: str, tensor: torch.Tensor) -> None:
        """Write a weight; its memory is kept until its shard is full.

        Args:
            name: Of the weight.
            tensor: Its value, in the number type to store.
        """
        size = tensor.numel() * tensor.element_size()
        if self.waiting and self.bytes + size > SHARD_BYTES:
            self._write()
        self.waiting[name] = tensor.contiguous().clone()
        self.bytes += size
        self.total += size

    def close(self) -> None:
        """Write what is waiting, name the shards by their number, and write the index."""
        self._write()
        weight_map = {}
        for number, (path, names) in enumerate(self.shards, start=1):
            final = f"model-{number:05d}-of-{len(self.shards):05d}.safetensors"
            path.rename(self.folder / final)
            weight_map.update(dict.fromkeys(names, final))
        index = {"metadata": {"total_size": self.total}, "weight_map": dict(sorted(weight_map.items()))}
        (self.folder / _INDICES[0]).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")

    def _write(self) -> None:
        if not self.waiting:
            return
        path = self.folder / f"shard-{len(self.shards)}.safetensors"
        with disk_errors(self.out):
            save_file(self.waiting, path, metadata={"format": "pt"})
        self.shards.append((path, list(self.waiting)))
        self.waiting, self.bytes = {}, 0


def _forget_pages(tensor: torch.Tensor) -> None:
    """Tell the kernel that the pages of a tensor in a mapped file are not needed any more.

    Otherwise the file stays in the memory of the process as far as it was read. Whoever reads the tensor again reads
    the file again.
    """
    advise = getattr(ctypes.CDLL(None), "madvise", None) if sys.platform == "linux" else None
    storage = tensor.untyped_storage()
    if advise is None:
        return
    page, dont_need = 4096, 4
    start = -(-storage.data_ptr() // page) * page
    length = (storage.data_ptr() + storage.nbytes() - start) // page * page
    if length > 0:
        advise(ctypes.c_void_p(start), ctypes.c_size_t(length), dont_need)
