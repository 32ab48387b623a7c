"""Anything that holds images with captions, read as the same rows."""

from .source import ImageTextSource, SourceRow, open_source


__all__ = ["ImageTextSource", "SourceRow", "open_source"]
