"""Stage I from a transformers BLIP-2, stage II from stage I."""

import pytest
import torch
from torch.nn import functional as F
from transformers import BertConfig, BertModel, Blip2ForImageTextRetrieval, Blip2Model

from command_line import refused, run
from original import HEADS, golden_io, golden_weights
from seed_hf import SeedTokenizer
from seed_hf.conversion import convert_original_tokenizer
from tiny import tiny_tokenizer
from tiny_blip2 import blip2


@pytest.fixture
def inputs():
    ids = torch.randint(1, 60, (4, 7))
    mask = torch.ones_like(ids)
    ids[1, 4:], mask[1, 4:] = 0, 0
    return {"pixel_values": torch.randn(4, 3, 28, 28), "input_ids": ids, "attention_mask": mask}


def test_features_are_those_of_transformers(inputs):
    source = blip2()
    model = SeedTokenizer.from_blip2(source, causal_queries=False).eval()
    with torch.no_grad():
        theirs = source(**inputs)
        images = F.normalize(model.vision_projection(model.get_causal_embeddings(inputs["pixel_values"])), dim=-1)
        texts = model.get_text_features(inputs["input_ids"], inputs["attention_mask"]).pooler_output
        last = model.get_image_features(inputs["pixel_values"]).pooler_output
        scores = torch.einsum("iqd,td->itq", images, texts).amax(-1)
    torch.testing.assert_close(images, theirs.image_embeds, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(texts, theirs.text_embeds.reshape(texts.shape), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(last, theirs.image_embeds[:, -1], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(scores, theirs.logits_per_image, atol=1e-5, rtol=1e-5)


def test_by_default_queries_are_causal_and_the_rest_is_new(inputs):
    model = SeedTokenizer.from_blip2(blip2(), codebook_size=64, code_dim=8)
    assert model.config.causal_queries and model.config.text_tower and model.config.num_query_tokens == 9
    assert model.config.projection_dim == 12 and model.config.vision_norm_eps == 1e-6
    assert model.temperature.item() == pytest.approx(0.07)
    assert model.quantizer.embedding.weight.shape == (64, 8)
    assert SeedTokenizer.from_blip2(blip2(), vision_norm_eps=1e-5).vision_model.post_layernorm.eps == 1e-5
    model.freeze_for("contrastive")
    output = model(**inputs, stage="contrastive")
    output.loss.backward()
    assert model.query_tokens.grad.abs().sum() > 0


def test_a_blip2_with_a_language_model_gives_the_query_path(inputs):
    source = blip2(Blip2Model)
    model = SeedTokenizer.from_blip2(source, causal_queries=False).eval()
    assert not model.config.text_tower
    with torch.no_grad():
        theirs = source.get_qformer_features(inputs["pixel_values"])
        ours = model.get_causal_embeddings(inputs["pixel_values"])
    torch.testing.assert_close(ours, getattr(theirs, "last_hidden_state", theirs), atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="no text tower"):
        SeedTokenizer.from_blip2(source, text_tower=True)
    assert not SeedTokenizer.from_blip2(blip2(), text_tower=False).config.text_tower


def test_the_source_is_left_alone():
    source = blip2()
    model = SeedTokenizer.from_blip2(source)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert source.query_tokens.abs().sum() > 0 and source.config.qformer_config.use_qformer_text_input


def test_from_folders_and_what_is_no_blip2(inputs, tmp_path):
    for cls in (Blip2ForImageTextRetrieval, Blip2Model):
        folder = tmp_path / cls.__name__
        source = blip2(cls)
        source.save_pretrained(folder)
        model = SeedTokenizer.from_blip2(folder)
        assert torch.equal(model.query_tokens, source.query_tokens)
        assert model.config.text_tower == (cls is Blip2ForImageTextRetrieval)
        out = tmp_path / f"{cls.__name__}-converted"
        status, printed, _ = run("convert", "blip2", "--checkpoint", folder, "--out", out)
        assert status == 0 and str(folder) in printed
        again = SeedTokenizer.from_pretrained(out)
        assert torch.equal(again.qformer.layernorm.weight, source.qformer.layernorm.weight)
        refused("convert", "blip2", "--checkpoint", folder, folder, "--out", tmp_path / "x", words="Give it alone")
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    bert = BertModel(BertConfig(vocab_size=20, **sizes))
    with pytest.raises(TypeError, match="BertModel has no qformer, query_tokens, vision_model"):
        SeedTokenizer.from_blip2(bert)
    bert.save_pretrained(tmp_path / "bert")
    with pytest.raises(ValueError, match="'bert' model, not a BLIP-2"):
        SeedTokenizer.from_blip2(tmp_path / "bert")


# Stage II


def test_stage_two_starts_with_what_stage_one_trained(tmp_path):
    pixels = torch.randn(2, 3, 28, 28)
    ids = torch.randint(3, 300, (2, 6))
    stage_one = tiny_tokenizer()
    stage_one.save_pretrained(tmp_path)
    for source in (stage_one, tmp_path):
        model = SeedTokenizer.from_stage_one(source, codebook_size=32, generation_target="image").eval()
        assert (model.config.codebook_size, model.config.num_generation_tokens) == (32, 1)
        assert model.config.generation_dim == 1024  # the default of the new target
        with torch.no_grad():
            assert torch.equal(model.get_causal_embeddings(pixels), stage_one.get_causal_embeddings(pixels))
            assert torch.equal(
                model.get_text_features(ids).pooler_output, stage_one.get_text_features(ids).pooler_output
            )
            assert model.temperature == stage_one.temperature
        assert model.encode(pixels).amax() < 32
        assert model.quantizer.embedding.weight.abs().amax() <= 1 / 32
    assert torch.equal(stage_one.quantizer.embedding.weight, tiny_tokenizer().quantizer.embedding.weight)
    bare = SeedTokenizer.from_stage_one(stage_one, text_tower=False)
    assert not hasattr(bare, "text_embeddings") and bare.config.generation_dim == 20
    with pytest.raises(ValueError, match="num_query_tokens cannot be set: stage II keeps"):
        SeedTokenizer.from_stage_one(stage_one, num_query_tokens=8)
    with pytest.raises(ValueError, match="has none"):
        SeedTokenizer.from_stage_one(bare, text_tower=True)


def test_the_whole_chain_of_starting_points():
    """A LAVIS stage I checkpoint, converted, is where stage II begins; its loss has all parts."""
    stage_one, _ = convert_original_tokenizer(golden_weights("stage1_contrastive"), **HEADS)
    model = SeedTokenizer.from_stage_one(stage_one, codebook_size=128, generation_target="image", generation_dim=40)
    model.freeze_for("quantization")
    output = model(
        golden_io("stage1_contrastive")["pixel_values"], target_embeddings=torch.randn(4, 40), stage="quantization"
    )
    output.loss.backward()
    assert output.reconstruction_loss is not None and model.quantizer.embedding.weight.grad.abs().sum() > 0
    assert model.query_tokens.grad is None
