"""Whether a row is used: the one place where rows are dropped by a filter or judged bad, and an account of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from PIL import Image

from seed_hf.images import SeedImageError, load_image, open_image
from seed_hf.shortages import check_shortage

from .filters import RowDropped, RowFilters
from .source_row import Rejection, SourceRow
from .text import printable


ON_ERROR = ("raise", "skip")


def check_on_error(on_error: str) -> None:
    """Raise `ValueError` unless this is a way to treat bad rows."""
    if on_error not in ON_ERROR:
        raise ValueError(f"on_error must be one of {', '.join(ON_ERROR)}, got {on_error!r}.")


def judge_caption(row: SourceRow, filters: RowFilters, captions: bool) -> Rejection | None:
    """Why a row is not used because of what is stored for it; `None` if its image may be decoded.

    Args:
        row: The row as it was read.
        filters: What captions to leave out.
        captions: Whether the source has any.
    """
    if row.rejection is not None:
        return row.rejection
    try:
        if captions:
            filters.check_caption(row.caption)
    except RowDropped as dropped:
        return Rejection(False, str(dropped))
    return None


def judge_image(image: bytes | str | Rejection | None, filters: RowFilters) -> Image.Image | Rejection:
    """The decoded image as `read_image` gives it, or why its row is not used. A `Rejection` is given back."""
    if isinstance(image, Rejection):
        return image
    try:
        return read_image(image, filters)
    except RowDropped as dropped:
        return Rejection(False, str(dropped))
    except SeedImageError as error:
        return Rejection(True, str(error).partition(": ")[2] or str(error))  # reports have a field for the name


def read_image(image: bytes | str | None, filters: RowFilters) -> Image.Image:
    """Decode one image; its size is checked before its pixels are read.

    Args:
        image: Encoded image or path.
        filters: What sizes to leave out.

    Returns:
        An upright RGB image, transparency on white.

    Raises:
        RowDropped: It is too small or too long.
        SeedImageError: It is missing, damaged, too large (a decompression bomb), or not an image. The message begins
            with "image: " for bytes, else with the path.
    """
    if image is None:
        raise SeedImageError("image: the row has none.")
    name = "image" if isinstance(image, bytes) else image
    try:
        with open_image(image, name=name) as opened:
            filters.check_size(*opened.size)
            return load_image(opened, name=name)
    except OSError as error:  # a path that is too long, or goes through a folder without permission
        check_shortage(error, name)
        raise SeedImageError(f"{name}: cannot be read ({error.strerror or error}). Check the path.") from error


def bad_row_error(row: SourceRow, reason: str) -> SeedImageError:
    """The error that ends a run which does not skip bad rows."""
    return SeedImageError(printable(f"{row.file}, row {row.row} (id {row.id}): {reason}"))


def bad_row_entry(row: SourceRow, reason: str) -> dict:
    """A bad row in a report."""
    return {"file": row.file, "row": row.row, "id": row.id, "reason": printable(reason)}


@dataclass
class RowReport:
    """What became of the rows.

    Args:
        read: Rows read from the source.
        kept: Rows that are used.
        dropped: How many each filter left out: "empty_caption", "min_side", "max_aspect".
        bad: A mapping `file`, `row`, `id`, `reason` for each row that cannot be read; the first `max_bad` of them.
        bad_count: How many bad rows there are.
        max_bad: How many bad rows to list; `None` for all.
    """

    read: int = 0
    kept: int = 0
    dropped: Counter = field(default_factory=Counter)
    bad: list[dict] = field(default_factory=list)
    bad_count: int = 0
    max_bad: int | None = 1000

    def add(self, row: SourceRow, rejection: Rejection | None) -> None:
        """Count a row that was read."""
        if rejection is None:
            self.kept += 1
        elif not rejection.bad:
            self.dropped[rejection.reason] += 1
        else:
            self.bad_count += 1
            if self.max_bad is None or len(self.bad) < self.max_bad:
                self.bad.append(bad_row_entry(row, rejection.reason))

    def __str__(self) -> str:
        parts = [f"{self.read} rows read", f"{self.kept} kept"]
        parts += [f"{count} dropped by {name}" for name, count in sorted(self.dropped.items())]
        if self.bad_count:
            first = self.bad[0]
            parts.append(f"{self.bad_count} bad rows, first {first['file']} row {first['row']}: {first['reason']}")
        return ", ".join(parts)
