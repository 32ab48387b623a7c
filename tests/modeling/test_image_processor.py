"""From images to pixel values, by Pillow alone."""

import base64
import struct
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from seed_hf.data.jobs.decoding import ImageDecoder
from seed_hf.data.jobs.pixel_values import normalisation_table, normalise
from seed_hf.data.sources.filters import RowFilters
from seed_hf.images import load_image
from seed_hf.images.metadata import minimal_exif
from seed_hf.modeling.image_processing_seed import SeedImageProcessor
from tiny_language import picture


MEAN = np.array([0.48145466, 0.4578275, 0.40821073])
STD = np.array([0.26862954, 0.26130258, 0.27577711])


def noise(width, height, channels=3):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8))


def test_is_a_bicubic_squash_with_clip_normalisation():
    image = noise(300, 123)
    values = SeedImageProcessor()(image, return_tensors="pt")["pixel_values"]
    plain = np.asarray(image.resize((224, 224), Image.Resampling.BICUBIC)) / 255
    expected = torch.from_numpy((plain - MEAN) / STD).permute(2, 0, 1).float()
    assert values.shape == (1, 3, 224, 224) and values.dtype == torch.float32
    torch.testing.assert_close(values[0], expected, atol=1e-6, rtol=0)


def test_size_and_batch():
    values = SeedImageProcessor(size={"height": 96, "width": 96})([noise(10, 300), noise(97, 95)], return_tensors="pt")
    assert values["pixel_values"].shape == (2, 3, 96, 96)


@pytest.mark.parametrize("mode", ["L", "P", "1", "CMYK", "RGB"])
def test_opaque_modes_become_rgb(mode):
    image = noise(30, 30).convert(mode)
    processor = SeedImageProcessor(size={"height": 30, "width": 30})
    torch.testing.assert_close(
        processor(image, return_tensors="pt")["pixel_values"],
        processor(image.convert("RGB"), return_tensors="pt")["pixel_values"],
    )


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "P"])
def test_transparent_pixels_are_white(mode):
    image = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    if mode == "P":
        image = Image.new("P", (8, 8), 0)
        image.info["transparency"] = 0
    else:
        image = image.convert(mode)
    processor = SeedImageProcessor(size={"height": 8, "width": 8})
    values = processor(image, return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(values, processor(picture("white"), return_tensors="pt")["pixel_values"])


def gray_tiff(bits: int, zero_is_white: bool, pixels: bytes) -> bytes:
    """A TIFF of 4 x 4 gray pixels as it is stored."""
    tags = [(256, 4), (257, 4), (258, bits), (259, 1), (262, 0 if zero_is_white else 1), (273, 8), (277, 1), (278, 4)]
    entries = [struct.pack("<HHLL", tag, 3, 1, value) for tag, value in (*tags, (279, len(pixels)))]
    directory = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    return b"II*\0" + struct.pack("<L", 8 + len(pixels)) + pixels + directory


@pytest.mark.parametrize(
    ("bits", "zero_is_white", "pixels", "level"),
    [
        (8, True, bytes([250] * 16), 5),
        (16, True, struct.pack("<H", 64000) * 16, 6),
        (16, False, struct.pack("<H", 64000) * 16, 249),
        (12, False, b"\xff" * 24, 255),
    ],
)
def test_tiffs_have_the_light_that_their_tags_say(bits, zero_is_white, pixels, level):
    assert load_image(gray_tiff(bits, zero_is_white, pixels)).getpixel((0, 0)) == (level,) * 3


def test_sixteen_bits_are_read_in_both_byte_orders():
    processor = SeedImageProcessor(size={"height": 8, "width": 8})
    values = np.arange(8 * 8 * 3, dtype=np.uint16).reshape(8, 8, 3) * 300
    little, big = (processor(values.astype(kind), return_tensors="pt").pixel_values for kind in ("<u2", ">u2"))
    assert torch.equal(little, big) and little.amax() > 1


def test_save_and_load(tmp_path):
    first = SeedImageProcessor(size={"height": 32, "width": 32}, image_mean=[0.5, 0.5, 0.5])
    first.save_pretrained(tmp_path / "a")
    second = SeedImageProcessor.from_pretrained(tmp_path / "a")
    second.save_pretrained(tmp_path / "b")
    name = "preprocessor_config.json"
    assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    image = noise(50, 40)
    assert torch.equal(
        first(image, return_tensors="pt")["pixel_values"], second(image, return_tensors="pt")["pixel_values"]
    )


def test_torchvision_is_not_needed(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)  # an import of it raises now
    assert SeedImageProcessor()(picture(), return_tensors="pt")["pixel_values"].shape == (1, 3, 224, 224)


PROCESSOR = SeedImageProcessor(size={"height": 20, "width": 20})


def pixel_values(image, **settings):
    return PROCESSOR(image, return_tensors="pt", **settings)["pixel_values"]


ALL_MODES = "1 L LA La P PA RGB RGBA RGBa RGBX CMYK YCbCr HSV LAB I I;16".split()


def in_mode(mode, size=(30, 24)):
    image = noise(*size, 4)
    gray = np.asarray(image.convert("L")).astype(np.uint16) * 200
    if mode in ("I", "I;16"):
        return Image.fromarray(gray if mode == "I;16" else gray.astype(np.int32))
    step = {"P": "RGB", "PA": "P", "La": "LA"}.get(mode, "RGBA" if mode in ("LA", "RGBa") else "RGB")
    return image if mode == "RGBA" else image.convert("RGB" if step == "P" else step).convert(mode)


@pytest.mark.parametrize("mode", ALL_MODES)
def test_the_processor_sees_what_the_command_line_and_jobs_see(mode):
    """One preparation for all ways in: every mode, turned by EXIF, and from a file."""
    image, turned = in_mode(mode), in_mode(mode)
    assert torch.equal(pixel_values(image), pixel_values(load_image(image)))
    turned.info["exif"] = minimal_exif(6)
    assert load_image(turned).size == (24, 30)
    assert torch.equal(pixel_values(turned), pixel_values(load_image(turned)))
    assert torch.equal(pixel_values(turned), pixel_values(load_image(image).transpose(Image.Transpose.ROTATE_270)))


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF", "JPEG", "BMP"])
def test_files_give_the_same_as_paths_and_opened(tmp_path, kind):
    image = in_mode({"GIF": "P", "PNG": "I;16", "WEBP": "RGBA", "TIFF": "CMYK", "JPEG": "L", "BMP": "RGB"}[kind])
    options = {"exif": minimal_exif(6)} if kind in ("PNG", "WEBP", "TIFF", "JPEG") else {}
    if kind == "GIF":
        options = {"save_all": True, "append_images": [in_mode("P").rotate(180)], "transparency": 3}
    path = tmp_path / "image"
    image.save(path, kind, **options)
    expected = pixel_values(load_image(path))
    assert torch.equal(pixel_values(Image.open(path)), expected)
    assert torch.equal(pixel_values(str(path)), expected)
    assert torch.equal(pixel_values(base64.b64encode(path.read_bytes()).decode()), expected)
    decode = ImageDecoder(20, 20, int(PROCESSOR.resample), RowFilters())
    pixels, rejections = decode([path.read_bytes()])
    assert rejections == [None]
    assert torch.equal(normalise(torch.from_numpy(pixels), normalisation_table(PROCESSOR)), expected)


def test_floating_point_pixels_are_refused_in_files():
    with pytest.raises(ValueError, match="floating-point"):
        pixel_values(Image.fromarray(np.ones((4, 4), dtype=np.float32)))


def every_array_of(levels):
    """The same image in other number types and layouts; `levels` are uint8 `(height, width, 3)`."""
    first = np.moveaxis(levels, -1, 0)
    yield "uint8", levels
    yield "channels first", first
    yield "uint16", levels.astype(np.uint16) * 257
    yield "int64", levels.astype(np.int64)
    for kind in (np.float16, np.float32, np.float64):
        yield f"{kind.__name__} to 1", (first / 255).astype(kind)
        yield f"{kind.__name__} to 255", levels.astype(kind)
    yield "tensor", torch.from_numpy(first.copy())
    yield "tensor to 1", torch.from_numpy(first / 255).float().requires_grad_()
    yield "bfloat16 to 255", torch.from_numpy(first.copy()).bfloat16()
    yield "opaque", np.concatenate([levels, np.full_like(levels[..., :1], 255)], -1)
    yield "opaque to 1", np.concatenate([levels / 255, np.ones_like(levels[..., :1])], -1)


def test_arrays_and_tensors_give_the_same_as_the_image():
    image = noise(30, 24)
    for name, array in every_array_of(np.asarray(image)):
        assert torch.equal(pixel_values(array), pixel_values(image)), name
        assert torch.equal(pixel_values([array, array])[1], pixel_values(image)[0]), name
        assert np.array_equal(PROCESSOR.process_image(array), np.moveaxis(np.asarray(image), -1, 0)), name


def test_gray_and_transparent_arrays():
    gray = noise(30, 24).convert("L")
    levels = np.asarray(gray)
    for array in (levels, levels[None], levels[..., None], levels / 255, levels.astype(np.uint16) * 257):
        assert torch.equal(pixel_values(array), pixel_values(gray))
    mask = levels > 100
    assert torch.equal(pixel_values(mask), pixel_values(Image.fromarray(mask)))
    clear = in_mode("RGBA")
    for array in (np.asarray(clear), np.asarray(clear) / 255, np.moveaxis(np.asarray(clear), -1, 0)):
        assert torch.equal(pixel_values(array), pixel_values(clear))


def test_scaled_images_stay_scaled_without_rescaling():
    """As in transformers, `do_rescale=False` is for images that lie in 0..1 already."""
    image = noise(30, 24)
    scaled = np.asarray(image).astype(np.float32) / 255
    assert torch.equal(pixel_values(scaled, do_rescale=False), pixel_values(image))
    raw = pixel_values(image, do_rescale=False, do_normalize=False)
    assert raw.dtype == torch.uint8 and raw.max() > 1
    plain = pixel_values(scaled, do_rescale=False, do_normalize=False, do_resize=False)
    assert torch.equal(plain[0], pixel_values(image, do_normalize=False, do_resize=False)[0])


@pytest.mark.parametrize(
    "array, words",
    [
        (np.full((4, 4, 3), np.nan, dtype=np.float32), "NaN or infinite"),
        (np.full((4, 4, 3), -1.0), r"-1.0\.\.-1.0"),
        (np.full((4, 4, 3), 300.0), "in 0..255, or in 0..1"),
        (np.full((4, 4, 3), 300), "16 bits a channel are uint16"),
        (np.full((4, 4, 3), 1j), "must be numbers"),
        (np.zeros((0, 4, 3), dtype=np.uint8), "at least one pixel"),
        (np.zeros((5, 5, 2), dtype=np.uint8), "channel"),
    ],
)
def test_ambiguous_arrays_are_refused_by_number(array, words):
    with pytest.raises((ValueError, TypeError), match=words):
        pixel_values(array)
    if array.dtype.kind != "c":
        with pytest.raises(ValueError, match="Image 1: "):
            PROCESSOR([np.zeros((4, 4, 3), dtype=np.uint8), array] if array.size else [noise(4, 4), array])


def test_no_images_give_no_rows():
    assert pixel_values([]).shape == (0, 3, 20, 20)
    assert pixel_values([]).dtype == torch.float32


def test_unreadable_strings_are_named():
    with pytest.raises(ValueError, match="no-such-file.png: neither an existing file nor an address"):
        pixel_values("no-such-file.png")


def test_an_image_without_pixels_is_refused():
    with pytest.raises(ValueError, match="no pixels: 0 x 5"):
        SeedImageProcessor()(Image.new("RGB", (0, 5)))
