"""Separates the pixels of an image file from what else is in it.

Pillow reads comments, colour profiles and EXIF together with the pixels. A fault or a bomb in them would make a sound
image unreadable. So the decoder gets the file without them, and of all metadata only the orientation is used.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator


_PNG = b"\x89PNG\r\n\x1a\n"
_MAX_PARTS = 1_000_000  # chunks, segments or blocks
_MAX_TEXT = 1 << 20  # bytes of a compressed text of a PNG; an orientation does not lie further on
_XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:="|>)([1-8])')
_ORIENTATION = 0x0112
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xff]")
_WITHOUT_LENGTH = {0x01, 0xC8, *range(0xD0, 0xDA), *range(0xF0, 0xFE)}
_NUMBER_TYPES = {1: "B", 3: "H", 4: "L"}


class TooCostlyError(ValueError):
    """Decoding the image would take too much time or memory. The message has no name of the image."""


def split_metadata(data: bytes) -> tuple[bytes, int]:
    """An image file without its metadata, and the EXIF orientation that they tell.

    JPEG, PNG, WebP and GIF are walked chunk by chunk. Other formats, and the rest of a file after a chunk that is not
    understood, are left as they are.

    Args:
        data: The file.

    Returns:
        The shorter file, and 1 to 8: how to turn the image, 1 for not at all.

    Raises:
        TooCostlyError: The file has too many parts.
    """
    if data.startswith(_PNG):
        return _split_png(data)
    if data.startswith(b"\xff\xd8\xff"):
        return _split_jpeg(data)
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return _split_webp(data)
    if data.startswith((b"GIF87a", b"GIF89a")):
        return _split_gif(data), 1
    return data, 1


def minimal_exif(orientation: int) -> bytes:
    """EXIF that holds only an orientation."""
    return b"Exif\0\0II*\0" + struct.pack("<LHHHLHHL", 8, 1, _ORIENTATION, 3, 1, orientation, 0, 0)


class _Kept:
    """The parts of a file that are kept; neighbours are copied together."""

    def __init__(self, data: bytes):
        self._data, self._begin, self._end = data, 0, 0
        self._parts: list[bytes] = []

    def add(self, begin: int, end: int) -> None:
        if begin != self._end:
            self._parts.append(self._data[self._begin : self._end])
            self._begin = begin
        self._end = end

    def join(self) -> bytes:
        if self._begin == 0 and self._end >= len(self._data):
            return self._data
        return b"".join([*self._parts, self._data[self._begin : self._end]])


def _counted(number: int) -> int:
    if number > _MAX_PARTS:
        raise TooCostlyError(f"a file of more than {_MAX_PARTS} parts. Export the image again.")
    return number


def _split_png(data: bytes) -> tuple[bytes, int]:
    kept, orientations, at, parts = _Kept(data), {}, len(_PNG), 0
    kept.add(0, at)
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">L4s", data, at)
        end = at + 12 + length
        if end > len(data) or not kind.isalpha():
            break
        parts = _counted(parts + 1)
        # Capital first letters mark what is needed for the pixels; of the others only the transparent colour is.
        # Without the frames of an animation, its first image remains.
        if kind[:1].isupper() or kind == b"tRNS":
            kept.add(at, end)
        elif kind in _PNG_READERS and kind not in orientations:
            if found := _PNG_READERS[kind](data[at + 8 : end - 4]):
                orientations[kind] = found
        at = end
    kept.add(at, len(data))
    return kept.join(), _first(orientations, *_PNG_READERS)


def _first(orientations: dict, *order) -> int:
    return next((orientations[key] for key in order if key in orientations), 1)


def _of_raw_profile(chunk: bytes) -> int:
    """Of EXIF as ImageMagick writes it: hexadecimal, after a name, an empty line and a length."""
    key, _, text = chunk.partition(b"\0")
    if key != b"Raw profile type exif":
        return 0
    if text.startswith(b"\0"):  # zTXt: the number of the compression method
        text = _decompressed(text[1:])
    try:
        return _of_exif(bytes.fromhex(b"".join(text.split(b"\n")[3:]).decode("ascii")))
    except ValueError:
        return 0


def _of_international_text(chunk: bytes) -> int:
    key, _, rest = chunk.partition(b"\0")
    parts = rest[2:].split(b"\0", 2)
    if key != b"XML:com.adobe.xmp" or len(parts) < 3:
        return 0
    return _of_xmp(_decompressed(parts[2]) if rest[0] else parts[2])


def _decompressed(data: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(data, _MAX_TEXT)
    except zlib.error:
        return b""


def _of_exif(exif: bytes) -> int:
    """The orientation in EXIF; 0 if there is none, or it cannot be read."""
    while exif.startswith(b"Exif\0\0"):
        exif = exif[6:]
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None or len(exif) < 10:
        return 0
    (at,) = struct.unpack_from(order + "L", exif, 4)
    if at + 2 > len(exif):
        return 0
    (count,) = struct.unpack_from(order + "H", exif, at)
    entries = exif[at + 2 : at + 2 + 12 * count]
    for tag, kind, number, value in struct.iter_unpack(order + "HHL4s", entries[: len(entries) // 12 * 12]):
        if tag == _ORIENTATION and number == 1 and kind in _NUMBER_TYPES:
            (orientation,) = struct.unpack_from(order + _NUMBER_TYPES[kind], value)
            return orientation if 1 <= orientation <= 8 else 0
    return 0


def _of_xmp(xmp: bytes) -> int:
    found = _XMP_ORIENTATION.search(xmp)
    return int(found[1]) if found else 0


# In the order in which Pillow asks them.
_PNG_READERS = {
    b"eXIf": _of_exif,
    b"tEXt": _of_raw_profile,
    b"zTXt": _of_raw_profile,
    b"iTXt": _of_international_text,
}


def jpeg_segments(data: bytes, at: int = 2) -> Iterator[tuple[int, int, int]]:
    """Marker, begin and end of the segments of a JPEG from `at` on, up to and with the next start of a scan.

    What lies between segments is skipped, as Pillow and libjpeg do: else one of them would see a segment that this
    function does not.
    """
    parts = 0
    while (found := _JPEG_MARKER.search(data, at)) is not None:
        marker, begin, at = found[0][-1], found.end() - 2, found.end()
        if marker not in _WITHOUT_LENGTH:
            length = int.from_bytes(data[at : at + 2], "big")
            if length < 2 or at + length > len(data):
                return
            at += length
        parts = _counted(parts + 1)
        yield marker, begin, at
        if marker == 0xDA:
            return


def _split_jpeg(data: bytes) -> tuple[bytes, int]:
    kept, exif, xmp = _Kept(data), 0, 0
    kept.add(0, 2)
    at = 2
    for marker, begin, end in jpeg_segments(data):
        if marker == 0xE1:
            content = data[begin + 4 : end]
            if content.startswith(b"Exif\0\0"):
                exif = exif or _of_exif(content)
            elif content.startswith(b"http://ns.adobe.com/xap/1.0/\0"):
                xmp = xmp or _of_xmp(content)
        elif marker in (0xE0, 0xEE) or not (0xE0 <= marker <= 0xEF or marker == 0xFE):
            # Of application data and comments only JFIF's and Adobe's say something about the pixels.
            kept.add(begin, end)
        at = end
    kept.add(at, len(data))
    return kept.join(), exif or xmp or 1


def _split_webp(data: bytes) -> tuple[bytes, int]:
    kept, exif, xmp, at, frames, head = _Kept(data), 0, 0, 12, 0, bytearray(data[:12])
    parts = 0
    kept.add(0, 12)
    while at + 8 <= len(data):
        kind, length = struct.unpack_from("<4sL", data, at)
        end = at + 8 + length + length % 2
        parts = _counted(parts + 1)
        if kind in (
            b"EXIF",
            b"XMP ",
            b"ICCP",
        ):  # their length may be damaged; nothing but metadata follows EXIF and XMP
            content = data[at + 8 : end]
            exif = exif or (_of_exif(content) if kind == b"EXIF" else 0)
            xmp = xmp or (_of_xmp(content) if kind == b"XMP " else 0)
        elif end > len(data):
            break
        elif kind != b"ANMF" or not frames:
            kept.add(at, end)
            frames += kind == b"ANMF"
            if kind == b"VP8X" and at == 12:
                head = bytearray(data[:end])
                head[20] &= 0b00010010  # transparency and animation; no profile, EXIF and XMP
        at = end
    is_whole = at + 8 > len(data)
    kept.add(min(at, len(data)), len(data))
    shorter = kept.join()
    if shorter is data:
        return data, exif or xmp or 1
    removed = len(data) - len(shorter)
    size = len(shorter) - 8 if is_whole else max(0, int.from_bytes(data[4:8], "little") - removed)
    struct.pack_into("<L", head, 4, size)
    return bytes(head) + shorter[len(head) :], exif or xmp or 1


def _split_gif(data: bytes) -> bytes:
    at = 13 + (3 << (data[10] & 7) + 1 if len(data) > 10 and data[10] & 0x80 else 0)
    kept, parts = _Kept(data), 0
    kept.add(0, at)
    while data[at : at + 1] == b"!":
        end = at + 2
        while end < len(data) and data[end]:
            end += 1 + data[end]
            parts = _counted(parts + 1)
        end += 1
        parts = _counted(parts + 1)
        if data[at + 1 : at + 2] == b"\xf9":  # it names the transparent colour
            kept.add(at, end)
        at = end
    kept.add(at, len(data))
    return kept.join()


__all__ = ["TooCostlyError", "jpeg_segments", "minimal_exif", "split_metadata"]
