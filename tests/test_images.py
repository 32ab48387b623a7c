"""`load_image` makes every usable image upright RGB on white and refuses the others in one line."""

import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from seed_hf.images import MAX_PIXELS, SeedImageError, load_image
from seed_hf.modeling.image_processing_seed import SeedImageProcessor


def red_left(mode: str = "RGB", size=(8, 6)) -> Image.Image:
    """Left half red, right half blue, so that a turn or a wrong channel order shows."""
    image = Image.new("RGB", size, "blue")
    image.paste("red", (0, 0, size[0] // 2, size[1]))
    return image.convert(mode)


def is_red_left(image: Image.Image, tolerance: int = 40) -> bool:
    left, right = image.getpixel((1, 2)), image.getpixel((image.width - 2, 2))
    return np.allclose(left, (255, 0, 0), atol=tolerance) and np.allclose(right, (0, 0, 255), atol=tolerance)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "gif", "bmp", "tiff"])
def test_common_formats(tmp_path, suffix):
    red_left(size=(64, 48)).save(tmp_path / f"a.{suffix}")
    image = load_image(tmp_path / f"a.{suffix}")
    assert image.mode == "RGB" and image.size == (64, 48)
    assert is_red_left(image)


def test_the_content_decides_not_the_name(tmp_path):
    red_left().save(tmp_path / "a.jpg", format="PNG")
    assert is_red_left(load_image(str(tmp_path / "a.jpg")), tolerance=0)


def test_pil_images_take_the_same_way():
    image = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    assert load_image(image).getpixel((0, 0)) == (255, 255, 255)
    assert image.mode == "RGBA"  # the caller's image does not change


@pytest.mark.parametrize("size", [(1, 1), (1, 10000)])
def test_odd_sizes(tmp_path, size):
    Image.new("RGB", size, "red").save(tmp_path / "a.png")
    assert load_image(tmp_path / "a.png").size == size


def test_exif_rotation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 3  # turned by 180 degrees
    red_left().transpose(Image.Transpose.ROTATE_180).save(tmp_path / "a.png", exif=exif)
    assert is_red_left(load_image(tmp_path / "a.png"), tolerance=0)


def test_a_phone_jpeg_with_a_preview_is_one_image(tmp_path):
    red_left(size=(64, 48)).save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[Image.new("RGB", (8, 8))])
    assert Image.open(tmp_path / "a.jpg").n_frames == 2
    assert is_red_left(load_image(tmp_path / "a.jpg"))


@pytest.mark.parametrize("mode", ["P", "CMYK", "YCbCr"])
def test_colour_modes(tmp_path, mode):
    suffix = "png" if mode == "P" else "jpg"
    red_left(mode, (64, 48)).save(tmp_path / f"a.{suffix}", quality=95)
    assert is_red_left(load_image(tmp_path / f"a.{suffix}"))


@pytest.mark.parametrize("mode", ["1", "L"])
def test_gray(tmp_path, mode):
    image = Image.new(mode, (4, 4), 0)
    image.putpixel((1, 1), 255)
    image.save(tmp_path / "a.png")
    loaded = load_image(tmp_path / "a.png")
    assert loaded.getpixel((0, 0)) == (0, 0, 0) and loaded.getpixel((1, 1)) == (255, 255, 255)


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path, suffix):
    values = np.array([[0, 257 * 10], [257 * 128, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / f"a.{suffix}")
    assert np.array(load_image(tmp_path / f"a.{suffix}"))[..., 1].tolist() == [[0, 10], [128, 255]]


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_an_image_keeps_its_file_name(tmp_path, suffix):
    red_left().save(tmp_path / f"a.{suffix}")
    with Image.open(tmp_path / f"a.{suffix}") as image:
        SeedImageProcessor(size={"height": 28, "width": 28})(image)
        assert image.filename == str(tmp_path / f"a.{suffix}")


def test_transparency_goes_onto_white(tmp_path):
    Image.new("RGBA", (2, 2), (0, 0, 0, 0)).save(tmp_path / "rgba.png")
    Image.new("LA", (2, 2), (0, 0)).save(tmp_path / "la.png")
    palette = Image.new("P", (2, 2), 0)
    palette.putpalette([0, 0, 0, 255, 0, 0])
    palette.putpixel((1, 0), 1)
    palette.save(tmp_path / "palette.png", transparency=0)
    Image.new("RGB", (2, 2), (1, 2, 3)).save(tmp_path / "keyed.png", transparency=(1, 2, 3))
    Image.new("RGBA", (2, 2), (0, 0, 0, 128)).save(tmp_path / "half.png")
    for name in ("rgba", "la", "palette", "keyed"):
        assert load_image(tmp_path / f"{name}.png").getpixel((0, 0)) == (255, 255, 255), name
    assert load_image(tmp_path / "palette.png").getpixel((1, 0)) == (255, 0, 0)
    assert load_image(tmp_path / "half.png").getpixel((0, 0)) == pytest.approx((127, 127, 127), abs=1)


def refused(source, *words, **kwargs):
    with pytest.raises(SeedImageError) as caught:
        load_image(source, **kwargs)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_the_first_frame_of_an_animation_is_read(tmp_path, suffix):
    frames = [Image.new("RGB", (64, 48), color) for color in ("green", "yellow")]
    red_left(size=(64, 48)).save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames)
    assert is_red_left(load_image(tmp_path / f"a.{suffix}"))
    opened = Image.open(tmp_path / f"a.{suffix}")
    assert opened.n_frames == 3
    opened.seek(1)
    assert load_image(opened).getpixel((32, 24)) == pytest.approx((0, 128, 0), abs=4)  # the frame that was chosen


def test_a_tiff_of_several_pages_is_refused(tmp_path):
    red_left().save(tmp_path / "a.tiff", save_all=True, append_images=[Image.new("RGB", (8, 6), "green")])
    refused(tmp_path / "a.tiff", "a.tiff", "several pages")
    opened = Image.open(tmp_path / "a.tiff")
    refused(opened, "several pages")
    opened.seek(1)
    assert load_image(opened).getpixel((1, 2)) == (0, 128, 0)  # the page that was chosen


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "gif", "bmp", "tiff"])
def test_truncated_files_are_refused(tmp_path, suffix):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    refused(path, f"a.{suffix}")


def test_every_cut_of_a_png_is_refused_or_read_whole(tmp_path):
    red_left().save(tmp_path / "a.png")
    whole = (tmp_path / "a.png").read_bytes()
    for end in range(0, len(whole) - 12, 3):  # the last 12 bytes only say that the file ends
        (tmp_path / "b.png").write_bytes(whole[:end])
        try:
            assert is_red_left(load_image(tmp_path / "b.png"))
        except SeedImageError as error:
            assert "b.png" in str(error)


def test_not_images(tmp_path):
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.jpg").write_text("this is not an image")
    (tmp_path / "vector.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    red_left().save(tmp_path / "other.ppm")
    refused(tmp_path / "empty.png", "empty.png", "empty")
    refused(tmp_path / "text.jpg", "text.jpg", "JPEG")
    refused(tmp_path / "vector.svg", "vector.svg")
    refused(tmp_path / "other.ppm", "other.ppm")  # an image of a format that is not allowed
    refused(tmp_path / "missing.png", "missing.png", "no such file")
    refused(tmp_path, "folder")
    refused("a\0b.png")
    refused("a" * 300 + ".png", "aaa.png: cannot be read (File name too long).")
    refused(tmp_path / "text.jpg" / "in.png", "no such file")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    refused(tmp_path / "pipe.png", "not a regular file")


@pytest.mark.parametrize(
    "url", ["https://example.org/a.png", "HTTP://x/a.png", "file:///a.png", "data:image/png;base64,AA"]
)
def test_urls_are_refused(url):
    refused(url, "URL")


def test_wrong_type():
    with pytest.raises(TypeError, match="ndarray"):
        load_image(np.zeros((4, 4, 3), dtype=np.uint8))


def png_that_claims(width: int, height: int) -> bytes:
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 64)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, data) for kind, data in chunks)


@pytest.mark.parametrize("side", [8001, 10_000, 60_000])  # over our limit; where Pillow warns; where Pillow raises
def test_huge_images_are_refused_before_decoding(tmp_path, side, recwarn):
    (tmp_path / "huge.png").write_bytes(png_that_claims(side, side))
    refused(tmp_path / "huge.png", "huge.png", "64 million")
    assert not recwarn.list


def test_the_limit_is_inclusive(tmp_path):
    assert MAX_PIXELS == 64_000_000
    red_left().save(tmp_path / "a.png")
    assert load_image(tmp_path / "a.png", max_pixels=48).size == (8, 6)
    refused(tmp_path / "a.png", "8 x 6", max_pixels=47)


def test_floating_point_and_32_bit_pixels_are_refused(tmp_path):
    Image.fromarray(np.ones((2, 2), dtype=np.float32)).save(tmp_path / "f.tiff")
    refused(tmp_path / "f.tiff", "floating-point")
    refused(Image.fromarray(np.full((2, 2), 70_000, dtype=np.int32)), "16 bits")
