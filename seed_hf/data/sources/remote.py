"""Local files and URLs, opened alike."""

from __future__ import annotations

import re


_URL = re.compile(r"^[a-z][a-z0-9+.-]*://", re.IGNORECASE)


def is_remote(path: str) -> bool:
    """Whether a path is a URL (`https://`, `s3://`, `hf://` ...)."""
    return _URL.match(path) is not None


def open_binary(path: str):
    """Open a local file or a URL for reading bytes."""
    if not is_remote(path):
        return open(path, "rb")
    import fsspec

    return fsspec.open(path, "rb").open()
