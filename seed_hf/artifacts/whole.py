"""Whether the folder of an artifact is whole: its weights, its processor and its code are there."""

from pathlib import Path

from seed_hf.files import read_json

from .kinds import KINDS


_NO_CODE = "no code for users without seed_hf; load it with this version and save it again"
# Components of a pipeline that have weights.
_WITH_WEIGHTS = ("seed_model", "unet", "vae", "empty_prompt")


def problems(folder: Path, kind: str) -> list[str]:
    """What a folder lacks to be a whole artifact of its kind; empty if nothing.

    Args:
        folder: Of the artifact.
        kind: From `kind_of`.

    Raises:
        ValueError: A JSON file is damaged.
    """
    groups = [names for names in KINDS[kind].needed if not any((folder / name).is_file() for name in names)]
    found = [f"no {' or '.join(names)}" for names in groups]
    if kind == "dataset":
        return found + _data_problems(folder)
    if kind == "pipeline":
        return found + _pipeline_problems(folder)
    if KINDS[kind].cls is None:
        return found
    return found + _weight_problems(folder) + _code_problems(folder)


def weights_outside(folder: Path) -> bool:
    """Whether an index of weights points out of the folder, as those of the bundled checkpoints do."""
    root = folder.resolve()
    for index in folder.rglob("*.safetensors.index.json"):
        if any(not (index.parent / name).resolve().is_relative_to(root) for name in _shards(index)):
            return True
    return False


def _pipeline_problems(folder: Path) -> list[str]:
    found = [] if (folder / "pipeline_seed_image.py").is_file() else [_NO_CODE]
    for name, where in read_json(folder / "model_index.json").items():
        if not isinstance(where, list) or name.startswith("_") or where[-1] is None:
            continue  # a setting, or a component that the pipeline does without
        if not (folder / name).is_dir():
            found.append(f"no folder {name}")
        elif name in _WITH_WEIGHTS:
            found += [f"{name}: {problem}" for problem in _weight_problems(folder / name)]
    return found


def _weight_problems(folder: Path) -> list[str]:
    indices = list(folder.glob("*.safetensors.index.json"))
    if not indices and not any(path.is_file() for path in folder.glob("*.safetensors")):
        return ["no weights (*.safetensors)"]
    shards = {name for index in indices for name in _shards(index)}
    return [f"no {name}, which the index names" for name in sorted(shards) if not (folder / name).is_file()]


def _shards(index: Path) -> set[str]:
    return set(read_json(index).get("weight_map", {}).values())


def _code_problems(folder: Path) -> list[str]:
    classes = read_json(folder / "config.json").get("auto_map") or {}
    modules = {name.rpartition("--")[2].partition(".")[0] for name in classes.values() if isinstance(name, str)}
    if not modules:
        return [_NO_CODE]
    missing = [name for name in sorted(modules) if not (folder / f"{name}.py").is_file()]
    return [f"no {name}.py, which config.json names" for name in missing]


def _data_problems(folder: Path) -> list[str]:
    manifest = read_json(folder / "manifest.json")
    if not manifest.get("complete"):
        return ["the job has not ended (manifest.json: complete is false); run `seed-hf tokenize` again"]
    missing = [shard["file"] for shard in manifest.get("shards", ()) if not (folder / shard["file"]).is_file()]
    return [f"no {name}, which manifest.json names" for name in missing]
