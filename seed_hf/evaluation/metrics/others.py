"""What a figure is compared with: the same measure on another image."""

from collections.abc import Mapping
from typing import Any


class Others:
    """Gives each row what the last row of another image has: an image may have several rows, a caption each."""

    def __init__(self):
        self._image: Any = None
        self._own: Any = None
        self._other: Any = None

    def before(self, record: Mapping[str, Any], own: Any) -> Any:
        """What the last record of another image had; `None` if there was none.

        Args:
            record: Of a row, with the `image` that it is about, or with its number as `row`.
            own: What it has for the records of other images after it.
        """
        image = record.get("image") or record.get("row")
        if image != self._image:
            self._image, self._other = image, self._own
        self._own = own
        return self._other
