"""Whether a failure is a file's own fault, or the machine ran short of something and the file may be sound."""

from __future__ import annotations

import errno
import mmap


# What a path or the content of a file can bring about. Every other error of the system has to do with the machine:
# too many open files, no memory, a disk that cannot be read, a file server that does not answer.
_OF_A_FILE = {
    errno.EACCES,
    errno.EINVAL,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EOVERFLOW,
    errno.EPERM,
    errno.ESPIPE,
}
_LARGEST_IMAGE = 256 << 20  # bytes; with less, nobody can tell a damaged image from one that found no memory


class ShortageError(OSError):
    """The machine ran short of something while a file was read. The file may be sound: free some and try again."""


def check_shortage(error: BaseException, name: str) -> None:
    """Raise `ShortageError` unless a failure to read an image is the image's own fault.

    Codecs report a lack of memory as damage. So an image counts as damaged only where memory can be had.

    Args:
        error: What was raised.
        name: The file, for the message.

    Raises:
        ShortageError: The machine is short of memory, open files or the like.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ShortageError):
            raise cause
        # Without a number it was raised by a decoder and not by the system.
        if isinstance(cause, OSError) and cause.errno is not None and cause.errno not in _OF_A_FILE:
            raise _shortage(cause.errno, cause.strerror or str(cause), name) from error
        if isinstance(cause, MemoryError):
            raise _shortage(errno.ENOMEM, "out of memory", name) from error
        cause = cause.__cause__ or cause.__context__
    if not _memory_is_free():
        raise _shortage(errno.ENOMEM, "out of memory", name) from error


def _shortage(number: int, lack: str, name: str) -> ShortageError:
    return ShortageError(
        number, f"{name}: not read, because this machine ran short ({lack}). The image may be sound: try again"
    )


def _memory_is_free() -> bool:
    try:
        mmap.mmap(-1, _LARGEST_IMAGE).close()  # asked for and not touched
    except OSError:
        return False
    return True


__all__ = ["ShortageError", "check_shortage"]
