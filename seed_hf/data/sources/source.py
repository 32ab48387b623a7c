"""Where pictures with captions come from: a folder, Parquet, WebDataset tars, the Hub; all read as the same rows.

A source is a list of parts (files; a folder of pictures is one part), and a part is a sequence of rows that can be
read from any row on. Nothing here decodes a picture or holds more than a few rows, so that a source may have any
number of them and damaged pictures are the reader's business.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from .columns import IMAGE_NAMES, Columns, find_columns, holder_of, value_of


KINDS = ("parquet", "webdataset", "imagefolder")
_SUFFIXES = {".parquet": "parquet", ".tar": "webdataset", ".tar.gz": "webdataset", ".tgz": "webdataset"}
_HUB_ID = re.compile(r"^[\w-][\w.-]*(/[\w.-]+)?$")
_REMOTE = re.compile(r"^[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")
_ROWS_AT_ONCE = 32  # of Parquet, in memory with their pictures


@dataclass(slots=True)
class SourceRow:
    """One row as it is stored.

    Args:
        row: Its number in its part, from 0.
        id: From the id column, or else made of the file's name and the row.
        image: The encoded picture (`bytes`), its path (`str`), or `None` where the row has none.
        caption: One text, a list of texts, or `None`.
        file: The file that holds the picture.
    """

    row: int
    id: str
    image: bytes | str | None
    caption: str | list[str] | None
    file: str


@dataclass
class ImageTextSource:
    """An opened source. `open_source` makes it.

    Args:
        kind: "parquet", "webdataset" or "imagefolder".
        files: The parts: files or URLs, in the order in which they are read; for "imagefolder" one folder.
        root: The folder that names in reports and ids are relative to; empty for URLs.
        split: The split of an image folder.
        chosen: The columns that the caller named; the others are found by name in each part.
        captions: Whether the rows have captions.
        folder: The folder all of whose files are the source, if it is one.
    """

    kind: str
    files: list[str]
    root: str = ""
    split: str = "train"
    chosen: dict[str, str | None] = field(default_factory=dict)
    captions: bool = True
    folder: str | None = None

    def __len__(self) -> int:
        """The number of parts."""
        return len(self.files)

    @property
    def seekable(self) -> bool:
        """Whether a part can be read from any row on without reading what comes before."""
        return self.kind == "parquet"

    def part_name(self, part: int) -> str:
        """A part's file, relative to the source."""
        return self._relative(self.files[part])

    def length(self, part: int) -> int | None:
        """Number of rows of a part; `None` where only reading it to the end would tell."""
        if self.kind != "parquet":
            return None
        with _open(self.files[part]) as file:
            return _parquet(file, self.files[part]).metadata.num_rows

    def columns(self, part: int = 0) -> Columns:
        """The columns of a part that hold picture, caption and id.

        Raises:
            ValueError: A named column is missing, or none looks like one; the message lists the columns there are.
        """
        file = self.files[part]
        if self.kind == "parquet":
            with _open(file) as opened:
                return self._find(_parquet(opened, file).schema_arrow, file)
        if self.kind == "webdataset":
            return self._find(_tar_columns(file), file)
        return self._find(list(self._folder_rows().features), file)

    def rows(self, part: int, start: int = 0, stop: int | None = None) -> Iterator[SourceRow]:
        """Rows `start` to `stop` (exclusive; `None`: to the end) of a part, in their order.

        Raises:
            ValueError: The part's file cannot be read, or has not the columns that are asked for.
        """
        read = {"parquet": self._rows_of_parquet, "webdataset": self._rows_of_tar, "imagefolder": self._rows_of_folder}
        return read[self.kind](part, start, stop)

    def identity(self) -> dict:
        """What makes this source this source: kind, names and sizes of the files, columns. JSON-ready.

        A folder of pictures is told by the names and sizes of all its files. The place of a local source is not part
        of it: a copy is the same source.
        """
        digest = hashlib.sha256()
        total = 0
        for name, size in self._sizes():
            digest.update(f"{name}\0{size}\n".encode())
            total += size or 0
        columns = self.columns() if self.files else Columns(None, None, None)
        return {
            "kind": self.kind,
            "parts": len(self.files),
            "bytes": total,
            "files_sha256": digest.hexdigest(),
            "columns": {"image": columns.image, "caption": columns.caption, "id": columns.id},
        }

    def _sizes(self) -> Iterator[tuple[str, int | None]]:
        if self.kind != "imagefolder":
            for file in self.files:
                yield self._relative(file), None if _REMOTE.match(file) else os.path.getsize(file)
            return
        for folder, folders, names in os.walk(self.files[0]):
            folders.sort()
            for name in sorted(names):
                path = os.path.join(folder, name)
                yield self._relative(path), os.path.getsize(path)

    def _relative(self, file: str) -> str:
        return file if not self.root or _REMOTE.match(file) else os.path.relpath(file, self.root)

    def _find(self, types, file: str) -> Columns:
        return find_columns(types, file, captions=self.captions, **self.chosen)

    def _row(self, number: int, values: dict, columns: Columns, default_id: str, file: str, folder: str) -> SourceRow:
        image = values.get(columns.image)
        path = None
        if isinstance(image, dict):
            image, path = image.get("bytes"), image.get("path")
            image = path if image is None else image
        if isinstance(image, str) and folder and not _REMOTE.match(image) and not image.startswith("data:"):
            image = os.path.join(folder, image)
        caption = value_of(values, columns.caption) if columns.caption else None
        if isinstance(caption, list):
            caption = [str(text) for text in caption if text is not None and str(text).strip()]
        elif caption is not None:
            caption = str(caption)
        row_id = value_of(values, columns.id) if columns.id else None
        return SourceRow(number, default_id if row_id is None else str(row_id), image, caption, file)

    # One reader for each kind

    def _rows_of_parquet(self, part: int, start: int, stop: int | None) -> Iterator[SourceRow]:
        path = self.files[part]
        name, folder = self._relative(path), "" if _REMOTE.match(path) else os.path.dirname(os.path.abspath(path))
        with _open(path) as file:
            opened = _parquet(file, path)
            columns = self._find(opened.schema_arrow, path)
            needed = sorted({holder_of(column, opened.schema_arrow.names) for column in columns if column})
            first = 0
            for group in range(opened.num_row_groups):
                count = opened.metadata.row_group(group).num_rows
                begin, end = max(start - first, 0), count if stop is None else min(stop - first, count)
                if begin < end:
                    batches = opened.iter_batches(_ROWS_AT_ONCE, row_groups=[group], columns=needed)
                    for index, values in islice(_numbered(batches, path), begin, end):
                        number = first + index
                        yield self._row(number, values, columns, f"{name}:{number}", name, folder)
                first += count

    def _rows_of_tar(self, part: int, start: int, stop: int | None) -> Iterator[SourceRow]:
        path = self.files[part]
        present = _tar_columns(path)
        if not present:
            return
        name, columns = self._relative(path), self._find(present, path)
        samples = islice(_tar_samples(path, start), None if stop is None else stop - start)
        for number, (key, read) in enumerate(samples, start):
            here = columns
            if columns.image not in read and not self.chosen.get("image_column"):
                # Found by name, not by the caller's choice: a .png among .jpg files is as good.
                here = columns._replace(image=next((ending for ending in read if ending in IMAGE_NAMES), None))
            yield self._row(number, _decoded(read, here, path, key), here, key, f"{name}/{key}.{here.image}", "")

    def _rows_of_folder(self, part: int, start: int, stop: int | None) -> Iterator[SourceRow]:
        rows = self._folder_rows()
        columns = self._find(list(rows.features), self.files[part])
        for number, values in enumerate(islice(rows, start, stop), start):
            image = values[columns.image] or {}
            file = self._relative(image["path"]) if image.get("path") else self.part_name(part)
            yield self._row(number, values, columns, file, file, "")

    def _folder_rows(self):
        import datasets

        try:
            rows = datasets.load_dataset(
                "imagefolder", data_dir=self.files[0], split=self.split, streaming=True, drop_labels=True
            )
        except (ValueError, FileNotFoundError, datasets.exceptions.DatasetsError) as error:
            raise ValueError(f"{self.files[0]}: not a folder of pictures that can be read. {error}") from error
        return rows.decode(False)


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
    """Find out what a source is, and check that its first part has the columns.

    Args:
        source: A folder of pictures (maybe with `metadata.csv`, `.jsonl` or `.parquet`, as datasets' imagefolder reads
            it); a Parquet file, WebDataset tar, or a folder, glob or list of either; their URLs (`https://`, `s3://`,
            `hf://` ...; `{00..99}` stands for numbers); or the id of a dataset on the Hub in one of these formats.
        split: Of a Hub dataset or folder of pictures. In a folder of Parquet files or tars, those whose names begin
            with it, or else all.
        image_column, caption_column, id_column: Names, where the usual ones are not right; `json.caption` is the
            field `caption` of the column `json`. In a tar the columns are the file endings.
        captions: `False` for pictures alone.
        revision: Of a Hub dataset: branch, tag or commit.

    Raises:
        FileNotFoundError: There is no such file or folder.
        ValueError: The source is of no kind that is read, has no such split, or not the columns.
    """
    chosen = {"image_column": image_column, "caption_column": caption_column, "id_column": id_column}
    kind, files, root = _located(source, split, revision)
    opened = ImageTextSource(kind, files, root, split, chosen, captions)
    if not isinstance(source, (list, tuple)) and os.path.isdir(source):
        opened.folder = root
    if not files:
        raise FileNotFoundError(f"{source}: no Parquet file, tar or picture here.")
    opened.columns()
    return opened


def _located(source, split: str, revision: str | None) -> tuple[str, list[str], str]:
    """(kind, files, root)"""
    if isinstance(source, (list, tuple)):
        if not source:
            raise ValueError("The list of files is empty.")
        located = [_located(entry, split, revision) for entry in source]
        if len({kind for kind, _, _ in located}) > 1:
            raise ValueError(f"The files of one source must be of one kind, got {sorted({k for k, _, _ in located})}.")
        files = [file for _, found, _ in located for file in found]
        local = [os.path.dirname(file) for file in files if not _REMOTE.match(file)]
        return located[0][0], files, os.path.commonpath(local) if local else ""
    name = os.fspath(source)
    if _REMOTE.match(name):
        if "*" in name:
            return _on_hub("parquet" if _kind_of(name) == "parquet" else "webdataset", name, split, None)
        return _kind_of(name), _expanded(name), ""
    path = Path(name)
    if path.is_dir():
        return _in_folder(path.resolve(), split)
    if path.is_file():
        return _kind_of(name), [str(path.resolve())], str(path.resolve().parent)
    if glob.has_magic(name) or _BRACES.search(name):
        files = [file for pattern in _expanded(name) for file in sorted(glob.glob(pattern, recursive=True))]
        if not files:
            raise FileNotFoundError(f"{name}: no file has such a name.")
        files = [os.path.abspath(file) for file in files]
        return _kind_of(files[0]), files, os.path.commonpath([os.path.dirname(file) for file in files])
    if _HUB_ID.match(name) and not path.suffix:
        return _on_hub(name, None, split, revision)
    raise FileNotFoundError(f"{name}: no such file or folder, nor a name that a Hub dataset can have.")


def _in_folder(folder: Path, split: str) -> tuple[str, list[str], str]:
    metadata = {"metadata.csv", "metadata.jsonl", "metadata.parquet"}
    if not metadata & {path.name for path in folder.iterdir()}:
        for suffix in (".tar", ".tar.gz", ".tgz", ".parquet"):
            hidden = ("._", ".")
            files = [file for file in sorted(folder.rglob(f"*{suffix}")) if not file.name.startswith(hidden)]
            files = [file for file in files if file.name not in metadata]
            if files:
                files = [file for file in files if file.name.startswith(split)] or files
                return _SUFFIXES[suffix], [str(file) for file in files], str(folder)
    return "imagefolder", [str(folder)], str(folder)


def _on_hub(path: str, pattern: str | None, split: str, revision: str | None) -> tuple[str, list[str], str]:
    """Files of a Hub dataset, or of a remote glob: datasets resolves both, with the commit in each address."""
    import datasets

    try:
        files = {"data_files": {split: pattern}} if pattern else {"revision": revision}
        builder = datasets.load_dataset_builder(path, **files)
    except (datasets.exceptions.DatasetsError, FileNotFoundError, ConnectionError, ValueError) as error:
        raise ValueError(
            f"{pattern or path}: no such file or folder here, and no dataset that the Hub gives out ({error})."
        ) from error
    kind = type(builder).__name__.lower()
    if kind not in ("parquet", "webdataset"):
        raise ValueError(
            f"{path}: a Hub dataset of kind {kind}; read are Parquet and WebDataset. Download it and give the folder."
        )
    data_files = builder.config.data_files
    if split not in data_files:
        raise ValueError(f"{path}: no split {split!r}; it has {', '.join(map(str, data_files))}.")
    return kind, [str(file) for file in data_files[split]], ""


def _kind_of(name: str) -> str:
    for suffix, kind in _SUFFIXES.items():
        if name.partition("?")[0].lower().endswith(suffix):
            return kind
    raise ValueError(f"{name}: a source is a folder, a .parquet or .tar file, or a Hub dataset. This is neither.")


def _expanded(name: str) -> list[str]:
    """`{00..12}` to the thirteen names that it stands for, as the webdataset tools write them."""
    found = _BRACES.search(name)
    if not found:
        return [name]
    first, last = found.groups()
    numbers = [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
    return [more for n in numbers for more in _expanded(name[: found.start()] + n + name[found.end() :])]


def _open(path: str):
    if not _REMOTE.match(path):
        return open(path, "rb")
    import fsspec

    return fsspec.open(path, "rb").open()


# Parquet


def _parquet(file, path: str):
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # Without pre-buffering a row group of any size streams through a small buffer.
        return pq.ParquetFile(file, pre_buffer=False, buffer_size=1 << 20)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path}: not an intact Parquet file ({error}).") from error


def _numbered(batches, path: str) -> Iterator[tuple[int, dict]]:
    import pyarrow as pa

    index = 0
    try:
        for batch in batches:
            for values in batch.to_pylist():
                yield index, values
                index += 1
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path}: damaged after {index} rows of a row group ({error}).") from error


# Tars


def _tar_samples(path: str, start: int = 0) -> Iterator[tuple[str, dict[str, bytes]]]:
    """(key, contents by ending) of the samples from `start` on: neighbouring files whose names differ in the ending.

    datasets' own reader would do, but for one trap: it prefers a file in the working directory that happens to have
    a sample's name to the one in the tar.
    """
    import tarfile

    mode: Literal["r|*", "r:*"] = "r|*" if _REMOTE.match(path) else "r:*"
    try:
        with _open(path) as file, tarfile.open(fileobj=file, mode=mode) as tar:
            count, current = -1, ""  # every key has a letter
            sample: dict[str, bytes] = {}
            while (member := tar.next()) is not None:
                tar.members = []  # tarfile keeps the headers of all files that it has passed
                folder, _, name = member.name.rpartition("/")
                stem, dot, ending = name.partition(".")
                if not member.isfile() or not stem or not dot or name.startswith("__"):
                    continue
                key = f"{folder}/{stem}" if folder else stem
                if key != current:
                    if sample:
                        yield current, sample
                    count, current, sample = count + 1, key, {}
                if count >= start:  # what is passed over is not read
                    content = tar.extractfile(member)
                    assert content is not None  # it is a file
                    sample[ending.lower()] = content.read()
            if sample:
                yield current, sample
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path}: not an intact tar file ({error}).") from error


def _tar_columns(path: str) -> list[str]:
    """File endings of the first samples, and the fields of their JSON files."""
    names = {}
    for key, sample in islice(_tar_samples(path), 8):
        names.update(dict.fromkeys(sample))
        for ending in sample:
            if ending.endswith("json") and isinstance(
                fields := _text(sample[ending], f"{path}: {key}.{ending}"), dict
            ):
                names.update(dict.fromkeys(f"{ending}.{field}" for field in fields))
    return list(names)


def _decoded(sample: dict[str, bytes], columns: Columns, path: str, key: str) -> dict:
    """What the columns need of a sample: texts and JSON decoded, the picture as it is."""
    values: dict[str, Any] = {columns.image: sample.get(columns.image)}
    for column in (columns.caption, columns.id):
        holder = holder_of(column, sample) if column else None
        if holder in sample and holder not in values:
            values[holder] = _text(sample[holder], f"{path}: {key}.{holder}")
    return values


def _text(value: bytes, name: str):
    kind = "JSON" if name.endswith("json") else "UTF-8 text"
    try:
        text = value.decode("utf-8")
        return json.loads(text) if kind == "JSON" else text
    except ValueError as error:
        raise ValueError(f"{name}: not valid {kind}.") from error
