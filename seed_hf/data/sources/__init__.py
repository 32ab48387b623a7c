"""Any source of images with captions, read as the same rows."""

from .filters import RowFilters
from .source import ImageTextSource, open_source
from .source_row import SourceRow


__all__ = ["ImageTextSource", "RowFilters", "SourceRow", "open_source"]
