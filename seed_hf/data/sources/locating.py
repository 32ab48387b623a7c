"""What a user names, and the files that it stands for."""

from __future__ import annotations

import glob
import logging
import os
import re
from pathlib import Path
from typing import NamedTuple

from seed_hf.artifacts.hub_ids import is_hub_id
from seed_hf.yaml_text import check_expansion

from .folder_files import files_of_split, folder_files, is_image, is_metadata
from .remote import is_remote


logger = logging.getLogger(__name__)

_TARS = ".tar .tar.gz .tgz .tar.bz2 .tbz2 .tar.xz .txz .tar.zst .tzst"  # the reader refuses zstd by name
_JSON_LINES = ".jsonl"
_SUFFIXES = {**dict.fromkeys(_TARS.split(), "webdataset"), ".parquet": "parquet"}
_ON_THE_HUB = ("parquet", "webdataset")  # formats of a Hub dataset that hold images
_TABLES = (".csv", ".tsv", ".json", _JSON_LINES)
_LISTS_IMAGES = (
    " A list of images and captions is read as metadata.csv or metadata.jsonl, with the columns file_name and "
    "caption, in the folder that holds the images."
)
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


def locate_source(source: str | os.PathLike | list[str], split: str, revision: str | None) -> Located:
    """The files that a source stands for; `source`, `split` and `revision` as for `open_source`.

    Raises:
        FileNotFoundError: There is no such file or folder.
        ValueError: The source has no format that is read, or no such split.
    """
    if isinstance(source, (list, tuple)):
        return _in_list(source, split, revision)
    if not isinstance(source, (str, os.PathLike)):
        raise TypeError(
            f"A source is a path, a list of paths or the id of a Hub dataset, got {type(source).__name__}. A "
            "datasets.Dataset becomes one by to_parquet(FILE)."
        )
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
        files = [os.path.abspath(file) for pattern in _expanded(name) for file in _matching(pattern)]
        formats = {_format_of(file) for file in files}
        if len(formats) > 1:
            raise ValueError(f"{name}: files of several formats, {' and '.join(sorted(formats))}. Name those of one.")
        return Located(formats.pop(), files, os.path.commonpath([os.path.dirname(file) for file in files]))
    if is_hub_id(name, owner_optional=True) and not _names_a_file(name):
        return _from_datasets(name, split, revision=revision)
    raise FileNotFoundError(f"{name}: no such file or folder, nor a name that a Hub dataset can have.")


def locate_rows(source: str | os.PathLike | list[str], split: str, revision: str | None = None) -> Located:
    """The files of a source of conversations, documents or texts: as [`locate`], and JSON Lines besides.

    Args:
        source: A `.jsonl` file, a folder, glob or list of them, a Hub dataset of that format, or as for [`locate`].
        split, revision: As for `open_source`.

    Raises:
        FileNotFoundError, ValueError: As [`locate`].
    """
    if isinstance(source, (list, tuple)):
        located = [locate_rows(entry, split, revision) for entry in source]
        if [one for one in located if one.format == "jsonl"] != located or not located:
            return locate_source(source, split, revision)
        return Located("jsonl", [file for one in located for file in one.files])
    name = os.fspath(source)
    if name.partition("?")[0].lower().endswith(_JSON_LINES):
        if is_remote(name):
            return Located("jsonl", _expanded(name))
        if os.path.isfile(name):
            return Located("jsonl", [os.path.abspath(name)])
        if glob.has_magic(name) or _NUMBERS.search(name):
            return Located("jsonl", [file for one in _expanded(name) for file in _matching(one)])
        raise FileNotFoundError(f"{name}: no such file.")
    if os.path.isdir(name):
        place = str(Path(name).resolve())
        found = sorted(path.name for path in Path(name).glob("*.jsonl") if not is_metadata(path.name))
        if chosen := files_of_split(found, split, place):
            return Located("jsonl", [os.path.join(place, file) for file in chosen], place, place)
    elif is_hub_id(name, owner_optional=True) and not _names_a_file(name) and not os.path.exists(name):
        return _from_datasets(name, split, formats=(*_ON_THE_HUB, "json"), revision=revision)
    return locate_source(source, split, revision)


def _in_list(entries: list[str] | tuple[str, ...], split: str, revision: str | None) -> Located:
    if not entries:
        raise ValueError("The list of files is empty.")
    located = [locate_source(entry, split, revision) for entry in entries]
    formats = sorted({one.format for one in located})
    if len(formats) > 1:
        raise ValueError(f"The files of one source must be of one format, got {formats}.")
    files = [file for one in located for file in one.files]
    local = [os.path.dirname(file) for file in files if not is_remote(file)]
    return Located(formats[0], files, os.path.commonpath(local) if local else "")


def _in_folder(folder: Path, split: str) -> Located:
    place = str(folder)
    found: dict[str, list[str]] = {"webdataset": [], "parquet": [], "imagefolder": []}
    described = False  # by metadata at the top, as only folders of images are
    for name in folder_files(place):
        described = described or (is_metadata(name) and os.sep not in name)
        if is_image(name) or is_metadata(name):
            found["imagefolder"].append(name)
        elif source_format := _suffix_format(name):
            found[source_format].append(name)
    present = [source_format for source_format, names in found.items() if names]
    counts = ", ".join(f"{len(found[source_format])} of {source_format}" for source_format in present)
    if described or present in ([], ["imagefolder"]):
        if len(present) > 1:
            logger.warning("%s: read as a folder of images, by its metadata; it holds files %s.", place, counts)
        return Located("imagefolder", [place], place, place)
    if "imagefolder" in present:
        raise ValueError(
            f"{place}: images beside other sources (files: {counts}), and it is not clear which are meant. Give the "
            f'others by a pattern, such as "{os.path.join(place, "*.tar")}", or the sub-folder of the images.'
        )
    if len(present) > 1:  # as img2dataset writes them
        logger.warning("%s: read as tars; the Parquet files in it are not (files: %s).", place, counts)
    names = sorted(found[present[0]], key=lambda name: Path(name).parts)
    of_split = files_of_split(names, split, place)
    return Located(present[0], [os.path.join(place, name) for name in of_split], place, place)


def _matching(pattern: str) -> list[str]:
    """The files that a pattern matches. Its leading folders are meant as they are written, if they exist.

    Raises:
        FileNotFoundError: There is none.
    """
    folder, *rest = Path(pattern).parts
    while len(rest) > 1 and os.path.isdir(os.path.join(folder, rest[0])):
        folder = os.path.join(folder, rest.pop(0))
    literal = glob.escape(folder) if rest and os.path.isdir(folder) else folder
    files = sorted(glob.glob(os.path.join(literal, *rest), recursive=True))
    if not files:
        raise FileNotFoundError(f"{pattern}: no file has such a name.")
    return files


def _from_datasets(path: str, split: str, formats: tuple[str, ...] = _ON_THE_HUB, **settings) -> Located:
    """The files of a Hub dataset, or of a URL with `*`. `datasets` resolves both, with the commit in each address."""
    import datasets

    name = settings.get("data_files", {}).get(split, path)
    _check_card(path, settings.get("revision"), settings.get("token"))
    try:
        builder = datasets.load_dataset_builder(path, **settings)
    except (datasets.exceptions.DatasetsError, FileNotFoundError, ConnectionError, ValueError) as error:
        raise ValueError(
            f"{name}: there is no such file or folder here, and the Hub gives out no such dataset ({error})."
        ) from error
    # The class of a repository with a card is one of its own, made of that of the format.
    names = [found.__name__.lower() for found in type(builder).__mro__]
    source_format = next((found for found in names if found in formats), names[0])
    if source_format not in formats:
        raise ValueError(
            f"{path}: a Hub dataset of the format {source_format}; Parquet and WebDataset are read. Download it and "
            "give the folder."
        )
    data_files = builder.config.data_files
    if split not in data_files:
        raise ValueError(f"{path}: no split {split!r}; it has {', '.join(map(str, data_files))}.")
    source_format = "jsonl" if source_format == "json" else source_format
    return Located(source_format, [str(file) for file in data_files[split]])


def _check_card(repository: str, revision: str | None, token: str | bool | None) -> None:
    """Refuse a data set on the Hub whose card holds YAML that grows without end: `datasets` would read it all."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    if "/" not in repository:
        return  # a reader of `datasets`, for files behind addresses
    try:
        path = hf_hub_download(repository, "README.md", repo_type="dataset", revision=revision, token=token)
    except (HfHubHTTPError, OSError, ValueError):
        return  # no card, or no repository: `datasets` says which
    text = Path(path).read_text(encoding="utf-8", errors="replace")
    _, _, after = text.partition("---")
    block, _, _ = after.partition("\n---")
    try:
        check_expansion(block)
    except ValueError as error:
        raise ValueError(f"{repository}: README.md of this data set: {error}") from error


def _format_of(name: str) -> str:
    if source_format := _suffix_format(name.partition("?")[0] if is_remote(name) else name):
        return source_format
    advice = _LISTS_IMAGES if name.lower().endswith(_TABLES) else ""
    raise ValueError(
        f"{name}: a source is a folder, a .parquet or .tar file, or a Hub dataset. This is neither.{advice}"
    )


def _names_a_file(name: str) -> bool:
    """Whether a name has an ending of files that are read: then it is no data set, whose name may have dots."""
    return _suffix_format(name) is not None or name.lower().endswith(_JSON_LINES) or is_image(name)


def _suffix_format(name: str) -> str | None:
    return next((found for suffix, found in _SUFFIXES.items() if name.lower().endswith(suffix)), None)


def _expanded(name: str) -> list[str]:
    """The names that `{00..12}` stands for, as the webdataset tools write them."""
    found = _NUMBERS.search(name)
    if not found:
        return [name]
    first, last = found.groups()
    if int(first) > int(last):
        raise ValueError(f"{name}: {found[0]} stands for no number; the smaller one comes first.")
    numbers = [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
    return [more for n in numbers for more in _expanded(name[: found.start()] + n + name[found.end() :])]
