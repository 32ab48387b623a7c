"""Which rows of a source are used: the filters of the authors' recipe, and an account of what they left out."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field

from PIL import Image

from seed_hf.images import SeedImageError, load_image, open_image


class RowDropped(Exception):
    """A row that a filter left out; its argument is the filter's name."""


@dataclass(frozen=True)
class RowFilters:
    """Rows to leave out. Nothing is, unless asked for.

    SEED's pre-training left out pictures with a shorter side under 180 pixels or an aspect below 0.55, that is, a
    longer side of more than 1.82 times the shorter one: `RowFilters(min_side=180, max_aspect=1.82)`.

    Args:
        min_side: Fewest pixels of the shorter side.
        max_aspect: Most that the longer side may be of the shorter one, 1 for squares alone.
        empty_captions: Keep rows whose caption is missing or blank.
    """

    min_side: int = 0
    max_aspect: float | None = None
    empty_captions: bool = False

    def __post_init__(self):
        if self.min_side < 0:
            raise ValueError(f"min_side must be 0 (none) or a number of pixels, got {self.min_side}.")
        if self.max_aspect is not None and self.max_aspect < 1:
            raise ValueError(f"max_aspect is longer side / shorter side, so at least 1; got {self.max_aspect}.")

    def check_caption(self, caption: str | list[str] | None) -> None:
        """Raises `RowDropped("empty_caption")` for a blank one."""
        text = "".join(caption) if isinstance(caption, list) else caption
        if not self.empty_captions and not (text or "").strip():
            raise RowDropped("empty_caption")

    def check_size(self, width: int, height: int) -> None:
        """Raises `RowDropped("min_side")` or `RowDropped("max_aspect")`; sizes in pixels."""
        short, long = sorted((width, height))
        if short < self.min_side:
            raise RowDropped("min_side")
        if self.max_aspect is not None and long > self.max_aspect * short:
            raise RowDropped("max_aspect")

    def as_dict(self) -> dict:
        return asdict(self)


@dataclass
class RowReport:
    """What became of the rows.

    Args:
        read: Rows read from the source.
        kept: Rows that came through.
        dropped: How many each filter left out: "empty_caption", "min_side", "max_aspect".
        bad: A mapping `file`, `row`, `id`, `reason` for each row whose picture is missing or damaged; the first
            `max_bad` of them.
        bad_count: How many there are.
    """

    read: int = 0
    kept: int = 0
    dropped: Counter = field(default_factory=Counter)
    bad: list[dict] = field(default_factory=list)
    bad_count: int = 0
    max_bad: int | None = 1000

    def add_bad(self, row, reason: str) -> None:
        self.bad_count += 1
        if self.max_bad is None or len(self.bad) < self.max_bad:
            self.bad.append({"file": row.file, "row": row.row, "id": row.id, "reason": reason})

    def __str__(self) -> str:
        parts = [f"{self.read} rows read", f"{self.kept} kept"]
        parts += [f"{count} dropped by {name}" for name, count in sorted(self.dropped.items())]
        if self.bad_count:
            first = self.bad[0]
            parts.append(f"{self.bad_count} bad pictures, first {first['file']} row {first['row']}: {first['reason']}")
        return ", ".join(parts)


def read_picture(image: bytes | str | None, filters: RowFilters) -> Image.Image:
    """Decode one picture; its size is looked at before its pixels are.

    Args:
        image: Encoded picture or path.

    Returns:
        An upright RGB picture, transparency on white.

    Raises:
        RowDropped: It is too small or too long.
        SeedImageError: It is missing, damaged, too large (a decompression bomb), or no picture. The message begins
            with "picture: " where bytes were given, else with the path.
    """
    if image is None:
        raise SeedImageError("picture: the row has none.")
    name = "picture" if isinstance(image, bytes) else image
    with open_image(image, name=name) as opened:
        filters.check_size(*opened.size)
        return load_image(opened, name=name)


def reason_of(error: SeedImageError) -> str:
    """The error's message without the name in front, which reports have in a field of its own."""
    return str(error).partition(": ")[2] or str(error)
