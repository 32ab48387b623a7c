"""Image encoders: CLIP as GILL's script computes it; what is no CLIP is refused in one line."""

import pytest
import torch
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTextConfig, CLIPVisionConfig
from transformers import CLIPVisionModelWithProjection as ClipVision

from seed_hf.evaluation.image_encoders import ClipEncoder, InceptionEncoder, open_encoder
from seed_hf.images import load_image
from tiny import tiny_text_tokenizer
from tiny_sources import noise


SIZES = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A whole CLIP, and an image encoder alone."""
    root = tmp_path_factory.mktemp("clip")
    tokenizer = tiny_text_tokenizer()
    vision = {"image_size": 28, "patch_size": 14, "projection_dim": 8, **SIZES}
    text = {
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 12,
        "projection_dim": 8,
        "eos_token_id": 2,
        **SIZES,
    }
    torch.manual_seed(0)
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)
    assert isinstance(config.text_config, CLIPTextConfig)
    CLIPModel(config).save_pretrained(root / "whole")
    tokenizer.save_pretrained(root / "whole")
    ClipVision(CLIPVisionConfig(**vision)).save_pretrained(root / "vision")
    size = {"size": {"shortest_edge": 28}, "crop_size": {"height": 28, "width": 28}}
    for name in ("whole", "vision"):
        CLIPImageProcessor(**size).save_pretrained(root / name)
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
