"""NaN and infinity in pixels, weights and features are errors; no rows give no rows."""

import math

import pytest
import torch

from seed_hf.modeling.finite_values_seed import NotFiniteError
from tiny import tiny_tokenizer


@pytest.fixture
def pixels():
    return torch.randn(5, 3, 28, 28)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_pixels_that_are_not_finite_are_refused_by_row(pixels, value):
    """Each would give the same code 32 times."""
    model = tiny_tokenizer()
    pixels[3, 1, 2, 3] = value
    for compute in (model.encode, model.get_image_features):
        with pytest.raises(NotFiniteError, match="pixel_values .* row 3 of 5") as caught:
            compute(pixels)
        assert caught.value.rows == [3]
    pixels[0] = value
    with pytest.raises(NotFiniteError, match="rows 0, 3 of 5"):
        model.encode(pixels)


@pytest.mark.parametrize("value, first", [(math.nan, 0), (math.inf, 1), (-math.inf, 2)])
def test_weights_that_are_not_finite_are_refused_by_name(pixels, value, first):
    """Whichever it is: a single value of any matrix, bias, norm, query or codebook. Attention hides some of them."""
    model = tiny_tokenizer()
    codes = model.encode(pixels)
    uses = {
        "seeing": lambda: model.encode(pixels),
        "coding": lambda: model.encode(pixels),
        "drawing": lambda: (model.embed_codes(codes), model.decode(codes)),
        "matching": lambda: model.get_image_features(pixels).pooler_output,
    }
    for role, compute in uses.items():
        for name, weight in list(model.named_parameters())[first::5]:
            if name.partition(".")[0] in model.PARTS[role]:
                before = weight.detach().clone()
                with torch.no_grad():
                    weight.view(-1)[0] = value
                model.eval()  # the weights are looked at again
                with pytest.raises(NotFiniteError, match=f"The weight {name} holds"):
                    compute()
                with torch.no_grad():
                    weight.copy_(before)
    assert torch.equal(model.encode(pixels), codes)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_weights_that_break_later_are_found_by_what_they_compute(pixels, value):
    model = tiny_tokenizer()
    codes = model.encode(pixels)
    model.decode(codes)
    for name in ("vision_model.post_layernorm.bias", "code_encoder.0.bias", "quantizer.embedding.weight"):
        weight = model.get_parameter(name)
        before = weight.detach().clone()
        weight.data.view(-1)[-1] = value
        with pytest.raises(NotFiniteError, match=f"The weight {name} holds"):
            model.encode(pixels)
        weight.data.copy_(before)
    model.code_decoder[0].bias.data[0] = value
    with pytest.raises(NotFiniteError, match="code_decoder.0.bias"):
        model.decode(codes)


def test_no_images_give_no_codes():
    model = tiny_tokenizer()
    codes = model.encode(torch.zeros(0, 3, 28, 28))
    assert codes.shape == (0, 32) and codes.dtype == torch.int64
    assert model.decode(codes).shape == (0, 6, 20) and model.embed_codes(codes).shape == (0, 32, 24)
    assert model.get_image_features(torch.zeros(0, 3, 28, 28)).pooler_output.shape == (0, 16)


def test_the_number_type_is_named_where_it_is_too_small(pixels):
    model = tiny_tokenizer()
    with torch.no_grad():
        model.code_encoder[2].weight.fill_(2e38)
    with pytest.raises(NotFiniteError, match="features of rows 0, 1, 2, 3, 4 of 5 .* torch.float32"):
        model.encode(pixels)


def test_compiled_code_does_not_look_at_values(pixels, monkeypatch):
    """It cannot: a graph has no branches on values."""
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert tiny_tokenizer().encode(pixels * math.nan).shape == (5, 32)


def test_without_waiting_rows_are_marked(pixels):
    """As jobs on a GPU encode; the shard refuses such codes."""
    model = tiny_tokenizer()
    codes = model.encode(pixels)
    assert torch.equal(model.encode(pixels, check_finite=False), codes)
    pixels[3, 0, 0, 0] = math.nan
    marked = model.encode(pixels, check_finite=False)
    assert (marked[3] == -1).all() and torch.equal(marked[:3], codes[:3]) and torch.equal(marked[4:], codes[4:])
    model.code_encoder[0].bias.data[0] = math.inf
    assert (model.encode(pixels, check_finite=False) == -1).all()
    assert model.encode(pixels[:0], check_finite=False).shape == (0, 32)
