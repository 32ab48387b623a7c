"""The filters of the authors' recipe: which rows of a source are left out."""

from __future__ import annotations

from dataclasses import asdict, dataclass


class RowDropped(Exception):
    """A filter left the row out; the argument is the filter's name."""


@dataclass(frozen=True)
class RowFilters:
    """Which rows to leave out. By default only those without a caption.

    SEED's pre-training left out images with a shorter side under 180 pixels or an aspect ratio (shorter side / longer
    side) below 0.55: `RowFilters(min_side=180, max_aspect=1.82)`.

    Args:
        min_side: Smallest shorter side in pixels; 0 for no limit.
        max_aspect: Largest ratio of longer side / shorter side; 1 keeps only squares, `None` sets no limit.
        empty_captions: Whether to keep rows with a missing or blank caption.
    """

    min_side: int = 0
    max_aspect: float | None = None
    empty_captions: bool = False

    def __post_init__(self):
        if self.min_side < 0:
            raise ValueError(f"min_side must be 0 (none) or a number of pixels, got {self.min_side}.")
        if self.max_aspect is not None and self.max_aspect < 1:
            raise ValueError(
                f"max_aspect is longer side / shorter side: it must be at least 1, got {self.max_aspect}."
            )

    def check_caption(self, caption: str | list[str] | None) -> None:
        """Raise `RowDropped("empty_caption")` for a missing or blank caption."""
        text = "".join(caption) if isinstance(caption, list) else caption
        if not self.empty_captions and not (text or "").strip():
            raise RowDropped("empty_caption")

    def check_size(self, width: int, height: int) -> None:
        """Raise `RowDropped("min_side")` or `RowDropped("max_aspect")`; sizes in pixels."""
        short, long = sorted((width, height))
        if short < self.min_side:
            raise RowDropped("min_side")
        if self.max_aspect is not None and long > self.max_aspect * short:
            raise RowDropped("max_aspect")

    def as_dict(self) -> dict:
        """The settings by name, JSON-ready."""
        return asdict(self)
