"""Rows that are named one by one: image files, or the texts of a file. Jobs read them as they read a source.

Each class has what jobs use of [`ImageTextSource`], and one part.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from .columns import ID_NAMES, IMAGE_NAMES, Columns
from .fingerprint import file_stamp
from .folder_files import is_image
from .metadata import metadata_columns, metadata_rows
from .source import ImageTextSource
from .source_row import Rejection, SourceRow, bad_source_row, source_row
from .text import BadText, printable, read_text


TABLES = (".jsonl", ".csv", ".parquet")
# Formats whose lines are no texts.
_OTHERS = tuple(
    ".json .tsv .xls .xlsx .ods .yaml .yml .xml .html .arrow .feather .npy .pkl .pickle .pdf .docx .tar .zip .gz .bz2 "
    ".xz .zst".split()
)
_UNWRITTEN = re.compile("[\x00-\x08\x0e-\x1f\x7f]")  # control characters, which files that are no text have
TEXT_NAMES = {
    "prompt": ("prompt", "caption", "text"),
    "question": ("question", "text"),
}


class NamedImages:
    """Image files in the order in which they are named; a row's id is its name.

    Args:
        files: Paths, as a person wrote them.
    """

    images, captions, caption_lists, folder, seekable = True, False, False, None, True

    def __init__(self, files: Sequence[str]):
        self.files = list(files)

    def __len__(self) -> int:
        return 1

    def part_name(self, part: int) -> str:
        """What reports call the part."""
        return "the named images"

    def length(self, part: int) -> int:
        """The number of images."""
        return len(self.files)

    def rows(self, part: int, start: int = 0, stop: int | None = None) -> Iterator[SourceRow]:
        """Rows `start` to `stop` (exclusive; `None`: to the end)."""
        for number, file in islice(enumerate(self.files), start, stop):
            yield SourceRow(number, printable(file), os.path.abspath(file), None, printable(file))

    def identity(self) -> dict[str, Any]:
        """What makes these images these: their names and sizes. JSON-ready."""
        sizes = [os.path.getsize(file) if os.path.exists(file) else None for file in self.files]
        return _identity("files", zip(self.files, sizes))

    def stamp(self, part: int) -> str | None:
        """A hash that changes as soon as one of the files does, made without reading it."""
        return file_stamp(file for file in self.files if os.path.lexists(file))

    def in_stamp(self, image: Any) -> bool:
        """Whether a change of an image shows in the stamp: always."""
        return True


class FileOfTexts:
    """The rows of a file of prompts, or of questions about images.

    Args:
        path: A text file with one text in each line, or `.jsonl`, `.csv` or `.parquet` with columns.
        what: "prompt" or "question": the column, which may also be called by one of `TEXT_NAMES`.
        column: Its name, if it has another.
        image: The image that all rows are about. By default each row has its own, as a column with a path from the
            file's folder, or with the encoded image.
        with_images: Whether the rows have images.
        fault: Why a text cannot be used; `None` if it can.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file has no such columns, or cannot be read.
    """

    captions, caption_lists, folder, seekable = True, False, None, False

    def __init__(
        self,
        path: str,
        what: str,
        *,
        column: str | None = None,
        image: str | None = None,
        with_images: bool = False,
        fault: Callable[[str], str | None] = lambda text: None,
    ):
        self.path, self.what, self.image, self.images, self._fault = path, what, image, with_images, fault
        if not os.path.isfile(path):
            missing = "not a file that can be read twice" if os.path.exists(path) else "no such file"
            raise FileNotFoundError(
                f"{path}: {missing}. It has a {what} in each line, or is one of {_listed(TABLES)}."
            )
        if path.lower().endswith(_OTHERS) or is_image(path):
            raise ValueError(
                f"{path}: not a file of {what}s. It has a {what} in each line, or is one of {_listed(TABLES)}."
            )
        self._is_table = path.lower().endswith(TABLES)
        self.columns = Columns(None, what, None)
        if self._is_table:
            self.columns = self._found(metadata_columns(path), column)
        elif column is not None:
            raise ValueError(f"{path}: a text file has no columns; {column!r} is one of {_listed(TABLES)}.")
        elif with_images and image is None:
            raise ValueError(
                f"{path}: a text file says nothing of images. Name the image that the questions are about, or give "
                f"{_listed(TABLES)} with a column of images."
            )

    def __len__(self) -> int:
        return 1

    def part_name(self, part: int) -> str:
        """What reports call the part: the file's name."""
        return printable(os.path.basename(self.path))

    def length(self, part: int) -> None:
        """Not known before the file has been read."""
        return None

    def rows(self, part: int, start: int = 0, stop: int | None = None) -> Iterator[SourceRow]:
        """Rows `start` to `stop` (exclusive; `None`: to the end). Their captions are the texts."""
        name, folder = self.part_name(part), os.path.dirname(os.path.abspath(self.path))
        for number, values in islice(enumerate(self._values()), start, stop):
            row_id = f"{name}:{number}"
            if isinstance(values, BadText):
                yield bad_source_row(number, values, row_id, name)
                continue
            row = source_row(number, values, self.columns, default_id=row_id, file=name, folder=folder)
            if row.rejection is None:
                row.rejection = self._rejection(row)
            if self.image is not None:
                row.image = os.path.abspath(self.image)
            yield row

    def identity(self) -> dict[str, Any]:
        """What makes this file this file: its name, size and columns, and the image. JSON-ready."""
        files: list[tuple[str, int | None]] = [(os.path.basename(self.path), os.path.getsize(self.path))]
        if self.image is not None:
            files.append((self.image, os.path.getsize(self.image) if os.path.exists(self.image) else None))
        return {**_identity("texts", files), "columns": self.columns._asdict()}

    def stamp(self, part: int) -> str | None:
        """A hash that changes as soon as the file does, made without reading it."""
        return file_stamp([self.path])

    def in_stamp(self, image: Any) -> bool:
        """Whether a change of a row's image shows in the stamp, as that of a file elsewhere does not."""
        return not isinstance(image, str)

    def _values(self) -> Iterator[Mapping[str, Any] | BadText]:
        if self._is_table:
            yield from metadata_rows(self.path)
            return
        with open(self.path, "rb") as file:
            for line in (part for ended in file for part in ended.split(b"\r")):
                if line.strip():
                    yield self._of_line(line.strip())

    def _of_line(self, line: bytes) -> Mapping[str, Any] | BadText:
        text = read_text(line, self.what)
        if isinstance(text, str) and _UNWRITTEN.search(text):
            return BadText(f"{self.what}: control characters, which no line of text has")
        return text if isinstance(text, BadText) else {self.what: text}

    def _rejection(self, row: SourceRow) -> Rejection | None:
        if not isinstance(row.caption, str) or not row.caption.strip():
            several = isinstance(row.caption, list)
            return Rejection(True, f"{'several texts' if several else 'no text'} in the place of a {self.what}")
        reason = self._fault(row.caption)
        return Rejection(True, reason) if reason else None

    def _found(self, present: Any, column: str | None) -> Columns:
        names = list(getattr(present, "names", present))
        usual = {"text": (column,) if column else TEXT_NAMES[self.what], "id": ID_NAMES}
        usual["image"] = ("file_name", *IMAGE_NAMES) if self.images and self.image is None else ()
        text, row_id, image = (
            next((name for name in usual[key] if name in names), None) for key in ("text", "id", "image")
        )
        if text is None:
            raise ValueError(f"{self.path}: no column {_listed(usual['text'])}; it has {_listed(names)}.")
        if usual["image"] and image is None:
            raise ValueError(
                f"{self.path}: none of its columns looks like an image: {_listed(names)}. Call it image or file_name, "
                "or name one image that all questions are about."
            )
        return Columns(image, text, row_id)


JobSource = ImageTextSource | NamedImages | FileOfTexts


def _identity(kind: str, files) -> dict[str, Any]:
    digest, total = hashlib.sha256(), 0
    for name, size in files:
        digest.update(f"{name}\0{size}\n".encode(errors="surrogateescape"))
        total += size or 0
    return {"kind": kind, "parts": 1, "bytes": total, "files_sha256": digest.hexdigest()}


def _listed(names: Sequence[str]) -> str:
    return printable(", ".join(names)) or "none"
