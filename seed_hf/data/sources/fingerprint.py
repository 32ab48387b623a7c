"""What a job remembers of the rows that it has read, to notice on its next start that they were changed.

A digest covers what was read: ids, captions, the bytes of images. A stamp covers what the file system says of the
files, as git's index does: while it is the same, nobody needs to read them again.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time
from collections.abc import Iterable

from seed_hf.shortages import check_shortage

from .remote import is_remote
from .source_row import SourceRow


_LARGEST_IMAGE = 1 << 30  # bytes; more are not decoded, so that only their number matters
_RECENT = 3e9  # nanoseconds; the clocks of some file systems tick every two seconds


class RowsDigest:
    """Hashes of neighbouring rows, taken as they are read."""

    def __init__(self):
        self._texts, self._images = hashlib.sha256(), hashlib.sha256()

    def add_texts(self, row: SourceRow, fault: str | None) -> None:
        """Add a row's id and caption, and why its image is not looked at, if it is not."""
        self._texts.update(json.dumps([row.id, row.caption, fault]).encode())

    def add_image(self, digest: bytes) -> None:
        """Add an image by the digest of its content."""
        self._images.update(digest)

    def as_dict(self) -> dict[str, str]:
        """The hashes in hexadecimal, by what they cover."""
        return {"texts": self._texts.hexdigest(), "images": self._images.hexdigest()}


def content_digest(image) -> bytes:
    """SHA-256 of an encoded image or of the file at a path; empty for anything else, and where there is no such file.

    Raises:
        ShortageError: The file is there, but the machine is short of what reading it takes.
    """
    if isinstance(image, bytes):
        return hashlib.sha256(image).digest()
    try:
        if isinstance(image, str) and stat.S_ISREG((found := os.stat(image)).st_mode):
            if found.st_size > _LARGEST_IMAGE:
                return hashlib.sha256(f"{found.st_size} bytes".encode()).digest()
            with open(image, "rb") as file:
                return hashlib.file_digest(file, "sha256").digest()
    except (OSError, ValueError) as error:
        check_shortage(error, image)  # if it is the file's own fault, whoever decodes it says so
    return b""


def file_stamp(files: Iterable[str]) -> str | None:
    """A hash of the names, sizes, times and numbers of files; `None` if one was changed within the last seconds.

    Files behind URLs count by their address.

    Args:
        files: Paths or URLs.
    """
    digest, now = hashlib.sha256(), time.time_ns()
    for file in files:
        digest.update(f"{file}\0".encode(errors="surrogateescape"))
        if is_remote(file):
            continue
        found = os.stat(file) if os.path.exists(file) else os.lstat(file)  # of a link that leads nowhere
        if now - max(found.st_mtime_ns, found.st_ctime_ns) < _RECENT:
            return None  # it may be changed once more without another time
        digest.update(f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns} {found.st_ino}\n".encode())
    return digest.hexdigest()
