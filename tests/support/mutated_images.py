"""Images of every format, and what becomes of them when bytes change, go or come twice."""

import random
import struct
from collections.abc import Iterator

from PIL import Image

from hostile_images import encoded, picture, png_chunk


def sound_images() -> dict[str, bytes]:
    """Files of every format in its variants, each with metadata where the format has some."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "a maker"
    large = picture(size=(160, 120))
    files: dict[str, bytes] = {}
    for mode in ("RGB", "L", "CMYK"):
        for name, options in {"": {}, ".progressive": {"progressive": True}, ".exif": {"exif": exif}}.items():
            files[f"{mode}{name}.jpg"] = encoded(large.convert(mode), "JPEG", icc_profile=bytes(500), **options)
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
        image = large.convert("I").convert("I;16") if mode == "I;16" else large.convert(mode)
        files[f"{mode}.png"] = encoded(image, "PNG", exif=exif, icc_profile=bytes(500))
    frames = [large.rotate(angle) for angle in (90, 180)]
    animated = {"save_all": True, "append_images": frames}
    files |= {"animated.png": encoded(large, "PNG", **animated), "animated.webp": encoded(large, "WEBP", **animated)}
    files |= {
        "animated.gif": encoded(large, "GIF", comment=b"a comment", **animated),
        "one.gif": encoded(large, "GIF"),
    }
    for lossless in (False, True):
        for mode in ("RGB", "RGBA"):
            options = {"lossless": lossless, "exif": exif, "icc_profile": bytes(500)}
            files[f"{mode}.{lossless}.webp"] = encoded(large.convert(mode), "WEBP", **options)
    for mode in ("1", "L", "P", "RGB", "RGBA"):
        files[f"{mode}.bmp"] = encoded(large.convert(mode), "BMP")
    for compression in (None, "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "zstd", "lzma", "group4"):
        for mode in (
            ("1",) if compression == "group4" else ("L", "RGB") if compression == "jpeg" else ("RGB", "P", "CMYK")
        ):
            options = {"compression": compression} if compression else {}
            files[f"{mode}.{compression}.tif"] = encoded(large.convert(mode), "TIFF", exif=exif, **options)
    return files


def mutated_images(count: int, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """Damaged files by name: each of a sound one with bytes changed, cut, doubled, moved, or numbers made large."""
    draw = random.Random(seed)
    sound = sound_images()
    for number in range(count):
        name = draw.choice(sorted(sound))
        data, kind = bytearray(sound[name]), draw.choice(sorted(_KINDS))
        for _ in range(draw.choice((1, 1, 2, 5))):
            _KINDS[kind](data, draw)
        if name.endswith(".png") and draw.random() < 0.7:
            data = bytearray(_with_right_checksums(bytes(data)))
        yield f"{number:05d}.{kind}.{name}", bytes(data)


def _place(data: bytearray, draw: random.Random) -> int:
    # Half of all changes in the first bytes, where sizes and tables are.
    return draw.randrange(min(len(data), draw.choice((64, 700, len(data)))) or 1)


def _flip(data, draw):
    data[_place(data, draw)] ^= 1 << draw.randrange(8)


def _change(data, draw):
    data[_place(data, draw)] = draw.choice((0, 1, 0x7F, 0x80, 0xFE, 0xFF, draw.randrange(256)))


def _cut(data, draw):
    del data[_place(data, draw) + 1 :]


def _drop(data, draw):
    place = _place(data, draw)
    del data[place : place + draw.choice((1, 4, 100))]


def _double(data, draw):
    begin, length = _place(data, draw), draw.choice((2, 16, 200, 5000))
    data[begin:begin] = data[begin : begin + length] * draw.choice((1, 2, 1000 if length <= 200 else 20))


def _enlarge(data, draw):
    place = _place(data, draw)
    number = draw.choice((0, 255, 8000, 65535, 100_000, 2**31 - 1, 2**32 - 1))
    width = draw.choice((2, 4)) if number < 65536 else 4
    order = draw.choice("<>")
    data[place : place + width] = struct.pack(order + ("H" if width == 2 else "L"), number)


_KINDS = {function.__name__[1:]: function for function in (_flip, _change, _cut, _drop, _double, _enlarge)}


def _with_right_checksums(data: bytes) -> bytes:
    """A PNG whose checksums fit what was changed: else nothing behind them would be reached."""
    parts, at = [data[:8]], 8
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">L4s", data, at)
        if at + 12 + length > len(data):
            break
        parts.append(png_chunk(kind, data[at + 8 : at + 8 + length]))
        at += 12 + length
    return b"".join([*parts, data[at:]])
