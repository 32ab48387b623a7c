"""What an artifact folder is, whether it is complete, and which of its files may be published."""

import json
import os
from pathlib import Path


KINDS = ("tokenizer", "model", "language_model", "pipeline", "adapter", "dataset")
_MODEL_TYPES = {"seed_tokenizer": "tokenizer", "seed": "model", "seed_text": "language_model"}
_TEXT_TOKENIZER = ("tokenizer.json", "tokenizer_config.json")
# Groups of files, of which at least one has to be there.
_NEEDED: dict[str, list[tuple[str, ...]]] = {
    "tokenizer": [("preprocessor_config.json", "processor_config.json")],
    "model": [("processor_config.json",), ("tokenizer.json",)],
    "language_model": [_TEXT_TOKENIZER],
    "pipeline": [],
    "adapter": [("adapter_model.safetensors",)],
    "dataset": [],
}
# Formats that run code when they are opened, and what a Trainer leaves behind.
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib")
# Hidden names that belong to a repository; all others (.git, .env, .job ...) stay where they are.
_HIDDEN = (".eval_results", ".gitattributes")
# They tell paths of the machine.
_OF_A_TRAINING = ("trainer_state.json", "events.out.tfevents")
_LARGEST_FILE = 50_000_000_000  # what the Hub accepts


def kind_of(folder: str | os.PathLike) -> str:
    """What a folder holds: "tokenizer", "model", "language_model", "pipeline", "adapter" or "dataset".

    Raises:
        ValueError: None of these.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder. Give the folder of a saved artifact.")
    kind, found = identify(folder)
    if kind is None:
        raise ValueError(
            f"{folder}: holds {found}. Known are the folders that save_pretrained of a SeedTokenizer, "
            "SeedForConditionalGeneration, SeedForCausalLM or SeedImagePipeline writes, LoRA adapters, and what "
            "`seed-hf tokenize` writes."
        )
    return kind


def identify(folder: Path) -> tuple[str | None, str]:
    """The kind of a folder, `None` if unknown, and what it holds in words, such as "a model of the type 'opt'".

    Raises:
        ValueError: A file that tells the kind is damaged.
    """
    if (folder / "model_index.json").is_file():
        name = read_json(folder / "model_index.json").get("_class_name")
        name = name[-1] if isinstance(name, list) and name else name  # [module, class] where the code comes along
        return ("pipeline" if name == "SeedImagePipeline" else None), f"a diffusers pipeline of the class {name}"
    if (folder / "adapter_config.json").is_file():
        if read_json(folder / "adapter_config.json").get("peft_type") == "LORA":
            return "adapter", "a LoRA adapter"
        return None, "an adapter that is not LoRA"
    if (folder / "config.json").is_file():
        model_type = read_json(folder / "config.json").get("model_type")
        return _MODEL_TYPES.get(model_type), f"a model of the type {model_type!r}"
    if (folder / "manifest.json").is_file():
        if "tokenizer" in read_json(folder / "manifest.json") and any(folder.glob("codes-*.parquet")):
            return "dataset", "pre-tokenized data"
        return None, "a manifest.json that is not of pre-tokenized data"
    return None, "no artifact"


def problems(folder: Path, kind: str) -> list[str]:
    """What keeps a folder from being a whole artifact of its kind; empty if nothing does."""
    found = [f"no {' or '.join(names)}" for names in _NEEDED[kind] if not any((folder / n).is_file() for n in names)]
    if kind == "dataset":
        return found + _data_problems(folder)
    if kind == "adapter":
        return found
    if kind != "pipeline":
        return found + _weight_problems(folder) + _code_problems(folder)
    if not (folder / "pipeline_seed_image.py").is_file():
        found.append(_NO_CODE)
    for name, where in read_json(folder / "model_index.json").items():
        if isinstance(where, list) and not name.startswith("_") and where[-1] is not None:
            part = folder / name
            if not part.is_dir():
                found.append(f"no folder {name}")
            elif name in ("seed_model", "unet", "vae", "empty_prompt"):
                found += [f"{name}: {problem}" for problem in _weight_problems(part)]
    return found


def _weight_problems(folder: Path) -> list[str]:
    weights = [path for path in folder.glob("*.safetensors") if path.is_file()]
    indices = list(folder.glob("*.safetensors.index.json"))
    if not weights and not indices:
        return ["no weights (*.safetensors)"]
    shards = {name for index in indices for name in set(read_json(index).get("weight_map", {}).values())}
    return [f"no {name}, which the index names" for name in sorted(shards) if not (folder / name).is_file()]


_NO_CODE = "no code for those who have not installed seed_hf; load it with this version and save it again"


def _code_problems(folder: Path) -> list[str]:
    classes = read_json(folder / "config.json").get("auto_map") or {}
    modules = {name.rpartition("--")[2].partition(".")[0] for name in classes.values() if isinstance(name, str)}
    if not modules:
        return [_NO_CODE]
    return [
        f"no {name}.py, which config.json names" for name in sorted(modules) if not (folder / f"{name}.py").is_file()
    ]


def _data_problems(folder: Path) -> list[str]:
    manifest = read_json(folder / "manifest.json")
    if not manifest.get("complete"):
        return ["the job has not ended (manifest.json: complete is false); run `seed-hf tokenize` again"]
    missing = [shard["file"] for shard in manifest.get("shards", ()) if not (folder / shard["file"]).is_file()]
    return [f"no {name}, which manifest.json names" for name in missing]


def weights_outside(folder: Path) -> bool:
    """Whether an index of weights points out of the folder, as those of the bundled checkpoints do."""
    root = folder.resolve()
    for index in folder.rglob("*.safetensors.index.json"):
        for name in set(read_json(index).get("weight_map", {}).values()):
            if not (index.parent / name).resolve().is_relative_to(root):
                return True
    return False


def files_of(folder: Path) -> tuple[dict[str, int], list[str]]:
    """The files to publish, by name with sizes in bytes, and the names that are left out.

    Left out are hidden files and folders, and what a Trainer leaves beside its result (`checkpoint-*`, state, logs).

    Raises:
        ValueError: A symbolic link, a pickle or a file that is too large.
    """
    files, left_out = {}, []
    for parent, folders, names in os.walk(folder):
        place = Path(parent)
        for name in sorted(folders):
            path = place / name
            if path.is_symlink():
                raise ValueError(f"{path}: a symbolic link. Put the folder itself there.")
            if name.startswith("checkpoint-") or name in ("runs", "__pycache__") or _hidden(name):
                left_out.append(f"{path.relative_to(folder).as_posix()}/")
        folders[:] = sorted(
            name for name in folders if f"{(place / name).relative_to(folder).as_posix()}/" not in left_out
        )
        for name in sorted(names):
            path, shown = place / name, (place / name).relative_to(folder).as_posix()
            if _hidden(name) or name.startswith(_OF_A_TRAINING):
                left_out.append(shown)
                continue
            files[shown] = _checked_size(path)
    return files, left_out


def _hidden(name: str) -> bool:
    return name.startswith(".") and name not in _HIDDEN


def _checked_size(path: Path) -> int:
    if path.is_symlink():
        raise ValueError(f"{path}: a symbolic link. Put the file itself there.")
    if path.suffix.lower() in _PICKLES:
        raise ValueError(
            f"{path}: files of this kind can run code when they are opened, and are not published. Save weights as "
            "safetensors (save_pretrained does) and remove the file."
        )
    size = path.stat().st_size
    if size > _LARGEST_FILE:
        raise ValueError(
            f"{path}: {size / 1e9:.0f} GB in one file; the Hub takes {_LARGEST_FILE / 1e9:.0f}. Save it again in "
            'shards: save_pretrained(folder, max_shard_size="5GB").'
        )
    return size


def read_json(path: Path) -> dict:
    """A JSON object.

    Raises:
        ValueError: The file is damaged or holds something else.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not readable as JSON. {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path}: holds no JSON object but {type(value).__name__}.")
    return value
