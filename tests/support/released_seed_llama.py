"""The golden SEED-LLaMA as the authors released theirs."""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file


GOLDEN = Path(__file__).parents[1] / "golden" / "seed_llama"
LAYOUT = GOLDEN / "layout"
WEIGHTS = load_file(GOLDEN / "language_model_weights.safetensors")


def release(folder: Path, weights: dict | None = None, safetensors: bool = False, shards: int = 2) -> Path:
    """A folder as the authors released it: config, and pickled shards in which the frequencies are fp32."""
    folder.mkdir(parents=True)
    for name in ("config.json", "generation_config.json"):
        shutil.copy(LAYOUT / name, folder)
    weights = WEIGHTS if weights is None else weights
    names, weight_map = list(weights), {}
    for number in range(shards):
        part = {name: weights[name].float().contiguous() for name in names[number::shards]}
        stem, end = ("model", "safetensors") if safetensors else ("pytorch_model", "bin")
        file = f"{stem}-{number + 1:05d}-of-{shards:05d}.{end}"
        save_file(part, folder / file) if safetensors else torch.save(part, folder / file)
        weight_map.update(dict.fromkeys(part, file))
    (folder / f"{stem}.{end}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder
