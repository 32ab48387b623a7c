"""How many rows go through a model at once: what memory allows, the same again when a job goes on."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch

from seed_hf.files import read_json


_MOST = {"cpu": 32}  # more at once is no faster there
_MOST_ELSEWHERE = 256
_SHARE = 0.25  # of the free memory: what a row takes is an estimate
Row = TypeVar("Row")


def batch_size_of(folder: Path, model: Any, beams: int = 1) -> int:
    """The batch size that a job was begun with; for a new one a power of two that fits into memory.

    Args:
        folder: Of the job.
        model: A [`SeedForConditionalGeneration`] on its device.
        beams: Sequences that the language model keeps for each row.
    """
    try:
        return int(read_json(folder / "manifest.json")["settings"]["batch_size"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    device = model.device
    rows = _SHARE * _free_memory(device) / _bytes_a_row(model, beams)
    most = _MOST.get(device.type, _MOST_ELSEWHERE)
    return min(most, 1 << max(0, int(rows).bit_length() - 1))


def in_parts(work: Callable[[Sequence[Row]], list[Any]], rows: Sequence[Row]) -> list[Any]:
    """What `work` makes of each row: of all at once, or of each half of them where the memory of the device ends.

    Args:
        work: From rows to as many results.
        rows: At least one.
    """
    try:
        return work(rows)
    except torch.OutOfMemoryError:
        if len(rows) == 1:
            raise
    # outside of the handler, which holds the tensors of the attempt
    torch.cuda.empty_cache()
    middle = len(rows) // 2
    return in_parts(work, rows[:middle]) + in_parts(work, rows[middle:])


def _bytes_a_row(model: Any, beams: int) -> int:
    """About what a row takes: activations of a ViT block, keys and values, logits."""
    vision, text = model.config.tokenizer_config.vision_config, model.config.text_config
    size = torch.finfo(model.dtype).bits // 8
    patches = (vision.image_size // vision.patch_size) ** 2 + 1
    seeing = size * patches * (8 * vision.hidden_size + 2 * vision.intermediate_size + patches * 2)
    positions = min(text.max_position_embeddings, 128)
    keys = 2 * size * text.num_hidden_layers * text.hidden_size * positions
    return seeing + 3 * vision.image_size**2 * 8 + beams * (keys + 16 * text.vocab_size)


def _free_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2 if hasattr(os, "sysconf") else 4 << 30
