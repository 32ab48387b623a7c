"""`open_source`: images with captions from a folder, Parquet, WebDataset tars or the Hub, all read as the same rows.

A source is a list of parts, and a part is a sequence of rows that can be read from any row on. A part is a file, or a
folder of images. Nothing here decodes an image or holds more than a few rows. So a source may have any number of rows,
and damaged images are found by whoever decodes them.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import ClassVar

from .columns import ColumnChoice, Columns, holds_lists
from .fingerprint import file_stamp
from .folder_files import is_of_split, is_read, split_of
from .image_folder import image_folder_columns, image_folder_files, image_folder_rows
from .locating import locate_source
from .parquet import named_images, parquet_length, parquet_rows, parquet_schema
from .remote import is_remote
from .source_row import SourceRow, with_caption_as
from .tar_members import TarFault
from .tars import tar_columns, tar_rows
from .text import printable


_SAVED_BY_DATASETS = (
    " It holds what save_to_disk of datasets wrote: datasets.load_from_disk(FOLDER).to_parquet(FILE) makes a source "
    "of it (of a DatasetDict, each split of it)."
)
_ROWS_LOOKED_AT = 8  # to find out whether captions are lists


@dataclass
class ImageTextSource:
    """An opened source. `open_source` makes it.

    Args:
        format: "parquet", "webdataset" or "imagefolder".
        files: The parts: files or URLs, in the order in which they are read; for "imagefolder" one folder.
        root: The folder that names in reports and ids are relative to; empty for URLs.
        split: The split of a folder of images.
        choice: The columns that the caller named; the others are found by name in each part.
        folder: The folder all of whose files are the source, if it is one.
        caption_lists: Whether a row's caption is a list of texts, in all parts; otherwise it is one text.
    """

    format: str
    files: list[str]
    root: str = ""
    split: str = "train"
    choice: ColumnChoice = field(default_factory=ColumnChoice)
    folder: str | None = None
    caption_lists: bool = False
    images: ClassVar[bool] = True  # as the other sources of jobs may have none

    def __len__(self) -> int:
        """The number of parts."""
        return len(self.files)

    @property
    def captions(self) -> bool:
        """Whether the rows have captions."""
        return self.choice.captions

    @property
    def seekable(self) -> bool:
        """Whether a part can be read from any row on without reading what comes before."""
        return self.format == "parquet"

    def part_name(self, part: int) -> str:
        """A part's file, relative to the source."""
        return self._relative(self.files[part])

    def length(self, part: int) -> int | None:
        """The number of rows of a part; `None` if the part has to be read to its end to know."""
        return parquet_length(self.files[part]) if self.format == "parquet" else None

    def columns(self) -> Columns:
        """The columns that hold image, caption and id, of the first part that is sound and not empty.

        Raises:
            ValueError: There is no such part, a named column is missing, or none looks like one; the message lists
                the columns there are.
        """
        damage = None
        for part in range(len(self)):
            try:
                if columns := self._columns_of(part):
                    return columns
            except TarFault as fault:  # the others may be sound, and this one is a bad row
                damage = damage or fault
        raise damage or ValueError(f"{self.files[0]}: an empty tar, as are all of this source.")

    def _columns_of(self, part: int) -> Columns | None:
        """The columns of a part; `None` for an empty tar."""
        file = self.files[part]
        if self.format == "webdataset":
            return tar_columns(file, self.choice)
        if self.format == "parquet":
            return self.choice.find(parquet_schema(file), file)
        return image_folder_columns(file, self.split, self.choice)

    def rows(self, part: int, start: int = 0, stop: int | None = None) -> Iterator[SourceRow]:
        """Rows `start` to `stop` (exclusive; `None`: to the end) of a part, in their order.

        Raises:
            ValueError: The part's file cannot be read, or lacks the columns that are asked for.
        """
        return (with_caption_as(row, self.caption_lists) for row in self._stored(part, start, stop))

    def _stored(self, part: int, start: int, stop: int | None) -> Iterator[SourceRow]:
        file = self.files[part]
        if self.format == "parquet":
            return parquet_rows(file, self.part_name(part), self.choice, start, stop)
        if self.format == "webdataset":
            return tar_rows(file, self.part_name(part), self.choice, start, stop)
        return image_folder_rows(file, self.root, self.split, self.choice, start, stop)

    def has_splits(self) -> bool:
        """Whether the split chose what is read: by folders of images, by names of files in a folder, or on the Hub."""
        if self.format == "imagefolder":
            names = (os.path.relpath(file, self.files[0]) for file in self._read_files(0))
            return any(map(split_of, names))
        if self.folder is not None:
            return all(is_of_split(os.path.relpath(file, self.folder), self.split) for file in self.files)
        return is_remote(self.files[0])

    def has_caption_lists(self) -> bool:
        """Whether captions are lists. The first part that shows it decides: its schema, or its first rows."""
        for part in range(len(self)):
            try:
                columns = self._columns_of(part)
            except TarFault:
                continue
            name = columns and columns.caption
            if name is None:
                continue
            if self.format == "webdataset" and "json" not in name:
                return False  # a file of text; the other tars need not be opened
            if self.format == "parquet":
                lists = holds_lists(parquet_schema(self.files[part]), name)
            else:
                captions = [row.caption for row in self._stored(part, 0, _ROWS_LOOKED_AT)]
                lists = any(isinstance(caption, list) for caption in captions) if any(captions) else None
            if lists is not None:
                return lists
        return False

    def identity(self) -> dict:
        """What makes this source this source: format, columns, names and sizes of the files that are read. JSON-ready.

        The place of a local source is not part of its identity: a copy is the same source. Nor is the content of its
        files, which would take long to read; jobs compare it for each shard, see `fingerprint.py`. Manifests store
        the format as `kind`.
        """
        digest = hashlib.sha256()
        total = 0
        for name, size in self._sizes():
            digest.update(f"{name}\0{size}\n".encode())
            total += size or 0
        columns = self.columns() if self.files else Columns(None, None, None)
        return {
            "kind": self.format,
            "parts": len(self.files),
            "bytes": total,
            "files_sha256": digest.hexdigest(),
            "columns": {"image": columns.image, "caption": columns.caption, "id": columns.id},
        }

    def stamp(self, part: int) -> str | None:
        """A hash that changes as soon as a file of a part does, made without reading it; `None` if none can be."""
        return file_stamp(self._read_files(part))

    def local_files(self) -> list[Path]:
        """The files of all parts that lie on this machine."""
        files = [file for part in range(len(self)) for file in self._read_files(part)]
        return [Path(file) for file in files if not is_remote(file) and os.path.isfile(file)]

    def named_images(self) -> list[Path]:
        """The image files on this machine that rows name by path and that are no files of the parts, each once."""
        found: Iterable[str]
        if self.format == "parquet":
            columns = [self._columns_of(part) for part in range(len(self))]
            found = chain.from_iterable(named_images(file, of and of.image) for file, of in zip(self.files, columns))
        else:  # an image of an unusual ending in a folder; those of tars are always in them
            rows = (row for part in range(len(self)) if self.format == "imagefolder" for row in self.rows(part))
            found = (row.image for row in rows if isinstance(row.image, str) and not self.in_stamp(row.image))
        return [Path(image) for image in dict.fromkeys(found) if os.path.isfile(image)]

    def in_stamp(self, image) -> bool:
        """Whether a change of a row's image shows in the stamp of its part, as that of a file elsewhere does not."""
        if not isinstance(image, str):
            return True
        return self.format == "imagefolder" and is_read(os.path.relpath(image, self.files[0]))

    def _sizes(self) -> Iterator[tuple[str, int | None]]:
        for part in range(len(self)):
            for file in self._read_files(part):
                known = not is_remote(file) and os.path.exists(file)  # a link may lead nowhere
                yield self._relative(file), os.path.getsize(file) if known else None

    def _read_files(self, part: int) -> Iterator[str]:
        """The files that a part is read from."""
        file = self.files[part]
        return image_folder_files(file) if self.format == "imagefolder" else iter([file])

    def _relative(self, file: str) -> str:
        return printable(file if not self.root or is_remote(file) else os.path.relpath(file, self.root))


def open_source(
    source: str | os.PathLike | list[str],
    *,
    split: str = "train",
    image_column: str | None = None,
    caption_column: str | None = None,
    id_column: str | None = None,
    captions: bool = True,
    revision: str | None = None,
) -> ImageTextSource:
    """Find the files of a source, and check that its first part has the columns.

    Args:
        source: A folder of images (with or without `metadata.csv`, `.jsonl` or `.parquet` in the format of datasets'
            imagefolder); a Parquet file, a WebDataset tar, or a folder, glob or list of either; their URLs (`https://`,
            `s3://`, `hf://` ...; `{00..99}` stands for numbers); or the id of a dataset on the Hub in one of these
            formats.
        split: Of a Hub dataset. In a folder of Parquet files or tars, the files with a word of it in their names, or
            else in their sub-folders'; all files if no name has a word of any split, and for "train" if there is one
            split. In a folder of images, those in sub-folders that are called by it, if all are in sub-folders called
            by splits, and else all. "all" for every file in any case.
        image_column, caption_column, id_column: Names of columns, where the usual names do not fit; `json.caption` is
            the field `caption` of the column `json`. In a tar the columns are the file endings. An empty `id_column`:
            rows are named by file and number.
        captions: `False` to read images without captions.
        revision: Of a Hub dataset: branch, tag or commit.

    Raises:
        FileNotFoundError: There is no such file or folder.
        ValueError: The source has no format that is read, no such split, lacks the columns, or has columns of types
            that cannot be images, captions or ids.
    """
    choice = ColumnChoice(image_column, caption_column, id_column, captions)
    located = locate_source(source, split, revision)
    if not located.files or located.format == "imagefolder" and not any(image_folder_files(located.files[0])):
        arrow = any(True for place in located.files for _ in Path(place).rglob("*.arrow"))
        raise FileNotFoundError(f"{source}: no Parquet file, tar or image here.{_SAVED_BY_DATASETS if arrow else ''}")
    opened = ImageTextSource(located.format, located.files, located.root, split, choice, located.folder)
    opened.choice = replace(choice, expected=opened.columns())
    opened.caption_lists = captions and opened.has_caption_lists()
    return opened
