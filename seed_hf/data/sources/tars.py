"""Rows of WebDataset tars: neighbouring files whose names differ only in the ending are one row, a sample.

The ending is all that follows the first dot of a file's name, in lower case. The key, which all files of a sample
share, is what comes before it, with the folders. Folders, names without an ending, and names that begin with `.` or
`__` are no part of a sample.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from .columns import IMAGE_ENDINGS, IMAGE_NAMES, ColumnChoice, Columns, column_of
from .source_row import SourceRow, bad_source_row, source_row
from .tar_members import TarFault, open_tar
from .text import BadText, printable, read_text


logger = logging.getLogger(__name__)

_SAMPLES_LOOKED_AT = 8  # to find the columns
_MAX_TEXT = 1 << 24  # bytes of a file with captions or ids

_ADVICE = (
    "The files of a sample follow each other in a WebDataset tar, and differ only in what comes after the first dot: "
    "001.png, 001.txt, 002.png, 002.txt. Sort the archive by name (tar --sort=name), and use no other dots."
)

# Contents by ending: bytes, a `BadText` where there is none that can be read, `None` where it was passed over.
TarSample = dict[str, bytes | BadText | None]


def tar_columns(path: str, choice: ColumnChoice) -> Columns | None:
    """The columns of a tar (file endings, and fields of JSON files) by its first samples; `None` if it is empty.

    Args:
        path: The file or its URL.
        choice: Which columns to look for.

    Raises:
        TarFault: The archive is damaged before the end of its first sample.
        ValueError: It lacks the columns, or no sample has an image and a caption.
    """
    names: dict[str, None] = {}
    samples: list[tuple[str, TarSample]] = []
    damage = None
    try:
        for key, sample in _samples(path, lambda ending: ending.endswith("json")):
            fields = _json_fields(sample)
            names.update(dict.fromkeys((*sample, *(fields or ()))))
            if fields is not None:  # a bad row shows nothing
                samples.append((key, sample))
            if len(samples) == _SAMPLES_LOOKED_AT:
                break
    except TarFault as fault:
        damage = TarFault(f"{path}: {fault}.")
    if not names and damage is None:
        return None
    if not samples:  # all JSON is bad, and so is every row: no matter which field is read
        fields = [choice.caption or "json.caption", choice.id or "json.id"]
        names.update(dict.fromkeys(field for field in fields if field.rpartition(".")[0] in names))
    try:
        columns = choice.find(list(names), path)
        _check_samples(samples, columns, choice, path)
    except ValueError as error:
        raise damage or ValueError(f"{error} {_ADVICE}") from None
    return columns


def tar_rows(path: str, name: str, choice: ColumnChoice, start: int, stop: int | None) -> Iterator[SourceRow]:
    """Rows `start` to `stop` (exclusive; `None`: to the end) of a tar. Damage of the archive is one bad row, the last.

    Args:
        path: The file or its URL.
        name: The file's name in reports.
        choice: Which columns, that is file endings, to read.
        start, stop: The range of rows. What comes before `start` is passed over without being read.

    Raises:
        ValueError: The archive lacks the columns.
        OSError: It cannot be opened or read.
    """
    number = 0  # of the next row
    try:
        columns = tar_columns(path, choice)
        if columns is None:
            return
        number = start
        samples = _samples(path, _needed(columns, choice), start)
        for key, sample in islice(samples, None if stop is None else stop - start):
            yield _row(number, key, sample, columns, choice, name)
            number += 1
    except TarFault as fault:
        if start <= number and (stop is None or number < stop):
            reason = f"{str(fault).removeprefix(f'{path}: ').removesuffix('.')}; nothing after it is read"
            logger.warning("%s: %s.", printable(path), printable(reason))
            yield bad_source_row(number, BadText(reason), name, name)


def tar_values(path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Key and contents by ending of each sample of a tar: text, parsed JSON, and images as they are.

    Args:
        path: The file or its URL.

    Raises:
        ValueError: The archive is damaged.
    """
    for key, sample in _samples(path, lambda ending: is_image_ending(ending) or ending.endswith(("json", "txt"))):
        yield (
            key,
            {
                ending: read_text(content, ending)
                if isinstance(content, bytes) and not is_image_ending(ending)
                else content
                for ending, content in sample.items()
            },
        )


def _samples(path: str, needed: Callable[[str], bool], start: int = 0) -> Iterator[tuple[str, TarSample]]:
    """(key, contents by ending) of the samples from `start` on; only the `needed` endings are read.

    This is not datasets' own reader, because that one has traps: it takes damage for the end of the archive, and if
    the working directory holds a file with the name of a sample's file, it reads that instead of the one in the tar.
    """
    count, current = -1, ""  # no key is empty
    sample: TarSample = {}
    without_ending = ""
    try:
        with open_tar(path) as tar:
            for member in tar:
                folder, slash, name = member.name.rpartition("/")
                stem, dot, ending = name.partition(".")
                if not stem or name.startswith("__"):
                    continue
                if not dot:
                    without_ending = without_ending or member.name
                    continue
                key, ending = folder + slash + stem, ending.lower()
                if key != current:
                    if sample and count >= start:
                        yield current, sample
                    count, current, sample = count + 1, key, {}
                if ending in sample:
                    sample[ending] = BadText(f"several files with one ending ({ending}, in upper or lower case)")
                elif member.refused:
                    sample[ending] = BadText(f"{member.refused} ({ending})")
                elif member.size > _MAX_TEXT and not is_image_ending(ending):
                    sample[ending] = BadText(f"more than {_MAX_TEXT} bytes of text ({ending})")
                else:
                    sample[ending] = tar.content() if count >= start and needed(ending) else None
    except TarFault:
        if start > max(0, count + bool(sample)):
            return  # the rows that are asked for begin after the damage
        if sample and count >= start:
            yield current, sample
        raise
    if sample and count >= start:
        yield current, sample
    if without_ending:
        logger.warning(
            "%s: files without an ending are not read, the first %s.", printable(path), printable(without_ending)
        )


def _check_samples(samples: list[tuple[str, TarSample]], columns: Columns, choice: ColumnChoice, path: str) -> None:
    """Raise `ValueError` if no sample has an image or, where captions are read, an image and a caption."""
    images = [_image_ending(sample, choice) for _, sample in samples]
    if images and all(isinstance(image, BadText) for image in images):
        raise ValueError(f"{path}, sample {printable(samples[0][0])}: {images[0]}.")
    caption = columns.caption
    if (
        caption
        and images
        and not any(
            image in sample and column_of(caption, sample) in sample for (_, sample), image in zip(samples, images)
        )
    ):
        raise ValueError(f"{path}: none of its first samples has both an image and a caption ({caption}).")


def _row(number: int, key: str, sample: TarSample, columns: Columns, choice: ColumnChoice, name: str) -> SourceRow:
    """The row that a sample makes: texts and JSON decoded, the image as it is."""
    values: dict[str, Any] = {}
    for column in (columns.caption, columns.id):
        ending = column_of(column, sample) if column else None
        if ending in sample:
            content = sample[ending]
            values[ending] = read_text(content, ending) if isinstance(content, bytes) else content
    file, image = f"{name}/{key}", _image_ending(sample, choice)
    if isinstance(image, BadText):
        values[str(columns.image)] = image
    else:
        columns, file, values[image] = columns._replace(image=image), f"{file}.{image}", sample[image]
    return source_row(number, values, columns, default_id=key, file=file)


def _needed(columns: Columns, choice: ColumnChoice) -> Callable[[str], bool]:
    """Whether the content of an ending is read: it is the image's, the caption's or the id's."""
    texts = [name for name in (columns.caption, columns.id) if name]
    names = {*texts, *(name.rpartition(".")[0] for name in texts)}
    if choice.image is not None:
        names.add(choice.image)
        return names.__contains__
    return lambda ending: ending in names or is_image_ending(ending)


def _json_fields(sample: TarSample) -> list[str] | None:
    """The names of the fields of a sample's JSON files; `None` if one cannot be read."""
    names = []
    for ending, content in sample.items():
        if ending.endswith("json") and isinstance(content, bytes):
            fields = read_text(content, ending)
            if isinstance(fields, BadText):
                return None
            names += [f"{ending}.{field}" for field in fields] if isinstance(fields, dict) else []
    return names


def is_image_ending(ending: str) -> bool:
    """Whether a file of a sample is an image, by what follows the first dot of its name."""
    return ending in IMAGE_NAMES or ending.rpartition(".")[2] in IMAGE_ENDINGS


def _image_ending(sample: TarSample, choice: ColumnChoice) -> str | BadText:
    """The ending of a sample's image, or why it cannot be told."""
    has = ", ".join(sample)
    if choice.image is not None:
        if choice.image in sample:
            return choice.image
        return BadText(f"no file of the sample has the ending that is read ({choice.image}; it has {has})")
    images = [ending for ending in sample if is_image_ending(ending)]
    if len(images) == 1 and images[0] in IMAGE_NAMES:
        return images[0]
    if not images:
        return BadText(f"no image among the files of the sample ({has})")
    if len(images) == 1:
        return BadText(f"its image has more than an ending after the first dot of its name ({images[0]})")
    return BadText(f"several images in one sample ({', '.join(images)}); name the ending to read: image_column")
