"""The rows that a stage trains on: Parquet held in memory, or any source as a stream."""

import os
from collections.abc import Mapping
from pathlib import Path

from .checked_table import checked_table
from .columns import check_type, column_of, column_types, holds_lists, plain_type, values_in
from .filters import RowFilters
from .folder_files import ALL
from .image_text import image_text_dataset
from .locating import locate_source
from .parquet import parquet_schema
from .source_row import image_of


def open_rows(
    path: str,
    split: str,
    columns: Mapping[str, str] | None = None,
    *,
    caption_column: str = "caption",
    filters: RowFilters | None = None,
    on_error: str = "raise",
):
    """A `datasets.Dataset` over Parquet files, held in memory; nothing is copied to the user's cache folder.

    Images stay encoded: [`ImageTextCollator`] decodes them. Relative paths of images start from the folder of their
    Parquet file. The column `checked_table.ROW` names each row.

    Args:
        path: A Parquet file, or a folder: its Parquet files of that split, by words in their names or sub-folders; all
            where no name has a word of any split, and for "train" where there is one split.
        split: Which files of a folder to read; also names the setting in messages.
        columns: The columns to read, and their new names; by default all columns. `caption.en` is the field `en` of
            the column `caption`.
        caption_column: The column of captions, by its new name. It becomes `caption` (one text) or `captions` (lists).
        filters: Rows to leave out. By default those without a caption, and those without codes and text.
        on_error: What to do about a row that cannot be read: "raise" or "skip". To skip, every image is decoded once.

    Raises:
        FileNotFoundError: There is no Parquet file.
        ValueError: A column is missing or has another type, or no row is left; `SeedImageError` for a bad row.
    """
    import pyarrow as pa
    from datasets import Dataset, DatasetInfo, Image

    files = parquet_files(path, split)
    where = f"data.{split}: {files[0]}"
    schema = parquet_schema(str(files[0]))
    present = column_types(schema)
    if missing := sorted(set(columns or ()) - set(present)):
        raise ValueError(
            f"{where} has no column {', '.join(missing)}; it has {', '.join(present)}. Name the right one "
            "(data.image_column, data.caption_column)."
        )
    try:
        tables = [_read(file, columns) for file in files]
        table = pa.concat_tables(tables)
    except (pa.ArrowInvalid, KeyError, OSError) as error:
        if getattr(error, "errno", None) is not None:
            raise  # the system's, not the file's
        raise ValueError(f"{where}: damaged, or with other columns than the files beside it ({error}).") from error
    if "codes" in table.column_names or "text" not in table.column_names:
        table = _with_caption(table, caption_column, where)
    counts = [(file.name, len(part)) for file, part in zip(files, tables)]
    table, kept = checked_table(table, counts, where, filters=filters or RowFilters(), on_error=on_error)
    rows = Dataset(table, info=DatasetInfo(features=_features(table.schema, where)))
    if isinstance(rows.features.get("image"), Image) or columns is not None and "image" in rows.column_names:
        rows = rows.cast_column("image", Image(decode=False))
    return rows if len(kept) == len(rows) else rows.select(kept)


def parquet_files(path: str, split: str) -> list[Path]:
    """The files that [`open_rows`] reads.

    Args:
        path, split: As for [`open_rows`].

    Raises:
        FileNotFoundError: There is no Parquet file.
    """
    if not holds_parquet(path):
        if not os.path.exists(path):
            raise FileNotFoundError(f"data.{split}: {path}: no such file or folder.")
        raise FileNotFoundError(
            f"data.{split}: {path} is not a Parquet file, nor a folder with Parquet files. Stages I and II read other "
            "sources with data.streaming: true."
        )
    source = Path(path)
    return [source] if source.is_file() else [Path(file) for file in locate_source(source, split, None).files]


def holds_parquet(path: str) -> bool:
    """Whether this is a Parquet file, judged by its first bytes, or a folder that `open_source` reads as Parquet.

    Args:
        path: Of the file or folder.

    Raises:
        ValueError: The folder also holds images.
    """
    source = Path(path)
    if not source.is_file():
        return source.is_dir() and locate_source(source, ALL, None).format == "parquet"
    with open(source, "rb") as file:
        return file.read(4) == b"PAR1"


def _read(file: Path, columns: Mapping[str, str] | None):
    """The table of a file: the columns by their new names, of plain types, and with full paths of images."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if columns is None:
        table = pq.read_table(file)
    else:
        names = parquet_schema(str(file)).names
        table = pq.read_table(file, columns=sorted({column_of(name, names) for name in columns}))
        table = pa.table({new: values_in(table, old) for old, new in columns.items()})
    for number, field in enumerate(table.schema):
        if (plain := plain_type(field.type)) != field.type:
            table = table.set_column(number, field.name, table[number].cast(plain))
    if "image" in table.column_names:
        images = _with_full_paths(table["image"], os.path.dirname(os.path.abspath(file)))
        table = table.set_column(table.column_names.index("image"), "image", images)
    return table


def _with_full_paths(images, folder: str):
    """The column of images, relative paths of images that it does not hold joined with a folder."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_struct(images.type):
        return _joined(images, folder) if pa.types.is_string(images.type) else images
    kinds = {field.name: field.type for field in images.type}
    if not pa.types.is_string(kinds.get("path", pa.null())):
        return images
    paths = pc.struct_field(images, "path")
    if "bytes" not in kinds:
        return pc.make_struct(_joined(paths, folder), field_names=["path"])
    stored = pc.struct_field(images, "bytes")
    paths = pc.if_else(pc.is_valid(stored), paths, _joined(paths, folder))  # with bytes it is only a name
    return pc.make_struct(stored, paths, field_names=["bytes", "path"])


def _joined(paths, folder: str):
    import pyarrow as pa

    # by way of bytes, as Arrow's text may be no UTF-8
    texts = [path and path.decode(errors="surrogateescape") for path in paths.cast(pa.binary()).to_pylist()]
    full = [image_of(text, "image", folder) for text in texts]
    stored = [path.encode(errors="surrogateescape") if isinstance(path, str) else None for path in full]
    return pa.chunked_array([pa.array(stored, pa.binary()).view(pa.string())])


def _features(schema, where: str):
    """What `datasets` makes of a schema. The message about a type that it does not have names the column."""
    import pyarrow as pa
    from datasets import Features

    try:
        return Features.from_arrow_schema(schema)
    except (ValueError, NotImplementedError) as error:
        for field in schema:
            try:
                Features.from_arrow_schema(pa.schema([field]))
            except (ValueError, NotImplementedError):
                raise ValueError(
                    f"{where}: the column {field.name!r} holds {field.type}, which `datasets` does not read. Leave it "
                    "out, or convert it."
                ) from error
        raise


def _with_caption(table, column: str, where: str):
    """Rename `column` to what the collators read: `caption` for one text, `captions` for a list of texts."""
    present = column_types(table.schema)
    if column == "caption" and column not in present:
        column = "captions"
    if column not in present:
        if column == "captions":
            return table
        raise ValueError(
            f"{where} has no column {column!r}; it has {', '.join(present)}. Name that of the captions "
            "(data.caption_column)."
        )
    check_type("caption", column, present[column], where)
    name = "captions" if holds_lists(table.schema, column) else "caption"
    if name == column:
        return table
    values = values_in(table, column)
    table = table.drop_columns([old for old in table.column_names if old in (name, column)])
    return table.append_column(name, values)


def stream_rows(
    source: str | list[str],
    split: str,
    *,
    captions: bool,
    seed: int,
    shuffle_buffer: int = 1000,
    min_side: int = 0,
    max_aspect: float | None = None,
    on_error: str = "raise",
    image_column: str | None = None,
    caption_column: str | None = None,
):
    """A `datasets.IterableDataset` of images from any source that `image_text_dataset` opens.

    Args:
        source: As for `open_source`.
        split: "train", which is shuffled, or "validation".
        captions: Whether the rows need captions.
        seed: Of the shuffling.
        shuffle_buffer: Rows held in memory to shuffle within; 0 for no shuffling.
        min_side, max_aspect: As for `RowFilters`.
        on_error: What to do about a missing or damaged image: "raise" or "skip".
        image_column, caption_column: As for `open_source`.
    """
    rows = image_text_dataset(
        source,
        filters=RowFilters(min_side=min_side, max_aspect=max_aspect, empty_captions=not captions),
        on_error=on_error,
        split=split,
        image_column=image_column,
        caption_column=caption_column,
        captions=captions,
    )
    return rows.shuffle(seed=seed, buffer_size=shuffle_buffer) if split == "train" and shuffle_buffer else rows
