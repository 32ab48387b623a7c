"""The files of a folder: which are read, and which belong to a split."""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import cache

from .metadata import METADATA_FILES


logger = logging.getLogger(__name__)

ALL = "all"  # the split that is every file, whatever the folders are called
# As datasets has them.
SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_SPLIT_OF = {word: split for split, words in SPLITS.items() for word in words}
_WORDS = re.compile(r"[^-._ 0-9]+")
# Also images of formats that are not decoded: each is a bad row, and not a file that nobody speaks of.
_IMAGE_ENDINGS = (
    ".apng .avif .bmp .cr2 .dib .dng .emf .eps .gif .heic .heif .icns .ico .j2c .j2k .jfif .jp2 .jpe .jpeg .jpg .jpx "
    ".jxl .nef .pbm .pcx .pgm .png .pnm .ppm .psd .qoi .raw .svg .tga .tif .tiff .webp .wmf .xbm .xpm"
).split()


def is_image(name: str) -> bool:
    """Whether a file has the ending of an image."""
    return os.path.splitext(name)[1].lower() in _IMAGE_ENDINGS


def is_metadata(name: str) -> bool:
    """Whether a file describes the images beside and below it.

    Raises:
        ValueError: Its name differs from that of a metadata file in upper and lower case.
    """
    base = os.path.basename(name)
    if base.lower() in METADATA_FILES and base not in METADATA_FILES:
        raise ValueError(f"{name}: metadata files have names in lower case. Rename it to {base.lower()}.")
    return base in METADATA_FILES


def is_read(name: str) -> bool:
    """Whether a file of a folder of images is read: an image or metadata, and not hidden.

    Args:
        name: Its path, relative to the folder.
    """
    return not any(part.startswith(".") for part in name.split(os.sep)) and (is_image(name) or is_metadata(name))


def folder_files(folder: str) -> Iterator[str]:
    """The paths of all files in a folder and its sub-folders, relative to it, always in the same order.

    Hidden files and folders, whose names begin with a dot, are left out. A link to a folder is followed once, and not
    where it leads into the folder or to one that holds it.

    Args:
        folder: Its path.

    Raises:
        OSError: A folder cannot be read.
    """
    root = os.path.realpath(folder)
    followed: set[str] = set()
    for parent, folders, names in os.walk(folder, onerror=_raise, followlinks=True):
        folders[:] = sorted(name for name in folders if _is_entered(os.path.join(parent, name), root, followed))
        place = os.path.relpath(parent, folder)
        for name in sorted(names):
            if not name.startswith("."):
                yield name if place == os.curdir else os.path.join(place, name)


def split_filter(images: Iterable[str], split: str, folder: str) -> Callable[[str], bool]:
    """Which files belong to a split, by the names of the sub-folders that they are in; all where there are no splits.

    A sub-folder belongs to a split if its name has one of the words of `SPLITS`: `train`, `val2014`, `my-test`. Names
    of files mean nothing: `train.png` shows a train.

    Args:
        images: All images, as paths relative to `folder`.
        split: One of `SPLITS`, one of its words, or `ALL`.
        folder: For messages.

    Raises:
        ValueError: There are splits, but not this one, or also images of none; or it has another name.
    """
    wanted = _SPLIT_OF.get(split, split)
    if wanted not in SPLITS and wanted != ALL:
        raise ValueError(f"{folder}: a folder of images has the splits {', '.join(SPLITS)} and {ALL}, got {split!r}.")
    counts = Counter(map(split_of, images))
    only_one = wanted == "train" and len(counts) == 1  # the default; there is nothing to choose from
    if wanted == ALL or counts.keys() <= {wanted, None} or only_one:
        return lambda file: True
    if wanted not in counts or None in counts:
        found = ", ".join(f"{count} of {name or 'none'}" for name, count in counts.items())
        raise ValueError(
            f"{folder}: by the names of its sub-folders it has images of these splits: {found}. It is not "
            f"clear which are meant by {split!r}. Give one of the sub-folders, or another split; {ALL!r} is every "
            f"image (split={ALL!r}; --split {ALL})."
        )
    return lambda file: split_of(file) in (wanted, None)


def files_of_split(names: list[str], split: str, folder: str) -> list[str]:
    """The Parquet, tar or JSON Lines files of a folder that belong to a split, as [`is_of_split`] says.

    All, where no name has a word of any split, or where there is one split alone and the default, "train", is asked
    for.

    Args:
        names: Paths relative to `folder`.
        split: One of `SPLITS`, one of its words, another beginning of names, or `ALL`.
        folder: For messages.

    Raises:
        ValueError: There are files of other splits, and none of this one.
    """
    counts = Counter(map(_split_of_file, names))
    chosen = names if split == ALL else [name for name in names if is_of_split(name, split)]
    if not chosen and (not counts.keys() - {None} or split == "train" and len(counts) == 1):
        if other := next(filter(None, counts), None):
            logger.warning("%s: all its files are of the split %s; they are read as %s.", folder, other, split)
        chosen = names
    if names and not chosen:
        found = ", ".join(f"{count} of {name or 'none'}" for name, count in counts.items())
        raise ValueError(
            f"{folder}: by their names its files are of these splits: {found}. None is of {split!r}. Give the files, "
            f"or another split; {ALL!r} is every file (split={ALL!r}; --split {ALL})."
        )
    kept = set(chosen)
    if hidden := [name for name in names if name not in kept and _split_of_file(name) is None]:
        logger.warning("%s: %d files of no split are not read, the first %s.", folder, len(hidden), hidden[0])
    return chosen


def is_of_split(name: str, split: str) -> bool:
    """Whether a file belongs to a split: its name, or else a sub-folder's, has one of the words of it.

    Other splits than those of `SPLITS` are beginnings of names.

    Args:
        name: Its path, relative to the folder.
        split: "train", "val", "test_pair" ...
    """
    if split in _SPLIT_OF:
        return _split_of_file(name) == _SPLIT_OF[split]
    return os.path.basename(name).startswith(split)


def _split_of_file(name: str) -> str | None:
    return split_named_in(os.path.basename(name)) or split_of(name)


def split_of(file: str) -> str | None:
    """The split that the folders of a file name; `None` if none does."""
    return next(filter(None, map(split_named_in, file.split(os.sep)[:-1])), None)


def split_named_in(name: str) -> str | None:
    """The split of which a name has a word; `None` if there is none."""
    return next((_SPLIT_OF[word] for word in _WORDS.findall(name.lower()) if word in _SPLIT_OF), None)


def _is_entered(folder: str, root: str, followed: set[str]) -> bool:
    if os.path.basename(folder).startswith("."):
        return False
    if not os.path.islink(folder):
        return True
    target = os.path.realpath(folder)
    if target in followed or os.path.commonpath([target, root]) in (target, root):
        _tell_of_link(folder, target)
        return False
    followed.add(target)
    return True


@cache  # a folder is walked several times: for its columns, its splits, its rows
def _tell_of_link(folder: str, target: str):
    logger.warning("%s: a link to %s, where files are read already; not followed.", folder, target)


def _raise(error: OSError):
    raise error
