"""Any file is read or refused within seconds and half a gigabyte; what is not pixels does not matter."""

import io
import struct
import sys

import numpy as np
import pytest
from PIL import Image

from hostile_images import (
    bombs,
    encoded,
    jpeg_segment,
    picture,
    png_chunk,
    sound_with_odd_metadata,
    with_jpeg_segments,
    with_png_chunks,
)
from image_sweep import check_costs, check_job
from mutated_images import mutated_images
from seed_hf.images import SeedImageError, limits, load_image, open_image
from seed_hf.images.limits import LimitedFile
from seed_hf.images.metadata import TooCostlyError, split_metadata
from seed_hf.modeling import image_preparation_seed


# Read without what is bad in them; the others are refused.
READ = {
    "segments.jpg", "exif.jpg", "chunks.png", "empty_data.png", "exif.png", "texts.png", "comment.gif",
    "same_strip.tif",
}  # fmt: skip
ODD = sound_with_odd_metadata()


@pytest.mark.skipif(sys.platform != "linux", reason="the memory of a process is read as on Linux")
def test_bombs_are_refused_or_read_without_their_charge(tmp_path):
    """In Pillow each takes more than 10 seconds or 0.5 GB, or many times its own size. Damaged files do not either."""
    files = bombs()
    errors = check_costs(tmp_path, {**files, **dict(mutated_images(200))})
    for name in files:
        assert (errors[name] is None) == (name in READ), (name, errors[name])
    for name, error in errors.items():
        assert error is None or name in error and "\n" not in error


def test_sound_rows_of_a_job_are_kept_among_damaged_ones(tmp_path):
    check_job(tmp_path, dict(mutated_images(60, seed=1)), sound=12)


@pytest.mark.parametrize("name", sorted(ODD))
def test_metadata_cannot_make_a_sound_image_unreadable(name):
    plain = {"png": "PNG", "webp": "PNG", "gif": "GIF", "jpg": "JPEG"}[name.rpartition(".")[2]]
    expected = picture("P" if plain == "GIF" else "RGB")
    expected = load_image(encoded(expected, plain, **({"quality": 95} if plain == "JPEG" else {})))
    assert np.array_equal(load_image(ODD[name]), expected)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_is_what_remains_of_the_metadata(kind, orientation):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = orientation, "a maker"
    options = {"lossless": True} if kind == "WEBP" else {"quality": 95} if kind == "JPEG" else {}
    data = encoded(picture(), kind, exif=exif, **options)
    expected = load_image(encoded(picture(), kind, **options))
    turn = [None, None, 0, 3, 1, 5, 4, 6, 2][orientation]  # Pillow's numbers of the turns
    expected = expected if turn is None else expected.transpose(turn)
    loaded = load_image(data)
    assert np.array_equal(loaded, expected)
    assert np.array_equal(load_image(loaded), expected)  # it is not turned again


def test_the_orientation_is_also_found_where_other_programs_write_it():
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    exif = Image.Exif()
    exif[0x0112] = 6
    raw = b"\nexif\n      26\n" + exif.tobytes().hex().encode() + b"\n"
    profile = png_chunk(b"iCCP", b"big\0\0" + bytes(100))  # beside something that Pillow stops at
    turned = {
        "xmp in PNG": with_png_chunks(profile + png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)),
        "EXIF as text": with_png_chunks(profile + png_chunk(b"tEXt", b"Raw profile type exif\0" + raw)),
        "xmp in JPEG": with_jpeg_segments(jpeg_segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp)),
        "xmp in WebP": encoded(picture(), "WEBP", lossless=True, xmp=xmp),
        "after the pixels": encoded(picture(), "PNG")[:-12] + png_chunk(b"eXIf", exif.tobytes()[6:])
        + png_chunk(b"IEND", b""),
    }  # fmt: skip
    for name, data in turned.items():
        assert load_image(data).size == (16, 24), name


def test_a_file_without_metadata_is_not_copied():
    for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"):
        data = encoded(picture("P" if kind == "GIF" else "RGB"), kind)
        assert split_metadata(data)[0] is data, kind


def test_of_an_animated_webp_one_frame_remains():
    frames = [Image.new("RGB", (24, 16), color) for color in ("green", "yellow")]
    data = encoded(picture(), "WEBP", lossless=True, save_all=True, append_images=frames, icc_profile=b"x" * 99)
    pixels, _ = split_metadata(data)
    opened = Image.open(io.BytesIO(pixels))
    assert opened.n_frames == 1 and "icc_profile" not in opened.info
    assert np.array_equal(load_image(data), picture())


def test_a_file_ends_after_so_many_reads_and_bytes(monkeypatch):
    file = LimitedFile(bytes(1000))
    with pytest.raises(TooCostlyError):
        for _ in range(2_000):
            file.seek(0)
            file.read()
    monkeypatch.setattr(limits, "_MAX_READS", 100)
    file = LimitedFile(bytes(1000))
    with pytest.raises(TooCostlyError):
        for _ in range(101):
            file.read(1)


def test_memory_is_counted_before_pixels_are_decoded():
    """Modes that are converted by a copy, or need much memory to decode, have a lower limit than plain RGB."""

    def size_of(color_type: int, side: int) -> tuple[int, int]:
        header = struct.pack(">IIBBBBB", side, side, 8, color_type, 0, 0, 0)
        chunks = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", b"") + png_chunk(b"IEND", b"")
        with open_image(b"\x89PNG\r\n\x1a\n" + chunks) as opened:
            return opened.size

    assert size_of(2, 8_000) == (8_000, 8_000)  # RGB
    assert size_of(6, 7_400) == (7_400, 7_400)  # RGBA
    with pytest.raises(SeedImageError, match="462 MB of memory"):
        size_of(6, 7_600)


def test_strips_give_the_same_pixels_as_the_whole(monkeypatch):
    """Large images are converted strip by strip."""
    monkeypatch.setattr(image_preparation_seed, "_PIXELS_AT_ONCE", 200)
    generator = np.random.default_rng(0)
    rgba = Image.fromarray(generator.integers(0, 256, (50, 40, 4), dtype=np.uint8))
    white = Image.new("RGBA", rgba.size, "white")
    assert np.array_equal(load_image(rgba), Image.alpha_composite(white, rgba).convert("RGB"))
    keyed = rgba.convert("RGB").quantize(16)
    keyed.info["transparency"] = bytes(range(0, 256, 16))
    whole = Image.alpha_composite(white, keyed.convert("RGBA")).convert("RGB")
    assert np.array_equal(load_image(keyed), whole)
    deep = generator.integers(0, 65536, (50, 40), dtype=np.uint16)
    assert np.array_equal(np.asarray(load_image(Image.fromarray(deep)))[..., 1], (deep.astype(int) + 128) // 257)
