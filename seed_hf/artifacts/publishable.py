"""Which files of an artifact's folder may be published: those its kind is made of, and those asked for by name."""

import fnmatch
import mmap
import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from seed_hf.files import read_json

from .kinds import KINDS, kind_of


# Formats that run code when they are opened.
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib")
_LARGEST_FILE = 50_000_000_000  # bytes; the Hub's limit
# Names of keys and passwords. These are not published even if asked for.
_SECRETS = (
    *(
        "id_rsa*",
        "id_dsa*",
        "id_ecdsa*",
        "id_ed25519*",
        "*.pem",
        "*.key",
        "*.ppk",
        "*.p12",
        "*.pfx",
        "*.jks",
        "*.kdbx",
    ),
    *(
        "*.env",
        ".env*",
        "*token",
        "*token.*",
        "*_token*",
        "*credential*",
        "*secret*",
        "*passw*",
        "*api_key*",
        "*apikey*",
    ),
    *(".netrc", "_netrc", ".pypirc", ".npmrc", ".git-credentials", ".htpasswd", "kaggle.json", "*service_account*"),
)
_IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".gif")
# What keys and access tokens look like inside a file.
_SECRET = re.compile(
    # before a token: nothing, or what is no part of it, such as the n of a line feed in JSON
    rb"-----BEGIN [A-Z ]*PRIVATE KEY( BLOCK)?-----|"
    rb"(?:(?<![A-Za-z0-9])|(?<=\\[nrt]))(?:hf_[A-Za-z0-9]{34}|gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{50,}|"
    rb"glpat-[A-Za-z0-9_-]{20,}|sk-(?:proj-|ant-)?[A-Za-z0-9_-]{40,}|A[KS]IA[0-9A-Z]{16})(?![A-Za-z0-9])"
)
_VARIANTS = ("fp16", "bf16", "fp32", "ema", "non_ema")  # of weights, between the name and its ending
_CONFIGS = ("config.json", "tokenizer_config.json", "preprocessor_config.json", "processor_config.json")
_IMPORT = re.compile(r"^\s*from \.(\w+) import", re.MULTILINE)


def files_of(folder: Path, include: Sequence[str] = ()) -> tuple[dict[str, int], list[str]]:
    """The files to publish, by name with sizes in bytes, and the names that are left out.

    Args:
        folder: Of the artifact.
        include: Names of further files and folders in it.

    Raises:
        ValueError: A file to publish is a link, a pipe or a device, over the Hub's limit, or holds an access token or
            a private key; one that is asked for is missing, or has the name of a secret.
    """
    include = [name.rstrip("/") for name in include]
    made_of = made_of_files(folder, kind_of(folder))
    wanted = {parent.as_posix() for name in (*made_of, *include) for parent in PurePosixPath(name).parents}
    files, left_out = {}, []
    for parent, folders, names in os.walk(folder):
        place, kept = Path(parent), []
        for name in sorted(folders):
            shown = _name(folder, place / name)
            if shown not in wanted and not _asked(shown, include):
                left_out.append(f"{shown}/")
            elif (place / name).is_symlink():
                raise ValueError(f"{place / name}: a symbolic link. Put the folder itself there.")
            else:
                kept.append(name)
        folders[:] = kept  # os.walk goes on into these
        for name in sorted(names):
            shown = _name(folder, place / name)
            if shown in made_of:
                files[shown] = _checked_size(place / name)
            elif _asked(shown, include):
                secret = any(fnmatch.fnmatchcase(name.lower(), pattern) for pattern in _SECRETS)
                if secret and not name.lower().endswith(_IMAGES):  # a figure of visual tokens
                    raise ValueError(f"{place / name}: has the name of a secret, and is not published.")
                files[shown] = _checked_size(place / name)
            else:
                left_out.append(shown)
    if missing := [name for name in include if not any(_asked(found, [name]) for found in files)]:
        raise ValueError(f"{folder}: has no {', '.join(missing)}, which is to be published, too.")
    return files, [_printable(name) for name in left_out]


def made_of_files(folder: Path, kind: str) -> set[str]:
    """Names of the files in a folder that belong to an artifact of a kind, as it describes itself.

    Args:
        folder: Of the artifact.
        kind: From `kind_of`.
    """
    found: set[Path] = set()
    for part, modules in parts_of(folder, kind).items():
        found |= {path for pattern in KINDS[kind].made_of for path in part.glob(pattern)}
        if kind == "dataset":
            found |= {part / name for name in shards_of(folder)}
        else:
            found |= {*weights_of(part, kind), *(indices := indices_of(part, kind))}
            found |= {part / name for index in indices for name in read_index(index) if _is_plain(name)}
            found |= code_files(part, modules)
    return {_name(folder, path) for path in found}


def parts_of(folder: Path, kind: str) -> dict[Path, tuple[str, ...]]:
    """The folders that hold an artifact's files, each with the modules of code that `model_index.json` names for it.

    Args:
        folder: Of the artifact.
        kind: From `kind_of`.
    """
    if kind != "pipeline":
        return {folder: ()}
    index = _object(folder / "model_index.json")
    own = index.get("_class_name")
    parts = {folder: tuple(own[:1]) if isinstance(own, list) else ()}
    for name, where in index.items():
        if isinstance(where, list) and len(where) == 2 and where[1] is not None and _is_plain(name) and name[0] != "_":
            parts[folder / name] = (str(where[0]),)
    return parts


def weights_of(folder: Path, kind: str) -> list[Path]:
    """The files that hold all weights of an artifact or of a pipeline's part: one for each variant."""
    endings = ("", *(f".{variant}" for variant in _VARIANTS))
    return _existing(folder, [f"{stem}{end}.safetensors" for stem in KINDS[kind].weights for end in endings])


def indices_of(folder: Path, kind: str) -> list[Path]:
    """The files that say which tensor lies in which file of weights: one for each variant."""
    endings = ("", *(f".{variant}" for variant in _VARIANTS))
    return _existing(
        folder, [f"{stem}.safetensors.index{end}.json" for stem in KINDS[kind].weights for end in endings]
    )


def variant_of(folder: Path, kind: str) -> str | None:
    """The variant that all weights of an artifact are of, such as "fp16": only who names it loads them. Else `None`.

    Args:
        folder: Of the artifact.
        kind: From `kind_of`.
    """
    parts = parts_of(folder, kind)
    names = [path.name for part in parts for path in (*weights_of(part, kind), *indices_of(part, kind))]
    return next((each for each in _VARIANTS if names and all(f".{each}." in name for name in names)), None)


def other_form(name: str) -> str | None:
    """The weights of a file in the other form, which a library may prefer; `None` of other files.

    transformers loads `X.safetensors` before `X.safetensors.index.json`, diffusers the other way round. Of a variant
    these are `X.fp16.safetensors` and `X.safetensors.index.fp16.json`.

    Args:
        name: Of weights in one file, or of an index.
    """
    if found := re.fullmatch(r"(.*)\.safetensors\.index(\.\w+)?\.json", name):
        return f"{found[1]}{found[2] or ''}.safetensors"
    if not name.endswith(".safetensors"):
        return None
    stem, _, end = name.removesuffix(".safetensors").rpartition(".")
    if end in _VARIANTS:
        return f"{stem}.safetensors.index.{end}.json"
    return f"{name}.index.json"


def _existing(folder: Path, names: Sequence[str]) -> list[Path]:
    return [folder / name for name in names if os.path.lexists(folder / name)]


def read_index(index: Path) -> dict[str, list[str]]:
    """Names of the files of weights that an index names, each with its tensors.

    Raises:
        ValueError: The index is damaged, or a link, a pipe or a device.
    """
    if not is_regular(index):
        raise ValueError(f"{index}: a link, a pipe or a device. Put the file itself there.")
    shards: dict[str, list[str]] = {}
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
        raise ValueError(f"{index}: names no files of weights (weight_map).")
    for tensor, name in weight_map.items():
        shards.setdefault(name, []).append(tensor)
    return shards


def shards_of(folder: Path) -> dict[str, dict[str, Any]]:
    """The shards of pre-tokenized data, by name, as `manifest.json` describes them.

    Raises:
        ValueError: The manifest is damaged.
    """
    shards = read_json(folder / "manifest.json").get("shards", [])
    entries: dict[str, dict[str, Any]] = {}
    for shard in shards if isinstance(shards, list) else [None]:
        name = shard.get("file") if isinstance(shard, dict) else None
        if not isinstance(shard, dict) or not isinstance(name, str) or not _is_plain(name) or name in entries:
            path = folder / "manifest.json"
            raise ValueError(f"{path}: its shards are not described by the names of files, one for each.")
        entries[name] = shard
    return entries


def is_regular(path: Path) -> bool:
    """Whether it is a file of its own: no link, folder, pipe or device. Those are not opened."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def code_files(folder: Path, modules: Sequence[str] = ()) -> set[Path]:
    """Python files that the folder's configurations or `modules` name, and those that they import from beside them.

    Args:
        folder: That holds configurations and code.
        modules: Further modules, which `model_index.json` names.
    """
    todo = [*modules, *(module for config in _CONFIGS for module, _ in classes_of(folder / config))]
    found: set[Path] = set()
    while todo:
        path = folder / f"{todo.pop()}.py"
        if path not in found and path.parent == folder and is_regular(path):
            found.add(path)
            todo += _IMPORT.findall(path.read_text(encoding="utf-8", errors="replace"))
    return found


def classes_of(config: Path) -> list[tuple[str, str]]:
    """Module and name of each class that a configuration names in its `auto_map`."""
    auto_map = _object(config).get("auto_map")
    named = auto_map.values() if isinstance(auto_map, dict) else ()
    names = {name for value in named for name in (value if isinstance(value, list) else [value])}
    parts = sorted(name.rpartition("--")[2].partition(".") for name in names if isinstance(name, str))
    return [(module, name) for module, _, name in parts]


def _object(path: Path) -> dict[str, Any]:
    return read_json(path) if is_regular(path) else {}


def _is_plain(name: str) -> bool:
    """Whether it is the name of something in a folder, and no path."""
    return PurePosixPath(name).name == name and name not in ("", ".", "..")


def _name(folder: Path, path: Path) -> str:
    return path.relative_to(folder).as_posix()


def _printable(name: str) -> str:
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name)


def _asked(name: str, include: Sequence[str]) -> bool:
    return any(name == asked or name.startswith(f"{asked}/") for asked in include)


def _checked_size(path: Path) -> int:
    if path.is_symlink():
        raise ValueError(f"{path}: a symbolic link. Put the file itself there.")
    if not is_regular(path):
        raise ValueError(f"{path}: a pipe, a socket or a device, and no file. Remove it.")
    status = path.lstat()
    if status.st_nlink > 1:
        raise ValueError(
            f"{path}: has {status.st_nlink} names on this disk (hard links). Put a copy of its own there."
        )
    if status.st_size > _LARGEST_FILE:
        raise ValueError(
            f"{path}: {status.st_size / 1e9:.0f} GB in one file; the Hub takes {_LARGEST_FILE / 1e9:.0f}. Save it "
            'again in shards: save_pretrained(folder, max_shard_size="5GB").'
        )
    if status.st_size and path.suffix != ".parquet":
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            # of weights the header, which says its length first
            end = 8 + int.from_bytes(content[:8], "little") if path.suffix == ".safetensors" else len(content)
            if _SECRET.search(content, 0, min(end, len(content))):
                raise ValueError(f"{path}: holds an access token or a private key. Take it out, and withdraw it.")
    return status.st_size
