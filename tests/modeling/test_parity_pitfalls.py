"""One test for each pitfall in `docs/parity.md`: the original behaviour is a setting, and it changes the results."""

import pytest
import torch
from PIL import Image

from original import HEADS, golden_io, golden_weights, original_state, other_size
from seed_hf import SeedImageProcessor, SeedTokenizer
from seed_hf.conversion import compare_tokenizer, convert_original_tokenizer
from tiny import tiny_tokenizer
from tiny_language import tiny_language_model


@pytest.fixture(scope="module")
def seed1():
    return convert_original_tokenizer(golden_weights("seed1_tokenizer"), **HEADS)[0]


def with_config(model: SeedTokenizer, **settings) -> SeedTokenizer:
    """The same weights with another configuration."""
    config = type(model.config).from_dict({**model.config.to_dict(), **settings})
    other = SeedTokenizer(config).eval()
    other.load_state_dict(model.state_dict())
    return other


def test_images_are_resized_by_bicubic_interpolation_unless_told_otherwise():
    image = Image.linear_gradient("L").rotate(30).convert("RGB").resize((90, 61))
    size = {"height": 28, "width": 28}
    default = SeedImageProcessor(size=size)(image, return_tensors="pt").pixel_values
    bicubic, bilinear = (
        SeedImageProcessor(size=size, resample=kind)(image, return_tensors="pt").pixel_values
        for kind in (Image.Resampling.BICUBIC, Image.Resampling.BILINEAR)
    )
    assert torch.equal(default, bicubic) and (default - bilinear).abs().amax() > 1e-3


@pytest.mark.parametrize(("name", "kind"), [("stage2_text", Image.Resampling.BICUBIC), ("seed2_tokenizer", 2)])
def test_each_tokenizer_has_the_interpolation_of_its_training(name, kind):
    model, _ = convert_original_tokenizer(golden_weights(name), **HEADS)
    assert SeedImageProcessor.for_tokenizer(model.config).resample == kind


def test_the_vq_loss_has_the_legacy_beta():
    model, _ = convert_original_tokenizer(golden_weights("stage2_text"), **HEADS)
    assert model.config.vq_legacy_beta and model.config.vq_beta == 0.25
    recorded = golden_io("stage2_text")
    paper = compare_tokenizer(with_config(model, vq_legacy_beta=False), recorded)
    relative = {row.stage: row.relative for row in paper.rows}
    assert relative["loss_embed"] <= 1e-5  # both sides have the same value: only the gradients tell the order
    assert relative["grad_codebook"] > 0.1 and relative["grad_encode_0"] > 0.1


def test_each_layer_norm_has_its_own_epsilon(seed1):
    config = seed1.config
    assert config.vision_config.layer_norm_eps == 1e-6 and config.decoder_config.layer_norm_eps == 1e-6
    assert config.qformer_config.layer_norm_eps == config.reverse_qformer_config.layer_norm_eps == 1e-12
    assert config.vision_norm_eps == seed1.vision_model.post_layernorm.eps == 1e-5
    norms = {module.eps for module in seed1.modules() if isinstance(module, torch.nn.LayerNorm)}
    assert norms == {1e-5, 1e-6, 1e-12}
    recorded = golden_io("seed1_tokenizer")
    assert compare_tokenizer(seed1, recorded).holds
    assert not compare_tokenizer(with_config(seed1, vision_norm_eps=1e-2), recorded).holds
    blocks = {**config.vision_config.to_dict(), "layer_norm_eps": 1e-2}
    assert not compare_tokenizer(with_config(seed1, vision_config=blocks), recorded).holds


def test_distances_are_fp32_whatever_the_features(seed1):
    before = golden_io("seed1_tokenizer")["pre_quant"]
    exact = torch.cdist(before.double(), seed1.quantizer.embedding.weight.double()).argmin(-1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(seed1.quantizer.encode(before), exact)
    codebook = seed1.quantizer.embedding.weight.detach().to(torch.bfloat16)
    half = (codebook.pow(2).sum(-1) / 2 - before.to(torch.bfloat16) @ codebook.T).argmin(-1)
    assert (half != exact).any()  # what distances in half precision would do


@pytest.mark.parametrize("queries", [7, 32])
def test_queries_are_causal_by_the_config_and_not_by_their_number(queries):
    pixels = torch.randn(1, 3, 28, 28)
    for causal in (True, False):
        model = tiny_tokenizer(num_query_tokens=queries, causal_queries=causal)
        with torch.no_grad():
            before = model.get_causal_embeddings(pixels)
            model.query_tokens[:, -1] += torch.randn(24)
            after = model.get_causal_embeddings(pixels)
        assert torch.equal(before[:, :-1], after[:, :-1]) == causal


def test_a_reverse_qformer_with_32_queries_stays_bidirectional():
    head = tiny_tokenizer(num_generation_tokens=32).generation_decoder
    decoded = torch.randn(1, 32, 24)
    with torch.no_grad():
        before = head(decoded)
        head.query_tokens[:, -1] += torch.randn(24)
        assert (head(decoded)[:, 0] - before[:, 0]).abs().amax() > 1e-5


@pytest.mark.parametrize("noisy", [False, True])
def test_the_frozen_teacher_has_dropout_only_if_asked_for(noisy):
    model = other_size(teacher_dropout=noisy)
    assert model.config.qformer_config.hidden_dropout_prob == 0.1
    model.freeze_for("quantization")
    model.train()
    pixels = torch.randn(1, 3, 64, 64)
    first, second = (model(pixels, stage="quantization").causal_embeddings for _ in range(2))
    assert torch.equal(first, second) != noisy
    assert not model.vision_model.training and not model.query_tokens.requires_grad
    assert model.eval().encode(pixels).equal(model.encode(pixels))


def test_positions_of_opt_start_at_two_and_count_real_tokens():
    model = tiny_language_model()
    table = model.model.decoder.embed_positions
    assert table.offset == 2 and len(table.weight) == model.config.max_position_embeddings + 2
    ids = torch.tensor([[0, 5, 6, 7]])
    padded, mask = torch.tensor([[1, 1, 1, 0, 5, 6, 7]]), torch.tensor([[0, 0, 0, 1, 1, 1, 1]])
    with torch.no_grad():
        alone, left = model(ids).logits, model(padded, attention_mask=mask).logits[:, 3:]
        torch.testing.assert_close(alone, left, atol=1e-5, rtol=1e-5)
        table.weight[:2] = 1e3  # no real token reads these two rows
        assert torch.equal(model(ids).logits, alone)


def test_the_keys_of_the_vit_have_no_bias_and_eva_is_cut():
    state = original_state(other_size())
    model, _ = convert_original_tokenizer(state, vision_heads=8)
    bias = model.vision_model.encoder.layers[0].self_attn.qkv.bias
    assert bias[88:176].abs().amax() == 0 and bias[:88].abs().amax() > 0 and bias[176:].abs().amax() > 0


def test_one_image_alone_has_a_stage_one_loss():
    """The authors' squeeze() drops the batch axis there, so that stage I cannot run with one sample per device."""
    model, _ = convert_original_tokenizer(golden_weights("stage1_contrastive"), **HEADS)
    recorded = golden_io("stage1_contrastive")
    row = {key: recorded[key][:1] for key in ("pixel_values", "input_ids", "attention_mask")}
    output = model(**row, stage="contrastive")
    assert output.loss.shape == () and output.logits_per_image.shape == (1, 1)
