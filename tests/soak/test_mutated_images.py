"""Thousands of damaged images: none takes long or much, and no sound row is lost. `tests/test_image_limits.py` takes a
sample."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hostile_images import bombs, encoded
from image_sweep import check_costs, check_job
from mutated_images import mutated_images, sound_images


SPACE = Path(__file__).parents[2] / "spaces" / "see-and-draw"
pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(sys.platform != "linux", reason="the memory of a process is read as on Linux"),
]
space_is_installed = pytest.mark.skipif(importlib.util.find_spec("gradio") is None, reason="needs gradio")


def large_images() -> dict[str, bytes]:
    """Plain images at the limit of pixels, which small files may hold."""
    zeros = np.zeros((8000, 8000), dtype=np.int32)
    made = {"int32.tif": encoded(Image.fromarray(zeros), "TIFF", compression="tiff_deflate")}
    made["uint16.png"] = encoded(Image.fromarray(zeros.astype(np.uint16)), "PNG")
    for kind, mode, side in (("JPEG", "RGB", 8000), ("PNG", "RGBA", 7400), ("WEBP", "RGBA", 5250), ("GIF", "P", 8000)):
        made[f"{mode}.{kind}"] = encoded(Image.new(mode, (side, side)), kind)
    made["progressive.jpg"] = encoded(Image.new("RGB", (7400, 7400)), "JPEG", progressive=True)
    return made


def test_large_images_are_read_in_half_a_gigabyte(tmp_path):
    errors = check_costs(tmp_path, large_images())
    assert {name for name, error in errors.items() if error} == {"int32.tif"}


@pytest.mark.parametrize("seed", range(4))
def test_the_command_line(tmp_path, seed):
    errors = check_costs(tmp_path, {**bombs(), **dict(mutated_images(5000, seed)), **sound_images()})
    assert not [name for name in sound_images() if errors[name]]


@space_is_installed
def test_the_space(tmp_path):
    errors = check_costs(tmp_path, {**bombs(), **dict(mutated_images(1000, seed=5)), **sound_images()}, SPACE)
    assert not [name for name in sound_images() if errors[name]]


@pytest.mark.parametrize("workers", [0, 2])
def test_jobs(tmp_path, workers):
    check_job(tmp_path, {**bombs(), **dict(mutated_images(1000, seed=6))}, sound=300, workers=workers)
