"""What decoding an image may cost, counted from its bytes before a pixel is decoded.

Any file is decoded or refused within seconds and half a gigabyte. Counts, not clocks: the same file is read on every
machine, however busy it is.
"""

from __future__ import annotations

import io
import struct

from PIL import ImageFile

from .metadata import TooCostlyError, jpeg_segments


MAX_SIDE = 65_535  # pixels; the limit of JPEG and GIF
MAX_MEMORY = 450_000_000  # bytes: the file, what its decoder needs, the pixels, and what converting them needs
_MAX_READS = 1_000_000  # pieces in which the file is read
_MAX_SCANS = 1_000  # of a JPEG; usual are 1 to 20
_MAX_SCANNED_PIXELS = 4_000_000_000  # scans times pixels: each scan visits all pixels
_MAX_STRIPS = 100_000  # of a TIFF
_MAX_RUN_LENGTH_PIXELS = 16_000_000  # Pillow decodes these BMPs in Python
_STRIPS, _STRIP_BYTES, _TILES, _TILE_BYTES = 273, 279, 324, 325  # tags of TIFF
_ROWS_PER_STRIP, _TILE_WIDTH, _TILE_LENGTH, _TIFF_ORIENTATION, _BITS, _SAMPLES = 278, 322, 323, 274, 258, 277


class LimitedFile(io.BytesIO):
    """A file in memory from which only so much may be read: Pillow's loops over its parts end.

    Args:
        data: The file.
    """

    def __init__(self, data: bytes):
        super().__init__(data)
        self._reads = _MAX_READS
        self._bytes = 4 * len(data) + (1 << 20)  # headers are read several times

    def read(self, size: int | None = -1) -> bytes:
        part = super().read(size)
        self._reads -= 1
        self._bytes -= len(part)
        if self._reads < 0 or self._bytes < 0:
            raise TooCostlyError("too many small or repeated parts. Export the image again.")
        return part


def check_bytes(data: bytes) -> None:
    """Refuse what Pillow would work on before it tells the image's size.

    Raises:
        TooCostlyError: A TIFF of too many strips, or a WebP of too many pixels.
    """
    if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        _check_tiff_strips(data)
    elif data[8:16] == b"WEBPVP8X" and len(data) >= 30:
        width, height = (1 + int.from_bytes(data[at : at + 3], "little") for at in (24, 27))
        _check_memory(16 * width * height, len(data))


def check_cost(image: ImageFile.ImageFile, data: bytes, held: int) -> None:
    """Refuse an image that takes too much time or memory to decode.

    Args:
        image: Just opened, not decoded.
        data: The file.
        held: Bytes of it in memory.

    Raises:
        TooCostlyError: It does.
    """
    width, height = image.size
    pixels = width * height
    if max(width, height) > MAX_SIDE:
        raise TooCostlyError(f"{width} x {height} pixels; at most {MAX_SIDE} on a side are read. Crop it first.")
    decoder = image.tile[0][0] if image.tile else ""
    if decoder == "bmp_rle" and pixels > _MAX_RUN_LENGTH_PIXELS:
        raise TooCostlyError(
            f"{width} x {height} pixels in a run-length BMP; at most {_MAX_RUN_LENGTH_PIXELS / 1e6:.0f} million of "
            "these are read. Save it as PNG."
        )
    extra = 0
    if image.format in ("JPEG", "MPO"):
        extra = _check_jpeg(image, data, pixels)
    elif image.format == "TIFF":
        extra = _check_tiff(image, data, pixels)
    elif image.format == "WEBP":
        extra = 12 * pixels  # two canvases and the copy that Pillow takes
    elif decoder == "bmp_rle":
        extra = 3 * pixels
    stored = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2}.get(image.mode, 4) * pixels
    converted = stored
    if image.mode != "RGB" or image.has_transparency_data:
        converted += (5 if image.mode.startswith("I") else 4) * pixels
    if "exif" in image.info:  # it will be turned, by a copy
        converted += 4 * pixels
    _check_memory(max(stored + extra, converted), held)


def _check_memory(needed: int, held: int) -> None:
    if needed + held > MAX_MEMORY:
        raise TooCostlyError(
            f"reading it takes {(needed + held) / 1e6:.0f} MB of memory; at most {MAX_MEMORY / 1e6:.0f} are used. "
            "Scale it down first."
        )


def _check_jpeg(image: ImageFile.ImageFile, data: bytes, pixels: int) -> int:
    """Bytes that libjpeg needs beside the pixels."""
    frame, components, first_scan, at = 0, 1, 1, 0
    ratio = 1.0
    for marker, begin, end in jpeg_segments(data):
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and end - begin >= 10:
            frame, components = marker, data[begin + 9]
            factors = [value for value in data[begin + 11 : end : 3][:components]]
            areas = [(value >> 4) * (value & 15) for value in factors] or [1]
            widest = max([value >> 4 for value in factors] or [1]) * max([value & 15 for value in factors] or [1])
            ratio = sum(areas) / max(widest, 1)
        elif marker == 0xDA and end - begin >= 5:
            first_scan, at = data[begin + 4], end
    if frame not in (0xC2, 0xC6, 0xCA, 0xCE) and first_scan >= components:
        return 0  # one scan, decoded as it is read
    limit = min(_MAX_SCANS, _MAX_SCANNED_PIXELS // pixels)
    if _has_more_scans(data, at, limit):
        raise TooCostlyError(f"a JPEG of more than {limit} scans. Save it again.")
    return int(2 * ratio * pixels)  # the coefficients of the whole image, 16 bits each


def _has_more_scans(data: bytes, at: int, limit: int) -> bool:
    """Whether more than `limit - 1` scans follow the one that begins at `at`."""
    if data.count(b"\xff\xda", at) < limit:  # markers, and the same bytes by chance in what follows the image
        return False
    for _ in range(limit):
        segments = list(jpeg_segments(data, at))  # restarts within the scan, and what follows it
        if not segments or segments[-1][0] != 0xDA or any(marker == 0xD9 for marker, _, _ in segments):
            return False
        at = segments[-1][2]
    return True


def _check_tiff_strips(data: bytes) -> None:
    """Pillow lists all strips when it opens a TIFF."""
    order, big = "<" if data.startswith(b"II") else ">", 43 in data[2:4]
    entry, count_type, step = ("HHQ8s", "Q", 20) if big else ("HHL4s", "H", 12)
    try:
        (at,) = struct.unpack_from(order + ("Q" if big else "L"), data, 8 if big else 4)
        (count,) = struct.unpack_from(order + count_type, data, at)
    except (struct.error, OverflowError):
        return  # no TIFF that Pillow could open
    at += 8 if big else 2
    for begin in range(at, min(at + count * step, len(data) - step + 1), step):
        tag, _, number, _ = struct.unpack_from(order + entry, data, begin)
        if tag in (_STRIPS, _TILES) and number > _MAX_STRIPS:
            raise TooCostlyError(f"a TIFF of {number} strips; at most {_MAX_STRIPS} are read. Save it again.")


def _check_tiff(image: ImageFile.ImageFile, data: bytes, pixels: int) -> int:
    """Bytes that libtiff needs beside the pixels."""
    tags = image.tag_v2  # type: ignore[attr-defined]
    turned = 4 * pixels if tags.get(_TIFF_ORIENTATION, 1) != 1 else 0  # Pillow turns it while it decodes
    if not image.tile or image.tile[0][0] != "libtiff":
        return turned
    width, height = image.size
    lengths = tags.get(_STRIP_BYTES) or tags.get(_TILE_BYTES) or ()
    # Many strips may be the same bytes, each of which is decoded again.
    if sum(lengths) > 2 * len(data):
        raise TooCostlyError("a TIFF whose strips overlap. Save it again.")
    rows, columns = min(tags.get(_ROWS_PER_STRIP, height), height), width
    if _TILES in tags:
        rows, columns = tags.get(_TILE_LENGTH, height), tags.get(_TILE_WIDTH, width)
    bits = tags.get(_BITS, (1,))
    samples = tags.get(_SAMPLES, 1)
    strip = rows * columns * max(sum(bits), bits[0] * samples) // 8
    if image.info.get("compression") in ("jpeg", "tiff_jpeg"):
        strip *= 3  # coefficients
        scans = data.count(b"\xff\xda")
        if scans * rows * columns > _MAX_SCANNED_PIXELS + 2 * pixels:
            raise TooCostlyError("a TIFF of too many JPEG scans. Save it again.")
    return strip + turned


__all__ = ["LimitedFile", "MAX_MEMORY", "MAX_SIDE", "check_bytes", "check_cost"]
