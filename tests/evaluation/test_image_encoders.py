"""Image encoders: CLIP as GILL's script computes it; what is no CLIP is refused in one line."""

import shutil

import pytest
import torch
from transformers import CLIPImageProcessor, CLIPModel

from seed_hf.evaluation.image_encoders import ClipEncoder, InceptionEncoder, open_encoder
from seed_hf.images import load_image
from tiny_clip import save_clip, save_clip_vision
from tiny_sources import noise


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A whole CLIP, and an image encoder alone."""
    root = tmp_path_factory.mktemp("clip")
    save_clip(root / "whole")
    save_clip_vision(root / "vision")
    return root


@pytest.fixture(scope="module")
def images():
    return [load_image(noise(number, 40, 30)) for number in range(3)]


def test_features_are_those_of_gills_script(folders, images):
    encoder = ClipEncoder(folders / "whole", device="cpu")
    model = CLIPModel.from_pretrained(folders / "whole").eval()
    processor = CLIPImageProcessor.from_pretrained(folders / "whole")
    features = encoder.images(images)
    assert features.shape == (3, 8) and encoder.reads_text and len(encoder.facts["sha256"]) == 64
    with torch.no_grad():
        for image, mine in zip(images, features):  # one image at a time, as the script does
            pixels = processor(images=image, return_tensors="pt")["pixel_values"]
            theirs = model.visual_projection(model.vision_model(pixels).pooler_output)[0]
            torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-4)
    texts = ["a red apple", "a very long caption of an apple that does not fit"]
    both = encoder.texts(texts)
    torch.testing.assert_close(both[:1], encoder.texts(texts[:1]), atol=1e-5, rtol=1e-4)
    assert both.shape == (2, 8)


def test_an_image_encoder_alone_is_enough(folders, images):
    encoder = open_encoder(str(folders / "vision"), device="cpu")
    assert encoder.images(images).shape == (3, 8) and not encoder.reads_text
    with pytest.raises(ValueError, match="no text encoder"):
        encoder.texts(["a"])


def test_what_is_no_clip_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no CLIP here"):
        open_encoder(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "siglip"}')
    with pytest.raises(ValueError, match="a model of type 'siglip'"):
        open_encoder(str(tmp_path))
    with pytest.raises(FileNotFoundError, match="no such file of Inception weights"):
        InceptionEncoder(tmp_path / "weights.pth")


def test_a_damaged_clip_is_named(folders, tmp_path):
    shutil.copytree(folders / "whole", tmp_path / "clip")
    (tmp_path / "clip" / "preprocessor_config.json").unlink()
    with pytest.raises(ValueError, match="clip: cannot be loaded"):
        open_encoder(str(tmp_path / "clip"), device="cpu")
