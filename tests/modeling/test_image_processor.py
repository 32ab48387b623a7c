"""From images to pixel values, by Pillow alone."""

import sys

import numpy as np
import pytest
import torch
from PIL import Image

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
