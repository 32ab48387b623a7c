"""Whether results were measured on the weights of a folder: its card shows the figures of these alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from seed_hf.artifacts.fingerprints import weights_fingerprint
from seed_hf.artifacts.kinds import KINDS
from seed_hf.artifacts.loading import load_language_model, load_model, load_pipeline, load_tokenizer

from .evaluations import models_of, telling


# Of a pipeline, of a whole model.
_PARTS = ("seed_model", "unet", "vae", "empty_prompt", "image_normalizer", "visual_tokenizer", "language_model")


def check_measured_weights(folder: Path, kind: str, results: Mapping[str, Any]) -> None:
    """Check that evaluations are of the weights in a folder.

    Args:
        folder: Of a tokenizer, model, language model or pipeline. Other kinds pass: no result names their weights.
        kind: From `kind_of`.
        results: From `read_results`. Flat figures pass: they do not say what they were measured on.

    Raises:
        ValueError: They are of other weights or of a class that the folder lacks, or the folder cannot be loaded.
    """
    if kind not in _LOADERS:
        return
    measured: dict[str, dict[str, str]] = {}  # number type -> class -> SHA-256
    for result in results.get("evaluations", ()):
        for model in models_of(result):
            measured.setdefault(model.get("dtype", "float32"), {})[model.get("class", "")] = model["sha256"]
    names = set()
    for dtype, hashes in measured.items():
        for part in _parts(_LOADERS[kind](folder, getattr(torch, dtype, torch.float32))):
            names.add(name := type(part).__name__)
            if name in hashes and weights_fingerprint(part) != hashes[name]:
                raise ValueError(
                    f"The results are of other weights than those of the {name} in {folder}. Measure these with "
                    "`seed-hf evaluate`, or write the card without results."
                )
    for result in telling(results, KINDS[kind].sections) if measured else ():
        classes = {model.get("class") for model in models_of(result)}
        if not classes & names:
            raise ValueError(
                f"The results of {result['task']} are of a {', '.join(sorted(map(str, classes)))}, and {folder} holds "
                "none: nobody can tell that they are of these weights. They belong into the card of that model."
            )


def _parts(thing: Any) -> list[torch.nn.Module]:
    """Modules whose weights results may name: the thing itself and what it is made of."""
    found = [thing] if isinstance(thing, torch.nn.Module) else []
    for name in _PARTS:
        if isinstance(part := getattr(thing, name, None), torch.nn.Module):
            found += _parts(part)
    return found


_LOADERS = {
    "tokenizer": lambda folder, dtype: load_tokenizer(folder, device="cpu", dtype=dtype)[0],
    "model": lambda folder, dtype: load_model(folder, device="cpu", dtype=dtype)[0],
    "language_model": lambda folder, dtype: load_language_model(folder, device="cpu", dtype=dtype)[0],
    "pipeline": lambda folder, dtype: load_pipeline(folder, device="cpu", dtype=dtype),
}
