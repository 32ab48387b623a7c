"""The visual tokenizer: shapes, causality, codes, losses, what is frozen when, saving."""

import math

import pytest
import torch
from torch.nn import functional as F

from seed_hf.modeling import modeling_seed_quantizer
from seed_hf.modeling.configuration_seed import SeedTokenizerConfig
from seed_hf.modeling.losses_seed import contrastive_loss
from seed_hf.modeling.modeling_seed_quantizer import SeedVectorQuantizer
from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer
from tiny import tiny_tokenizer, tiny_tokenizer_config


@pytest.fixture
def pixels():
    return torch.randn(5, 3, 28, 28)


def image_features(model, *pixels, **codes):
    return model.get_image_features(*pixels, **codes).pooler_output


def text_features(model, *texts):
    return model.get_text_features(*texts).pooler_output


def count(module):
    return sum(p.numel() for p in module.parameters())


# Sizes


def test_full_size_has_the_published_parameter_counts():
    with torch.device("meta"):
        model = SeedTokenizer(SeedTokenizerConfig(embedding_decoder=False))
    vision = model.vision_model
    # transformers fuses the attention biases and so stores a zero for the keys, and counts the norm after the ViT.
    zero_key_biases = 39 * 1408
    norm = count(vision.post_layernorm)
    assert count(vision) - zero_key_biases - norm == 985_894_528
    assert count(model) - count(vision) + norm == 168_175_424
    assert count(model.qformer) == 105_137_664


def test_full_size_text_path_has_the_published_parameter_count():
    with torch.device("meta"):
        model = SeedTokenizer(SeedTokenizerConfig(text_tower=True))
    assert count(model.qformer) == 161_825_280


@pytest.mark.parametrize("head, target", [("qformer", "text"), ("qformer", "image"), ("mlp", "image")])
def test_generation_targets(pixels, head, target):
    tokens = 6 if target == "text" else 1
    model = tiny_tokenizer(generation_head=head, generation_target=target, num_generation_tokens=tokens)
    embeddings = model.decode(model.encode(pixels))
    assert embeddings.shape == ((5, 6, 20) if target == "text" else (5, 20))
    assert model(pixels).generation_embeddings.shape == embeddings.shape


def test_the_mlp_head_of_full_size_is_the_published_one():
    with torch.device("meta"):
        model = SeedTokenizer(SeedTokenizerConfig(generation_target="image", generation_head="mlp"))
    # `image_down` and `distill_image_proj`
    assert count(model.generation_decoder.bottleneck) == 233_472
    assert count(model.generation_decoder.projection) == 1_049_600


@pytest.mark.parametrize(
    "wrong",
    [
        {"generation_target": "audio"},
        {"generation_head": "linear"},
        {"generation_head": "mlp"},
        {"generation_target": "image", "num_generation_tokens": 77},
        {"codebook_size": 0},
    ],
)
def test_impossible_configurations_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        tiny_tokenizer_config(**wrong)


# Causality


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_later_queries_do_not_reach_earlier_embeddings(pixels, attention):
    model = tiny_tokenizer()
    model.set_attn_implementation(attention)
    with torch.no_grad():
        before = model.get_causal_embeddings(pixels)
        model.query_tokens[:, 20:] += torch.randn_like(model.query_tokens[:, 20:])
        after = model.get_causal_embeddings(pixels)
    assert torch.equal(before[:, :20], after[:, :20])
    assert not torch.allclose(before[:, 20:], after[:, 20:], atol=1e-3)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_earlier_queries_do_reach_later_embeddings(pixels, attention):
    model = tiny_tokenizer()
    model.set_attn_implementation(attention)
    with torch.no_grad():
        before = model.get_causal_embeddings(pixels)
        model.query_tokens[:, 0] += torch.randn(24)
        after = model.get_causal_embeddings(pixels)
    assert (before[:, -1] - after[:, -1]).abs().amax() > 1e-4


def test_bilateral_queries_see_each_other(pixels):
    model = tiny_tokenizer(causal_queries=False)
    with torch.no_grad():
        before = model.get_causal_embeddings(pixels)
        model.query_tokens[:, 20:] += torch.randn(12, 24)
        after = model.get_causal_embeddings(pixels)
    assert (before[:, 0] - after[:, 0]).abs().amax() > 1e-4


def test_eager_equals_sdpa(pixels):
    model = tiny_tokenizer()
    with torch.no_grad():
        found = {}
        for attention in ("eager", "sdpa"):
            model.set_attn_implementation(attention)
            assert model.embedding_decoder.encoder.config._attn_implementation == attention
            found[attention] = model(pixels)
    assert torch.equal(found["eager"].codes, found["sdpa"].codes)
    torch.testing.assert_close(
        found["eager"].generation_embeddings, found["sdpa"].generation_embeddings, atol=1e-5, rtol=1e-5
    )


# Codes


def test_codes_do_not_depend_on_the_batch(pixels):
    model = tiny_tokenizer()
    together = model.encode(pixels)
    assert together.shape == (5, 32) and together.dtype == torch.int64
    assert len(together.unique()) > 5
    assert torch.equal(together, torch.cat([model.encode(one[None]) for one in pixels]))


def test_distances_are_fp32_under_autocast():
    quantizer = SeedVectorQuantizer(512, 8)
    quantizer.embedding.weight.data.normal_()
    vectors = torch.randn(4, 32, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = quantizer.encode(vectors)
    assert torch.equal(inside, quantizer.encode(vectors))
    assert torch.equal(inside, torch.cdist(vectors.double(), quantizer.embedding.weight.double()).argmin(-1))


def test_a_new_codebook_is_uniform_as_in_the_paper():
    codebook = SeedTokenizer(tiny_tokenizer_config(codebook_size=256)).quantizer.embedding.weight
    assert 0.9 / 256 < codebook.abs().amax() <= 1 / 256
    assert abs(codebook.std().item() - 1 / 256 / math.sqrt(3)) < 1e-4


def test_ties_go_to_the_lowest_index():
    quantizer = SeedVectorQuantizer(64, 4)
    quantizer.embedding.weight.data.fill_(1.0)
    quantizer.embedding.weight.data[:3] = 9.0
    assert quantizer.encode(torch.zeros(2, 32, 4)).unique().tolist() == [3]


def test_chunks_of_the_distance_matrix_change_nothing(monkeypatch):
    quantizer = SeedVectorQuantizer(64, 8)
    quantizer.embedding.weight.data.normal_()
    vectors = torch.randn(7, 32, 8)
    whole = quantizer.encode(vectors)
    monkeypatch.setitem(modeling_seed_quantizer._DISTANCES_AT_ONCE, "cpu", 640)
    assert torch.equal(whole, quantizer.encode(vectors))


def test_encode_does_not_run_the_decoder_half(pixels):
    model = tiny_tokenizer()
    ran = []
    for module in (model.code_decoder, model.embedding_decoder, model.generation_decoder):
        module.register_forward_hook(lambda module, *_: ran.append(module))
    codes = model.encode(pixels)
    assert ran == []
    model.decode(codes)
    assert model.generation_decoder in ran and model.embedding_decoder not in ran


@pytest.mark.parametrize(
    "codes, error, message",
    [
        (torch.zeros(2, 31, dtype=torch.long), ValueError, r"\(batch, 32\)"),
        (torch.zeros(32, dtype=torch.long), ValueError, r"\(batch, 32\)"),
        (torch.zeros(2, 32), TypeError, "integer"),
        (torch.zeros(2, 32, dtype=torch.bool), TypeError, "integer"),
        ([[0] * 32], TypeError, "list"),
        (torch.full((2, 32), 64), ValueError, r"\[0, 64\)"),
        (torch.full((2, 32), -1), ValueError, "row 0, position 0"),
    ],
)
def test_wrong_codes_are_refused(codes, error, message):
    model = tiny_tokenizer()
    for method in (model.decode, model.embed_codes):
        with pytest.raises(error, match=message):
            method(codes)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
def test_any_integer_type_of_codes_is_taken(pixels, dtype):
    model = tiny_tokenizer()
    codes = model.encode(pixels)
    assert torch.equal(model.decode(codes.to(dtype)), model.decode(codes))


def test_wrong_pixels_are_refused(pixels):
    model = tiny_tokenizer()
    with pytest.raises(ValueError, match="28, 28"):
        model.encode(torch.zeros(1, 3, 32, 32))
    with pytest.raises(TypeError, match="floating point"):
        model.encode(torch.zeros(1, 3, 28, 28, dtype=torch.uint8))
    with pytest.raises(ValueError, match="pixel_values"):
        model(None)


# The shared space


def test_features_are_normalised_and_come_from_the_last_embedding(pixels):
    model = tiny_tokenizer()
    with torch.no_grad():
        features = image_features(model, pixels)
        last = model.get_causal_embeddings(pixels)[:, -1]
        torch.testing.assert_close(features, F.normalize(model.vision_projection(last), dim=-1))
        codes = model.encode(pixels)
        from_codes = image_features(model, codes=codes)
        reconstructed = model.embed_codes(codes)[:, -1]
        torch.testing.assert_close(from_codes, F.normalize(model.vision_projection(reconstructed), dim=-1))
    torch.testing.assert_close(features.norm(dim=-1), torch.ones(5))
    with pytest.raises(ValueError, match="either"):
        model.get_image_features(pixels, codes=codes)


def test_text_features_do_not_depend_on_padding():
    model = tiny_tokenizer()
    ids = torch.randint(3, 300, (2, 6))
    padded = F.pad(ids, (0, 5), value=1)
    mask = F.pad(torch.ones_like(ids), (0, 5))
    with torch.no_grad():
        torch.testing.assert_close(text_features(model, ids), text_features(model, padded, mask), atol=1e-6, rtol=1e-5)
        changed = padded.clone()
        changed[:, 6:] = 7
        assert torch.equal(text_features(model, padded, mask), text_features(model, changed, mask))


def test_parts_that_are_missing_are_named(pixels):
    bare = tiny_tokenizer(text_tower=False, embedding_decoder=False)
    codes = bare.encode(pixels)
    with pytest.raises(ValueError, match="embedding_decoder"):
        bare.embed_codes(codes)
    with pytest.raises(ValueError, match="text_tower"):
        bare.get_image_features(pixels)
    assert bare(pixels, stage="quantization").reconstruction_loss is None
    with pytest.raises(ValueError, match="length"):
        tiny_tokenizer().get_text_features(torch.zeros(1, 33, dtype=torch.long))


# Losses


def test_contrastive_loss_by_hand():
    image, text = torch.eye(2), torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    loss, per_image, per_text = contrastive_loss(image, text, 0.5, label_smoothing=0.0)
    torch.testing.assert_close(per_image, torch.tensor([[2.0, 1.2], [0.0, 1.6]]))
    torch.testing.assert_close(per_text, per_image.T)
    rows = [math.log(math.exp(2) + math.exp(1.2)) - 2, math.log(1 + math.exp(1.6)) - 1.6]
    columns = [math.log(math.exp(2) + 1) - 2, math.log(math.exp(1.2) + math.exp(1.6)) - 1.6]
    assert loss.item() == pytest.approx((sum(rows) / 2 + sum(columns) / 2) / 2, abs=1e-6)


@pytest.mark.parametrize("legacy", [True, False])
def test_the_beta_of_the_vq_loss_weighs_the_side_that_the_config_says(legacy):
    quantizer = SeedVectorQuantizer(2, 1, beta=0.25, legacy_beta=legacy)
    quantizer.embedding.weight.data = torch.tensor([[0.0], [10.0]])
    inputs = torch.tensor([[[2.0]]], requires_grad=True)
    codes, vectors, loss = quantizer(inputs)
    assert codes.item() == 0 and vectors.item() == 0.0 and loss.item() == pytest.approx(1.25 * 4)
    (loss + 3 * vectors.sum()).backward()
    encoder_side, codebook_side = (1.0, 0.25) if legacy else (0.25, 1.0)
    assert inputs.grad.item() == pytest.approx(encoder_side * 2 * 2 + 3)  # straight through: the 3 arrives as it is
    assert quantizer.embedding.weight.grad[0].item() == pytest.approx(codebook_side * -2 * 2)


def test_stage_two_names_its_losses_and_weighs_them(pixels):
    model = tiny_tokenizer()
    target = torch.randn(5, 6, 20)
    output = model(pixels, stage="quantization", target_embeddings=target)
    config = model.config
    expected = (
        config.vq_loss_weight * output.vq_loss
        + config.reconstruction_loss_weight * output.reconstruction_loss
        + config.generation_loss_weight * output.generation_loss
    )
    torch.testing.assert_close(output.loss, expected)
    torch.testing.assert_close(output.generation_loss, F.mse_loss(output.generation_embeddings, target))
    cosine = F.cosine_similarity(output.reconstructed_embeddings, output.causal_embeddings, dim=-1)
    torch.testing.assert_close(output.reconstruction_loss, 1 - cosine.mean())
    with pytest.raises(ValueError, match="target_embeddings"):
        model(pixels, stage="quantization", target_embeddings=target[:, :3])


def test_the_feature_contrast_finds_an_image_by_its_codes(pixels):
    model = tiny_tokenizer(feature_contrast_loss_weight=0.5)
    output = model(pixel_values=pixels, stage="quantization")
    cosines = image_features(model, codes=output.codes) @ image_features(model, pixels).T / model.temperature
    expected = F.cross_entropy(cosines, torch.arange(len(pixels)))
    torch.testing.assert_close(output.feature_contrast_loss, expected)
    plain = tiny_tokenizer()(pixel_values=pixels, stage="quantization")
    torch.testing.assert_close(output.loss, plain.loss + 0.5 * output.feature_contrast_loss)
    output.loss.backward()
    assert model.code_encoder[0].weight.grad.abs().max() > 0
    with pytest.raises(ValueError, match="feature_contrast_loss_weight"):
        tiny_tokenizer_config(feature_contrast_loss_weight=1.0, text_tower=False)


def test_the_feature_loss_compares_what_retrieval_compares(pixels):
    model = tiny_tokenizer(feature_loss_weight=3.0)
    output = model(pixels, stage="quantization")
    with torch.no_grad():
        codes = model.encode(pixels)
        expected = 1 - (image_features(model, codes=codes) * image_features(model, pixels)).sum(-1).mean()
    torch.testing.assert_close(output.feature_loss, expected)
    plain = tiny_tokenizer()(pixels, stage="quantization")
    assert plain.feature_loss is None
    torch.testing.assert_close(output.loss, plain.loss + 3 * output.feature_loss)
    with pytest.raises(ValueError, match="feature_loss_weight"):
        tiny_tokenizer_config(feature_loss_weight=1.0, text_tower=False)


def test_stage_one_returns_its_loss(pixels):
    model = tiny_tokenizer()
    ids = torch.randint(3, 300, (5, 6))
    output = model(pixels, ids, stage="contrastive")
    expected, _, _ = contrastive_loss(
        image_features(model, pixels), text_features(model, ids), model.temperature, model.config.label_smoothing
    )
    torch.testing.assert_close(output.loss, expected)
    with pytest.raises(ValueError, match="one caption"):
        model(pixels, ids[:3], stage="contrastive")
    with pytest.raises(ValueError, match="stage"):
        model(pixels, stage="three")


def test_cached_features_give_the_same_losses(pixels):
    model = tiny_tokenizer()
    ids = torch.randint(3, 300, (5, 6))
    with torch.no_grad():
        vision = model.vision_model(pixels).last_hidden_state
        causal = model.get_causal_embeddings(pixels)
        assert torch.equal(
            model(pixels, ids, stage="contrastive").loss,
            model(input_ids=ids, vision_embeddings=vision, stage="contrastive").loss,
        )
        assert torch.equal(
            model(pixels, stage="quantization").loss, model(causal_embeddings=causal, stage="quantization").loss
        )


# Training


def trained_parts(model, loss):
    model.zero_grad()
    loss.backward()
    return {
        name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0
    }


def test_every_part_has_one_role():
    """The table that freezing, starting points, fingerprints and conversion read names every part exactly once."""
    model = tiny_tokenizer()
    parts = [name for name, _ in model.named_children()]
    parts += [name for name, _ in model.named_parameters(recurse=False)]
    assert sorted(parts) == sorted(name for names in SeedTokenizer.PARTS.values() for name in names)


def test_stage_one_trains_what_the_paper_says(pixels):
    model = tiny_tokenizer()
    model.freeze_for("contrastive")
    model.train()
    assert not model.vision_model.training and model.qformer.training
    ids = torch.randint(3, 300, (5, 6))
    parts = trained_parts(model, model(pixels, ids, stage="contrastive").loss)
    assert parts == {
        "vision_model", "query_tokens", "qformer", "text_embeddings", "vision_projection", "text_projection",
        "temperature",
    }  # fmt: skip
    moved = [n for n, p in model.vision_model.named_parameters() if p.grad is not None]
    assert all(name.startswith("post_layernorm") for name in moved)


def test_stage_two_trains_everything_after_the_qformer(pixels):
    model = tiny_tokenizer()
    model.freeze_for("quantization")
    model.train()
    assert not model.vision_model.training and not model.qformer.training and model.code_encoder.training
    loss = model(pixels, stage="quantization", target_embeddings=torch.randn(5, 6, 20)).loss
    assert trained_parts(model, loss) == {
        "code_encoder", "quantizer", "code_decoder", "embedding_decoder", "generation_decoder",
    }  # fmt: skip
    with pytest.raises(ValueError, match="stage"):
        model.freeze_for("language")


# Saving


def test_save_load_save_is_bit_equal(pixels, tmp_path):
    model = tiny_tokenizer()
    model.save_pretrained(tmp_path / "one")
    again = SeedTokenizer.from_pretrained(tmp_path / "one")
    again.save_pretrained(tmp_path / "two")
    assert (tmp_path / "one/model.safetensors").read_bytes() == (tmp_path / "two/model.safetensors").read_bytes()
    with torch.no_grad():
        first, second = model(pixels), again(pixels)
    assert torch.equal(first.codes, second.codes)
    assert torch.equal(first.generation_embeddings, second.generation_embeddings)
    ids = torch.randint(3, 300, (2, 6))
    assert torch.equal(text_features(model, ids), text_features(again, ids))


def test_half_precision_encodes_without_complaint(pixels):
    model = tiny_tokenizer().to(torch.bfloat16)
    codes = model.encode(pixels.to(torch.bfloat16))
    assert codes.shape == (5, 32)
    assert model.decode(codes).dtype == torch.bfloat16


def test_save_as_half_loads_as_the_dtype_of_the_config(pixels, tmp_path):
    model = tiny_tokenizer()
    model.half().save_pretrained(tmp_path)
    assert SeedTokenizer.from_pretrained(tmp_path, dtype=torch.float32).dtype == torch.float32
