"""Refuses parts whose weights are not all in the folder that they come from: diffusers draws them at random."""

import json
import re
from pathlib import Path

from diffusers import ModelMixin
from safetensors import safe_open

from seed_hf.modeling.whole_weights_seed import check_weights


_SHARD = re.compile(r"-\d{5}-of-\d{5}(\.\w+)?\.safetensors$")  # today's names of shards, and earlier ones
_ADDED = (".to_qkv.", ".to_kv.", ".processor.")  # what fused projections and attention processors add


def check_parts(*parts) -> None:
    """Raises `ValueError`, with the names, if a model has weights that its folder lacks.

    Models of transformers are checked where they are loaded.

    Args:
        parts: Of a pipeline; those that are no models of diffusers, or not from a folder, count as whole.
    """
    for part in parts:
        if not isinstance(part, ModelMixin):
            continue
        folder = Path(str(part.config.get("_name_or_path") or ""))
        variants = _stored_names(folder)
        if not variants or _is_changed(part, folder):
            continue  # built here, from the Hub by its name, or in another format than safetensors
        for file, names in variants.items():  # diffusers does not say which of them it has loaded
            stored = dict.fromkeys(names)
            part._fix_state_dict_keys_on_load(stored)  # names of early versions of diffusers
            wanted = part.state_dict().keys()
            if file.name.count(".") > 1 and "index" not in file.name and not wanted & stored.keys():
                continue  # beside the weights, and not another variant of them: an adapter
            missing = {name for name in wanted - stored.keys() if not any(map(name.count, _ADDED))}
            check_weights(file, type(part).__name__, missing=missing)


def _is_changed(part: ModelMixin, folder: Path) -> bool:
    """Whether a model has other weights than its folder by now: adapters, quantized ones, or a student's."""
    adapted = bool(getattr(part, "peft_config", None)) or getattr(part, "hf_quantizer", None) is not None
    there = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    now = json.loads(part.to_json_string())
    return adapted or any(there[name] != now.get(name) for name in there if not name.startswith("_"))


def _stored_names(folder: Path) -> dict[Path, set[str]]:
    """The names of the weights of each variant, by the file, or the index of its shards, that holds it.

    An index without its shards is left over from an earlier save: diffusers does not remove it.
    """
    shards = {
        index: {folder / name for name in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()}
        for index in folder.glob("diffusion_pytorch_model.safetensors.index*.json")
    }
    singles = {file for file in folder.glob("diffusion_pytorch_model*.safetensors") if not _SHARD.search(file.name)}
    variants = {file: {file} for file in singles - set().union(*shards.values())}
    variants |= {index: files for index, files in shards.items() if all(file.exists() for file in files)}
    return {name: set().union(*map(_names_in, files)) for name, files in variants.items()}


def _names_in(file: Path) -> set[str]:
    with safe_open(file, framework="pt") as weights:
        return set(weights.keys())
