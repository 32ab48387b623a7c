"""Whether the folder of an artifact is whole: its weights, its processor, its code and its data are there and fit."""

import ast
import re
from collections.abc import Sequence
from pathlib import Path

from seed_hf.files import read_json, sha256_of

from .kinds import KINDS, class_name_in, identify, kind_of
from .publishable import classes_of, code_files, indices_of, is_regular, parts_of, read_index, shards_of, weights_of
from .stored_weights import adapter_problems, weight_problems


_NO_CODE = "no code for users without seed_hf; load it with this version and save it again"
# Components of a pipeline that must have weights -> our class that loads them, where it is no artifact of its own.
_WITH_WEIGHTS = {
    "seed_model": None,
    "unet": None,
    "vae": None,
    "empty_prompt": "seed_hf.pipelines.empty_prompt.EmptyPromptEmbedding",
}


def problems(folder: Path, kind: str) -> list[str]:
    """What a folder lacks to be a whole artifact of its kind, and what in it does not fit; empty if nothing.

    Of weights the header is read, and compared with the index and with the model of the configuration; of data the
    hash is.

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
    if kind == "adapter":
        return found or adapter_problems(folder)
    found += weight_problems(folder, kind, class_name_in(folder, kind))
    return found + (_code_problems(folder) if classes_of(folder / "config.json") else [_NO_CODE])


def weights_outside(folder: Path) -> bool:
    """Whether an index of weights points out of the folder, as those of the bundled checkpoints do.

    Args:
        folder: Of the artifact.

    Raises:
        ValueError: It is no artifact, or an index is damaged.
    """
    return bool(_outside(folder))


def check_outside(folder: Path) -> None:
    """Refuse an index that leads out of the folder to anything but the other parts of its checkpoint.

    These lie beside it, in `tokenizer` or `model`. Whatever else an index names was hardly meant to be published.

    Args:
        folder: Of the artifact.

    Raises:
        ValueError: The message names the file.
    """
    checkpoint = folder.resolve().parent
    for path in _outside(folder):
        if path.parent not in (checkpoint / "tokenizer", checkpoint / "model"):
            raise ValueError(f"{folder}: its index names weights outside of it: {path}. Save the artifact again.")


def _outside(folder: Path) -> list[Path]:
    root, kind = folder.resolve(), kind_of(folder)
    named = [
        (part / name).resolve()
        for part in parts_of(folder, kind)
        for index in indices_of(part, kind)
        for name in read_index(index)
    ]
    return [path for path in named if not path.is_relative_to(root)]


def _pipeline_problems(folder: Path) -> list[str]:
    if not (folder / "pipeline_seed_image.py").is_file():
        return [_NO_CODE]
    found = _code_problems(folder, [("pipeline_seed_image", "SeedImagePipeline")])
    for part, (library, cls) in _components(folder).items():
        if not part.is_dir():
            found.append(f"no folder {part.name}")
            continue
        named = [(library, cls)] if (part / f"{library}.py").is_file() else []
        found += [f"{part.name}: {problem}" for problem in _code_problems(part, named)]
        if part.name in _WITH_WEIGHTS or weights_of(part, "pipeline") or indices_of(part, "pipeline"):
            ours = _WITH_WEIGHTS.get(part.name)
            if part.name == "seed_model":
                ours = KINDS[kind].cls if (kind := identify(part)[0]) else None
            known = ours or (f"diffusers.{cls}" if library == "diffusers" else None)
            found += [f"{part.name}: {problem}" for problem in weight_problems(part, "pipeline", known)]
    return found


def _components(folder: Path) -> dict[Path, tuple[str, str]]:
    """Folder of each part of a pipeline -> library and class."""
    index = read_json(folder / "model_index.json")
    parts = [part for part in parts_of(folder, "pipeline") if part != folder]
    return {part: (str(index[part.name][0]), str(index[part.name][1])) for part in parts}


def _code_problems(folder: Path, named: Sequence[tuple[str, str]] = ()) -> list[str]:
    """What is wrong with the code of an artifact or of a pipeline's part: modules, and the classes `named` in them."""
    found = []
    for path in sorted(code_files(folder, [module for module, _ in named])):
        try:
            ast.parse(path.read_bytes())
        except (SyntaxError, ValueError) as error:
            found.append(f"{path.name} is not Python ({error})")
    for module, name in [*classes_of(folder / "config.json"), *named]:
        path = folder / f"{module}.py"
        if not path.is_file():
            found.append(f"no {module}.py, which config.json names")
        elif not re.search(rf"^class {re.escape(name)}\b", path.read_text(encoding="utf-8"), re.MULTILINE):
            found.append(f"{module}.py has no class {name}, which the configuration names")
    return found


def _data_problems(folder: Path) -> list[str]:
    manifest = read_json(folder / "manifest.json")
    if not manifest.get("complete"):
        return ["the job has not ended (manifest.json: complete is false); run `seed-hf tokenize` again"]
    described = {name: shard.get("sha256") for name, shard in shards_of(folder).items()}
    bad = manifest.get("bad_images")
    if isinstance(bad, dict) and (folder / "bad_images.jsonl").exists():
        described["bad_images.jsonl"] = bad.get("sha256")
    found = []
    for name, sha256 in described.items():
        if not is_regular(folder / name):
            found.append(f"no {name}, which manifest.json names")
            continue
        if sha256_of(folder / name) != sha256:
            found.append(f"{name} is not what manifest.json describes: it changed after the job wrote it")
    return found
