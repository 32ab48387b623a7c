"""Small image files that would hold a reader up for minutes or fill its memory, and sound ones with odd metadata."""

import io
import struct
import zlib

import numpy as np
from PIL import Image


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def picture(mode: str = "RGB", size: tuple[int, int] = (24, 16)) -> Image.Image:
    """Left half red, right half blue, with a gradient downwards, so that every turn and cut shows."""
    width, height = size
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[:, : width // 2, 0] = pixels[:, width // 2 :, 2] = 200
    pixels[..., 1] = np.linspace(0, 120, height, dtype=np.uint8)[:, None]
    return Image.fromarray(pixels).convert(mode)


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def with_png_chunks(chunks: bytes, image: Image.Image | None = None) -> bytes:
    """A PNG with these chunks between its header and its pixels."""
    plain = encoded(image or picture(), "PNG")
    return plain[:33] + chunks + plain[33:]


def with_jpeg_segments(segments: bytes, image: Image.Image | None = None, **options) -> bytes:
    plain = encoded(image or picture(), "JPEG", quality=95, **options)
    return plain[:2] + segments + plain[2:]


def with_gif_blocks(blocks: bytes) -> bytes:
    plain = encoded(picture("P"), "GIF")
    at = 13 + (3 << (plain[10] & 7) + 1)
    return plain[:at] + blocks + plain[at:]


def jpeg_segment(marker: int, data: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data


def tiff(entries: list[tuple[int, int, int, int]], rest: bytes = b"", next_page: int = 0) -> bytes:
    """A little-endian TIFF: entries are (tag, type, count, value or offset); `rest` follows the directory."""
    directory = b"".join(struct.pack("<HHLL", *entry) for entry in entries)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + directory + struct.pack("<L", next_page) + rest


def gray_tiff(width: int, height: int, *more, **options) -> bytes:
    entries = {256: (4, 1, width), 257: (4, 1, height), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1), 277: (3, 1, 1)}
    entries |= {tag: rest for tag, *rest in more}
    return tiff([(tag, *entries[tag]) for tag in sorted(entries)], **options)


def exif_bomb(size: int) -> bytes:
    """EXIF whose many tags all hold the same bytes, most of the block: Pillow copies them for each tag."""
    count = min(size // 24, 20_000)
    entries = [(0x9000 + number, 7, size // 2, 8 + 2) for number in range(count)]
    return b"Exif\0\0" + tiff(entries, bytes(size - 12 * count))


def bombs() -> dict[str, bytes]:
    """Files that are refused, or read without what is bad in them, each within a second and half a gigabyte."""
    progressive = encoded(Image.new("RGB", (2000, 2000), "red"), "JPEG", progressive=True)
    empty_scan = b"\xff\xda\x00\x08\x01\x01\x00\x01\x3f\x10"
    baseline = encoded(Image.new("L", (2000, 2000)), "JPEG")
    color = encoded(Image.new("RGB", (640, 640)), "JPEG", subsampling=0)
    scan = color.index(b"\xff\xda")
    one_component = color[:scan] + b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00"
    page = gray_tiff(8, 8, (273, 4, 1, 8), (279, 4, 1, 64))
    ring = b"".join(
        struct.pack("<H", 1) + struct.pack("<HHLL", 256, 4, 1, 8) + struct.pack("<L", len(page) + 64 + 18 * (n + 1))
        for n in range(20_000)
    )
    rle = encoded(Image.new("P", (8, 8)), "BMP")
    return {
        "scans.jpg": progressive[:-2] + empty_scan * 15_000 + b"\xff\xd9",
        "baseline_scans.jpg": one_component + empty_scan * 15_000 + b"\xff\xd9",
        "hidden_scans.jpg": progressive[:-2] + b"\xff\xfe\0\x04\xff\xd9" + empty_scan * 15_000 + b"\xff\xd9",
        "segments.jpg": with_jpeg_segments(b"\xff\xe5\0\2" * 100_000),
        "junk.jpg": with_jpeg_segments(b"\0" * 2_000_000),
        "exif.jpg": baseline[:2]
        + b"".join(
            jpeg_segment(0xE1, b"Exif\0\0" + part)
            for bomb in [exif_bomb(2_000_000)[6:]]
            for part in (bomb[at : at + 65_000] for at in range(0, len(bomb), 65_000))
        )
        + baseline[20:],
        "hidden_exif.jpg": with_jpeg_segments(
            b"\xff\xf0" + b"".join(jpeg_segment(0xE1, exif_bomb(65_000)) for _ in range(20)) + b"\xff\xd9"
        ),
        "chunks.png": with_png_chunks(png_chunk(b"teXt", b"") * 100_000),
        "empty_data.png": (lambda p: p[:33] + png_chunk(b"IDAT", b"") * 100_000 + p[33:])(encoded(picture(), "PNG")),
        "exif.png": with_png_chunks(png_chunk(b"eXIf", exif_bomb(1_000_000)[6:])),
        "texts.png": with_png_chunks(png_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1_000_000))) * 100),
        "one_row.png": encoded(Image.new("1", (70_000, 1)), "PNG"),
        "comment.gif": with_gif_blocks(b"!\xfe" + (b"\xff" + b"a" * 255) * 32_000 + b"\0"),
        "int32.tif": gray_tiff(8000, 8000, (258, 3, 1, 32), (259, 3, 1, 8), (273, 4, 1, 200), (279, 4, 1, 8)),
        "pages.tif": page[:8] + page[8:-4] + struct.pack("<L", len(page) + 64) + bytes(64) + ring,
        "tags.tif": tiff([(0x9000 + n, 7, 1_000_000, 8) for n in range(20_000)], bytes(1_000_000)),
        "strips.tif": gray_tiff(8, 8, (273, 4, 2_000_000, 200), (278, 4, 1, 1), rest=bytes(8_000_000)),
        "same_strip.tif": gray_tiff(
            2000, 2000, (273, 3, 90_000, 200), (279, 4, 1, 64), (278, 4, 1, 2000), rest=bytes(4_200_000)
        ),
        "overlap.tif": gray_tiff(
            8, 60_000, (259, 3, 1, 5), (266, 3, 1, 2), (273, 3, 60_000, 200), (278, 4, 1, 1),
            (279, 4, 60_000, 120_200), rest=bytes(120_200) + struct.pack("<L", 300_000) * 60_000,
        ),
        "odd_tag.tif": gray_tiff(8, 8, (259, 3, 1, 8), (273, 4, 1, 200), (278, 1, 4, 8), (279, 4, 1, 8)),
        "tile.tif": gray_tiff(
            8, 8, (259, 3, 1, 8), (322, 4, 1, 46_000), (323, 4, 1, 46_000), (324, 4, 1, 300), (325, 4, 1, 1000),
            rest=bytes(1200),
        ),
        "wide.bmp": rle[:18] + struct.pack("<ll", 60_000_000, 1) + rle[26:30] + struct.pack("<L", 1) + rle[34:54]
        + bytes(1024) + b"\0\2\xff\xff" * 10,
        "rle.bmp": rle[:18] + struct.pack("<ll", 8000, 8000) + rle[26:30] + struct.pack("<L", 1) + rle[34:54]
        + bytes(1024) + b"\1\1\0\0" * 100_000,
        "canvas.webp": b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\2\0\0\0" + b"\xff" * 6,
    }  # fmt: skip


def sound_with_odd_metadata() -> dict[str, bytes]:
    """Files whose pixels are those of [`picture`], and whose metadata is damaged or large."""
    broken = png_chunk(b"eXIf", b"MM\0*\0\0\0\x08\xff\xff")
    profile = zlib.compress(bytes(2_000_000))
    webp = encoded(
        picture(), "WEBP", lossless=True, exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\1\2", icc_profile=bytes(2_000_000)
    )
    files = {
        "exif.png": with_png_chunks(broken),
        "exif_checksum.png": with_png_chunks(broken[:-1] + b"\0"),
        "exif_raw.png": with_png_chunks(png_chunk(b"tEXt", b"Raw profile type exif\0\nexif\n  9\nzz\n")),
        "profile.png": with_png_chunks(png_chunk(b"iCCP", b"big\0\0" + profile)),
        "profile_method.png": with_png_chunks(png_chunk(b"iCCP", b"odd\0\7" + profile)),
        "texts.png": with_png_chunks(png_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1_000_000))) * 70),
        "long_text.png": with_png_chunks(png_chunk(b"iTXt", b"a\0\1\0\0\0" + profile)),
        "short.png": with_png_chunks(png_chunk(b"gAMA", b"") + png_chunk(b"pHYs", b"1") + png_chunk(b"sRGB", b"")),
        "frames.png": with_png_chunks(png_chunk(b"acTL", b"1") + png_chunk(b"fcTL", bytes(26)) * 3),
        "late_text.png": encoded(picture(), "PNG")[:-12]
        + png_chunk(b"zTXt", b"a\0\0" + profile)
        + png_chunk(b"IEND", b""),
        "metadata.webp": webp,
        "cut_exif.webp": webp[:-3],
        "comment.gif": with_gif_blocks(
            b"!\xfe\5abcde\0" * 1000 + b"!\xff\x0bICCRGBG1012" + b"\xff" + bytes(255) + b"\0"
        ),
        "exif.jpg": with_jpeg_segments(jpeg_segment(0xE1, b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\1\x12\0\3\0\0\0\1")),
        "empty_exif.jpg": with_jpeg_segments(jpeg_segment(0xE1, b"Exif\0\0")),
        "mpf.jpg": with_jpeg_segments(jpeg_segment(0xE2, b"MPF\0MM\0*\0\0\0\x08\0\1\xb0\1\0\4\0\0\0\1\0\0\0\2")),
        "photoshop.jpg": with_jpeg_segments(jpeg_segment(0xED, b"Photoshop 3.0\x008BIM\x03\xed\0\0\0\0\xff\xff")),
        "profile.jpg": with_jpeg_segments(jpeg_segment(0xE2, b"ICC_PROFILE\0") * 40),
    }
    return files
