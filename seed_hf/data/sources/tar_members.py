"""The members of a tar, read strictly: an archive that is not sound to its end is an error that names the place.

Python's `tarfile` takes the first header that it cannot read for the end of the archive, and all later files are lost
without a word. Here the end is what the standard says: two blocks of zeros, and nothing after them.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from .remote import is_remote, open_binary


MAX_CONTENT = 1 << 28  # bytes of a file: 64 million pixels of 4 bytes, the most that any image needs
_BLOCK = 512
_ZEROS = bytes(_BLOCK)
_CHUNK = 1 << 20
_MAX_EXTENSION = 1 << 20  # bytes of a long name or of a pax header
_MAX_PADDING = 1 << 26  # bytes of zeros after the end
_MAX_RATIO = 200  # of unpacked to packed bytes, once more than MAX_CONTENT are unpacked; images hardly shrink

_COMPRESSIONS = {b"\x1f\x8b": gzip.GzipFile, b"BZh": bz2.BZ2File, b"\xfd7zXZ\x00": lzma.LZMAFile}
_ZSTANDARD = b"\x28\xb5\x2f\xfd"
_PAX_HEADERS = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)
_LABEL, _LISTING, _CONTINUED = b"V", b"D", b"M"  # of GNU tar
_NO_FILES = {
    tarfile.LNKTYPE: "a hard link",
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
}
_WITHOUT_CONTENT = (*_NO_FILES, tarfile.DIRTYPE, _LABEL)
_FILES = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)


class TarFault(ValueError):
    """Why an archive is not sound, and at which byte. Nothing after it can be read."""


@dataclass(slots=True)
class TarMember:
    """What has a name in a tar, other than a folder.

    Args:
        name: Its path in the archive. Bytes that are not UTF-8 are lone surrogates, as in names of files.
        size: Bytes of its content.
        refused: Why it has no content that is read; `None` for an ordinary file.
    """

    name: str
    size: int
    refused: str | None = None


class TarReader:
    """Reads the members of a tar one after the other. Iterate over it, and call `content` for those that are needed.

    Args:
        file: The unpacked archive, open for reading.
        size: Its bytes, if it can be sought in and they are known; else it is read as a stream.
        packed: The compressed file that it is read from, if it is.
    """

    def __init__(self, file: Any, size: int | None, packed: Any = None):
        self._file, self._size, self._packed = file, size, packed
        self._offset = 0  # in the unpacked archive
        self._unread = 0  # bytes up to the next header
        self._member = TarMember("", 0)

    def __iter__(self) -> Iterator[TarMember]:
        """The members in their order, without folders.

        Raises:
            TarFault: The archive is not sound from here on.
        """
        long_name, fields = b"", dict[bytes, bytes]()
        while (header := self._header(in_between=not (long_name or fields))) is not None:
            info, block = header
            if info.type == tarfile.GNUTYPE_LONGNAME:
                long_name, _, rest = self._extension(info).partition(b"\0")
                if not long_name or rest.strip(b"\0"):
                    raise self._fault("a damaged long name")
            elif info.type == tarfile.GNUTYPE_LONGLINK:
                self._extension(info)
            elif info.type in _PAX_HEADERS:
                fields = self._fields(self._extension(info))
            elif info.type == tarfile.XGLTYPE:
                if {b"path", b"size"} & set(self._fields(self._extension(info))):
                    raise self._fault("a global header that gives all files one name or size")
            else:
                member = self._begun(info, block, long_name, fields)
                long_name, fields = b"", {}
                if info.type not in (tarfile.DIRTYPE, _LABEL, _LISTING):
                    yield member

    def content(self) -> bytes:
        """The content of the member that was given last, once.

        Raises:
            TarFault: It is cut off.
        """
        data = self._read(self._member.size)
        self._unread -= len(data)
        if len(data) < self._member.size:
            raise self._fault(f"cut off inside {self._member.name}")
        return data

    def _header(self, in_between: bool) -> tuple[tarfile.TarInfo, bytes] | None:
        """The next header and its block; `None` at the end of the archive."""
        self._skip(self._unread)
        self._unread = 0
        start = self._offset
        block = self._read(_BLOCK)
        if block == _ZEROS and in_between:
            self._check_end(start)
            return None
        if len(block) < _BLOCK:
            found = (
                "cut off inside a header" if block else "cut off, or the two blocks of zeros at the end are missing"
            )
            raise self._fault(found, start)
        try:
            return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape"), block
        except (tarfile.HeaderError, ValueError) as error:
            where = f" (after {self._member.name})" if start else ", or no tar"
            raise self._fault(f"a damaged header{where}", start) from error

    def _begun(self, info: tarfile.TarInfo, block: bytes, long_name: bytes, fields: dict[bytes, bytes]) -> TarMember:
        """The member that a header begins."""
        name, size = fields.get(b"GNU.sparse.name") or fields.get(b"path") or long_name, info.size
        if digits := fields.get(b"size"):
            size = int(digits) if digits.isdigit() and len(digits) < 20 else -1
        self._member = member = TarMember(name.decode("utf-8", "surrogateescape") or info.name, size)
        if info.type in _WITHOUT_CONTENT:
            member.size = 0
        if info.type == _CONTINUED:
            raise self._fault(f"{member.name} is continued from another archive, which is not read")
        if info.type == tarfile.GNUTYPE_SPARSE:
            more = block[482]
            while more:  # the map of its holes goes on
                block = self._read(_BLOCK)
                more = len(block) == _BLOCK and block[504]
        if info.type == tarfile.GNUTYPE_SPARSE or any(key.startswith(b"GNU.sparse.") for key in fields):
            member.refused = "a sparse file, which is not read; store it whole"
        elif info.type not in _FILES:
            member.refused = f"{_NO_FILES.get(info.type, f'of the unknown type {info.type!r}')}, which is not read"
        elif size > MAX_CONTENT:
            member.refused = f"a file of {size} bytes; at most {MAX_CONTENT} are read"
        self._promise(member.size, member.name)
        return member

    def _promise(self, size: int, what: str) -> None:
        """Check the size of a content before it is read, and note where the next header is."""
        if size < 0 or (self._size is not None and self._offset + size > self._size):
            raise self._fault(f"{what} is said to have {size} bytes, more than the archive; cut off or damaged")
        if self._packed is not None and size > MAX_CONTENT:
            raise self._fault(f"{what} has {size} bytes; in a compressed archive at most {MAX_CONTENT} are unpacked")
        self._unread = -(-size // _BLOCK) * _BLOCK

    def _extension(self, info: tarfile.TarInfo) -> bytes:
        """The content of a header that says more of the next member, or of all."""
        if info.size > _MAX_EXTENSION:
            raise self._fault(f"a name or pax header of {info.size} bytes; at most {_MAX_EXTENSION} are read")
        self._promise(info.size, "a name or pax header")
        data = self._read(info.size)
        self._unread -= len(data)
        if len(data) < info.size:
            raise self._fault("cut off inside a name or pax header")
        return data

    def _fields(self, data: bytes) -> dict[bytes, bytes]:
        """The fields of a pax header: records of their length, a blank, the keyword, `=`, the value and a newline."""
        fields, start = {}, 0
        while start < len(data):
            length, _, _ = data[start : start + 9].partition(b" ")
            end = start + int(length) if length.isdigit() else start
            keyword, equals, value = data[start + len(length) + 1 : end].partition(b"=")
            if end > len(data) or not equals or not value.endswith(b"\n"):
                raise self._fault("a damaged pax header")
            fields[keyword] = value[:-1]
            start = end
        return fields

    def _check_end(self, start: int) -> None:
        """Read what follows the first block of zeros: a second one, and nothing but zeros as padding."""
        second = self._read(_BLOCK)
        if second != _ZEROS:
            found = "other data after" if second.strip(b"\0") else "the archive is cut off after"
            raise self._fault(f"{found} one block of zeros; two are the end of an archive", start)
        end = self._offset
        while data := self._read(_CHUNK):
            if data.strip(b"\0"):
                place = self._offset - len(data.lstrip(b"\0"))
                raise self._fault("data after the end of the archive, maybe another archive", place)
            if self._offset - end > _MAX_PADDING:
                raise self._fault(f"more than {_MAX_PADDING} bytes of zeros after the end", end)

    def _skip(self, count: int) -> None:
        if self._size is not None:
            if self._offset + count > self._size:
                raise self._fault(f"cut off after {self._member.name}", self._size)
            self._file.seek(count, os.SEEK_CUR)
            self._offset += count
            return
        end = self._offset + count
        while self._offset < end:
            if not self._read(min(_CHUNK, end - self._offset)):
                raise self._fault(f"cut off inside {self._member.name}")

    def _read(self, count: int) -> bytes:
        """The next bytes; fewer only at the end of the file."""
        parts = []
        while count:
            data = self._unpacked(min(count, _CHUNK))
            if not data:
                break
            parts.append(data)
            count -= len(data)
            self._offset += len(data)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _unpacked(self, count: int) -> bytes:
        if self._packed is None:
            return self._file.read(count)
        if self._offset > MAX_CONTENT and self._offset > _MAX_RATIO * self._packed.tell():
            raise self._fault(f"unpacks to more than {_MAX_RATIO} times its size: a decompression bomb")
        try:
            return self._file.read(count)
        except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
            raise self._fault(f"the compressed data is cut off or damaged ({error})") from error
        except OSError as error:
            if error.errno is not None or type(error) is not OSError:
                raise
            raise self._fault(f"the compressed data is damaged ({error})") from error  # as bz2 says it

    def _fault(self, what: str, at: int | None = None) -> TarFault:
        unpacked = "" if self._packed is None else " of the unpacked archive"
        return TarFault(f"not an intact tar file (at byte {self._offset if at is None else at}{unpacked}: {what})")


@contextmanager
def _named(path: str) -> Iterator[None]:
    """Name the file in an error of the disk or the network, which is no damage of the archive."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, f"{error.strerror} while reading it", path) from error


@contextmanager
def open_tar(path: str) -> Iterator[TarReader]:
    """Open a tar, plain or compressed with gzip, bzip2 or xz.

    Args:
        path: The file or its URL, which is read as a stream.

    Raises:
        TarFault: The file is empty or compressed in another way.
        OSError: It cannot be opened or read.
    """
    with open_binary(path) as opened, _named(path):
        file = opened if hasattr(opened, "peek") else io.BufferedReader(opened, _CHUNK)
        start = file.peek(8)[:8]
        if not start:
            raise TarFault("not an intact tar file (at byte 0: the file is empty)")
        if start.startswith(_ZSTANDARD):
            raise TarFault("a tar file compressed with zstd, which is not read; unpack it first")
        for magic, unpacking in _COMPRESSIONS.items():
            if start.startswith(magic):
                with unpacking(file) if unpacking is not gzip.GzipFile else gzip.GzipFile(fileobj=file) as unpacked:
                    yield TarReader(unpacked, None, packed=file)
                return
        yield TarReader(file, None if is_remote(path) else os.fstat(file.fileno()).st_size)
