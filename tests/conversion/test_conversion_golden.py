"""The authors' own numbers: codes equal, everything else within 1e-5, gradients within 1e-4 (fp32 on a CPU)."""

import pytest
import torch

from original import HEADS, SETS, golden_io, golden_weights
from seed_hf import SeedTokenizer
from seed_hf.conversion import compare_tokenizer, convert_original_tokenizer


@pytest.fixture(scope="module", params=SETS)
def golden(request):
    model, report = convert_original_tokenizer(golden_weights(request.param), **HEADS)
    return request.param, model, report


def test_every_key_is_used(golden):
    name, _, report = golden
    assert set(report.used) == set(golden_weights(name))
    assert not (report.unused or report.missing or report.unknown or report.replaced)
    assert bool(report.new) == (name == "stage1_contrastive")


def test_recognised_as_what_it_is(golden):
    name, model, report = golden
    expected = {
        "seed1_tokenizer": ("seed1", "qformer", False, False),
        "seed2_tokenizer": ("seed2", "mlp", False, True),
        "stage1_contrastive": ("stage1", "qformer", True, False),
        "stage2_text": ("seed1", "qformer", False, True),
        "stage2_image": ("seed2", "qformer", False, True),
    }[name]
    assert (report.kind, report.head, report.text_tower, report.embedding_decoder) == expected
    assert model.config.generation_target == ("image" if report.kind == "seed2" else "text")


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_parity(golden, attention):
    name, model, _ = golden
    model.set_attn_implementation(attention)
    recorded = golden_io(name)
    parity = compare_tokenizer(model, recorded)
    results = set(recorded) - {"pixel_values", "input_ids", "attention_mask", "text_features", "image_features"}
    assert {row.stage for row in parity.rows} == results
    for row in parity.rows:
        if row.stage == "codes":
            assert row.equal == 1.0
        else:
            assert row.relative <= (1e-4 if row.stage.startswith("grad_") else 1e-5), str(parity)
    assert parity.holds


def test_the_public_methods_say_the_same(golden):
    name, model, _ = golden
    recorded = golden_io(name)
    with torch.no_grad():
        if name == "stage1_contrastive":
            image = model.get_image_features(recorded["pixel_values"]).pooler_output
            text = model.get_text_features(recorded["input_ids"], recorded["attention_mask"]).pooler_output
            torch.testing.assert_close(image, recorded["image_feature"], atol=5e-6, rtol=1e-5)
            torch.testing.assert_close(text, recorded["text_feature"], atol=5e-6, rtol=1e-5)
            return
        codes = model.encode(recorded["pixel_values"])
        assert torch.equal(codes, recorded["codes"])
        drawn = recorded["generation_embeds"]
        torch.testing.assert_close(model.decode(codes).reshape(drawn.shape), drawn, atol=1e-4, rtol=1e-5)


def test_round_trip_through_a_folder(golden, tmp_path):
    name, model, _ = golden
    model.save_pretrained(tmp_path)
    again = SeedTokenizer.from_pretrained(tmp_path)
    assert again.dtype == torch.float32
    for key, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[key]), key
    pixels = golden_io(name)["pixel_values"]
    assert torch.equal(model.encode(pixels), again.encode(pixels))
    assert compare_tokenizer(again, golden_io(name)).holds


def test_half_precision_features_with_fp32_distances_change_few_codes():
    """bf16 weights change the features alone. Distances are in fp32, so equal features give equal codes."""
    model, _ = convert_original_tokenizer(golden_weights("seed1_tokenizer"), **HEADS)
    recorded = golden_io("seed1_tokenizer")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        codes = model.quantizer.encode(recorded["pre_quant"])
    assert torch.equal(codes, recorded["codes"])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda():
    recorded = golden_io("seed1_tokenizer")
    model = convert_original_tokenizer(golden_weights("seed1_tokenizer"), **HEADS)[0].to("cuda")
    pixels, expected = recorded["pixel_values"].cuda(), recorded["codes"].cuda()
    assert (model.encode(pixels) != expected).double().mean() < 0.01
    with torch.autocast("cuda", dtype=torch.bfloat16):
        codes = model.quantizer.encode(recorded["pre_quant"].cuda())
    assert (codes != expected).double().mean() < 0.01
    half = model.to(torch.bfloat16).encode(pixels.to(torch.bfloat16))
    differ = (half != expected).double().mean().item()
    print(f"bf16 weights and features: {100 * differ:.1f} % of the codes differ")
    assert half.shape == expected.shape and differ < 0.5
