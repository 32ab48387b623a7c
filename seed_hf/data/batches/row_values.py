"""What the collators take from a row. What cannot be read is an error that names the row."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from PIL import Image

from seed_hf.data.sources.checked_table import ROW
from seed_hf.data.sources.filters import RowFilters
from seed_hf.data.sources.row_checks import read_image
from seed_hf.data.sources.source_row import image_of
from seed_hf.data.sources.text import caption_of, printable


@contextmanager
def naming_the_row(rows: Sequence[Mapping[str, Any]], place: int) -> Iterator[None]:
    """Put the name of a row in front of errors about what it holds.

    Args:
        rows: The rows of a batch.
        place: Which of them.
    """
    try:
        yield
    except (ValueError, TypeError) as error:  # not OSError: a shortage of the machine is no fault of a row
        raise ValueError(f"{row_name(rows[place], place)}: {printable(str(error))}") from error


def row_name(row: Mapping[str, Any], place: int) -> str:
    """What messages call a row: its file and number, or its id, or its place in the batch.

    Args:
        row: The row.
        place: Its place in the batch, from 0.
    """
    if row.get(ROW) is not None:
        return str(row[ROW])
    return f"row {place} of a batch" if row.get("id") is None else printable(f"the row with the id {row['id']}")


def row_names(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """The key `row_ids` of a batch, by which messages about a loss name its rows; nothing if they have no names.

    Args:
        rows: The rows of the batch.
    """
    names = [row.get("id") if row.get(ROW) is None else row[ROW] for row in rows]
    if all(name is None for name in names):
        return {}
    return {"row_ids": [f"row {i} of the batch" if name is None else str(name) for i, name in enumerate(names)]}


def captions_of(row: Mapping[str, Any]) -> list[str]:
    """The captions of a row, from `captions` or else from `caption`; none are blank if there are several.

    Args:
        row: The row.

    Raises:
        ValueError: It has none, or something else than text.
    """
    value = row.get("captions")
    name = "caption" if value is None else "captions"
    captions = caption_of(row.get("caption") if value is None else value, name)
    if not captions and captions != "":
        raise ValueError(f"{name} is missing or empty. Leave out the row, or give it a caption.")
    return [captions] if isinstance(captions, str) else captions


def decoded_image(value: Any) -> Any:
    """An image that the image processor takes, its pixels read.

    Args:
        value: An encoded image, as bytes or as a mapping of `bytes` and `path`; anything else is given back.

    Raises:
        ValueError: It is missing, damaged, too large, or not an image.
    """
    if value is None or isinstance(value, (bytes, bytearray, Mapping)):
        return read_image(image_of(value, "image"), RowFilters())
    if isinstance(value, Image.Image):
        try:
            value.load()
        except Exception as error:  # Pillow's decoders may raise anything
            raise ValueError(f"image: damaged or cut off ({error}). Fetch or export the image again.") from error
    return value
