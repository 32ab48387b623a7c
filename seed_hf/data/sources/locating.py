"""What a user names, and the files that it stands for."""

from __future__ import annotations

import glob
import os
import re
from pathlib import Path
from typing import NamedTuple

from seed_hf.artifacts.hub_ids import is_hub_id

from .metadata import METADATA_FILES
from .remote import is_remote


# In a folder the first ending that some file has is taken.
_SUFFIXES = {".tar": "webdataset", ".tar.gz": "webdataset", ".tgz": "webdataset", ".parquet": "parquet"}
_NUMBERS = re.compile(r"\{(\d+)\.\.(\d+)\}")


class Located(NamedTuple):
    """The files of a source.

    Args:
        format: "parquet", "webdataset" or "imagefolder".
        files: Files or URLs in the order in which they are read; for "imagefolder" one folder.
        root: The folder that names in reports and ids are relative to; empty for URLs.
        folder: The folder all of whose files are the source, if it is one.
    """

    format: str
    files: list[str]
    root: str = ""
    folder: str | None = None


def locate(source: str | os.PathLike | list[str], split: str, revision: str | None) -> Located:
    """The files that a source stands for; `source`, `split` and `revision` as for `open_source`.

    Raises:
        FileNotFoundError: There is no such file or folder.
        ValueError: The source has no format that is read, or no such split.
    """
    if isinstance(source, (list, tuple)):
        return _in_list(source, split, revision)
    name = os.fspath(source)
    if is_remote(name):
        if "*" in name:
            return _from_datasets(_format_of(name), split, data_files={split: name})
        return Located(_format_of(name), _expanded(name))
    path = Path(name)
    if path.is_dir():
        return _in_folder(path.resolve(), split)
    if path.is_file():
        return Located(_format_of(name), [str(path.resolve())], str(path.resolve().parent))
    if glob.has_magic(name) or _NUMBERS.search(name):
        files = [file for pattern in _expanded(name) for file in sorted(glob.glob(pattern, recursive=True))]
        if not files:
            raise FileNotFoundError(f"{name}: no file has such a name.")
        files = [os.path.abspath(file) for file in files]
        return Located(_format_of(files[0]), files, os.path.commonpath([os.path.dirname(file) for file in files]))
    if is_hub_id(name, owner_optional=True) and not path.suffix:
        return _from_datasets(name, split, revision=revision)
    raise FileNotFoundError(f"{name}: no such file or folder, nor a name that a Hub dataset can have.")


def _in_list(entries: list[str] | tuple[str, ...], split: str, revision: str | None) -> Located:
    if not entries:
        raise ValueError("The list of files is empty.")
    located = [locate(entry, split, revision) for entry in entries]
    formats = sorted({one.format for one in located})
    if len(formats) > 1:
        raise ValueError(f"The files of one source must be of one format, got {formats}.")
    files = [file for one in located for file in one.files]
    local = [os.path.dirname(file) for file in files if not is_remote(file)]
    return Located(formats[0], files, os.path.commonpath(local) if local else "")


def _in_folder(folder: Path, split: str) -> Located:
    place = str(folder)
    if not METADATA_FILES & {path.name for path in folder.iterdir()}:
        for suffix, source_format in _SUFFIXES.items():
            files = [file for file in sorted(folder.rglob(f"*{suffix}")) if not file.name.startswith(".")]
            files = [file for file in files if file.name not in METADATA_FILES]
            if files:
                files = [file for file in files if file.name.startswith(split)] or files
                return Located(source_format, [str(file) for file in files], place, place)
    return Located("imagefolder", [place], place, place)


def _from_datasets(path: str, split: str, **settings) -> Located:
    """The files of a Hub dataset, or of a URL with `*`. `datasets` resolves both, with the commit in each address."""
    import datasets

    name = settings.get("data_files", {}).get(split, path)
    try:
        builder = datasets.load_dataset_builder(path, **settings)
    except (datasets.exceptions.DatasetsError, FileNotFoundError, ConnectionError, ValueError) as error:
        raise ValueError(
            f"{name}: there is no such file or folder here, and the Hub gives out no such dataset ({error})."
        ) from error
    source_format = type(builder).__name__.lower()
    if source_format not in ("parquet", "webdataset"):
        raise ValueError(
            f"{path}: a Hub dataset of the format {source_format}; Parquet and WebDataset are read. Download it and "
            "give the folder."
        )
    data_files = builder.config.data_files
    if split not in data_files:
        raise ValueError(f"{path}: no split {split!r}; it has {', '.join(map(str, data_files))}.")
    return Located(source_format, [str(file) for file in data_files[split]])


def _format_of(name: str) -> str:
    for suffix, source_format in _SUFFIXES.items():
        if name.partition("?")[0].lower().endswith(suffix):
            return source_format
    raise ValueError(f"{name}: a source is a folder, a .parquet or .tar file, or a Hub dataset. This is neither.")


def _expanded(name: str) -> list[str]:
    """The names that `{00..12}` stands for, as the webdataset tools write them."""
    found = _NUMBERS.search(name)
    if not found:
        return [name]
    first, last = found.groups()
    numbers = [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
    return [more for n in numbers for more in _expanded(name[: found.start()] + n + name[found.end() :])]
