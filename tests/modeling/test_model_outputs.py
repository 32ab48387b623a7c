"""What the visual tokenizer and the whole model return, beside what BLIP-2 returns for the same call."""

import pytest
import torch
from transformers import Blip2ForConditionalGeneration
from transformers.utils import ModelOutput

from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer
from tiny import tiny_tokenizer
from tiny_blip2 import blip2


ASKED = {"output_hidden_states": True, "output_attentions": True}


@pytest.fixture(scope="module")
def eager():
    model = tiny_tokenizer()
    model.set_attn_implementation("eager")
    return model


@pytest.fixture(scope="module")
def pixels():
    return torch.randn(3, 3, 28, 28, generator=torch.Generator().manual_seed(0))


def shapes(values):
    """The shapes of tensors, at any depth of tuples and outputs; what a field that is not there would show."""
    if isinstance(values, ModelOutput):
        return {name: shapes(value) for name, value in values.items()}
    return tuple(map(shapes, values)) if isinstance(values, tuple) else tuple(values.shape)


def equal(found, expected) -> bool:
    found, expected = (tuple(v.values()) if isinstance(v, ModelOutput) else v for v in (found, expected))
    if isinstance(found, tuple):
        return len(found) == len(expected) and all(map(equal, found, expected))
    return torch.equal(found, expected)


@pytest.mark.parametrize("stage", [None, "contrastive", "quantization"])
@torch.no_grad()
def test_hidden_states_and_attentions_are_those_of_vit_and_q_former(eager, pixels, stage):
    texts = torch.randint(3, 300, (3, 5))
    plain, output = eager(pixels, texts, stage=stage), eager(pixels, texts, stage=stage, **ASKED)
    vision = eager.vision_model(pixels, **ASKED)
    assert equal(output.vision_outputs, vision)
    assert equal((output.hidden_states, output.attentions), (vision.hidden_states, vision.attentions))
    layers = eager.config.vision_config.num_hidden_layers
    assert len(output.hidden_states) == layers + 1 and len(output.attentions) == layers
    found = output.qformer_outputs
    assert torch.equal(found.last_hidden_state, output.causal_embeddings)
    assert shapes(found.hidden_states) == ((3, 32, 24),) * 3
    assert shapes(found.attentions) == ((3, 2, 32, 32),) * 2
    assert all(weights.triu(1).count_nonzero() == 0 for weights in found.attentions)  # causal
    assert shapes(found.cross_attentions) == ((3, 2, 32, 5),)  # in every second layer
    # What is not asked for is not kept, and nothing else changes.
    assert set(output) - set(plain) == {"vision_outputs", "qformer_outputs", "hidden_states", "attentions"}
    assert all(torch.equal(output[name], plain[name]) for name in plain)


@torch.no_grad()
def test_the_configuration_is_the_default_of_what_is_returned(eager, pixels):
    ids = torch.ones(1, 4, dtype=torch.long)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(eager.config, "output_hidden_states", True)
        assert "hidden_states" in eager(pixels) and "hidden_states" not in eager(pixels, output_hidden_states=False)
        patch.setattr(eager.config, "return_dict", False)
        for output in (eager(pixels), eager.get_image_features(pixels), eager.get_text_features(ids)):
            assert isinstance(output, tuple)
        assert isinstance(eager(pixels, return_dict=True), ModelOutput)


@torch.no_grad()
def test_tuples_hold_what_outputs_hold(eager, pixels):
    ids = torch.randint(3, 300, (3, 5))
    for call in (
        lambda **options: eager(pixels, ids, **options),
        lambda **options: eager(pixels, stage="quantization", **options),
        lambda **options: eager(pixels, ids, stage="contrastive", **options),
        lambda **options: eager.get_image_features(pixels, **options),
        lambda **options: eager.get_text_features(ids, **options),
    ):
        output, values = call(**ASKED), call(**ASKED, return_dict=False)
        assert isinstance(values, tuple) and equal(values, output) and len(values) == len(output)


def test_what_cannot_be_returned_is_refused(eager, pixels):
    codes = eager.encode(pixels)
    causal, seen = eager.get_causal_embeddings(pixels), eager.vision_model(pixels).last_hidden_state
    with pytest.raises(ValueError, match="causal_embeddings have no hidden states"):
        eager(causal_embeddings=causal, output_hidden_states=True)
    with pytest.raises(ValueError, match="Codes have no hidden states"):
        eager.get_image_features(codes=codes, output_attentions=True)
    output = eager(vision_embeddings=seen, output_hidden_states=True)
    assert "vision_outputs" not in output and equal(output.hidden_states, output.qformer_outputs.hidden_states)
    model = tiny_tokenizer()  # in sdpa
    for call in (model, model.get_image_features):
        with pytest.raises(ValueError, match="eager attention"):
            call(pixels, output_attentions=True)
    with pytest.raises(ValueError, match="eager attention"):
        model.get_text_features(torch.ones(1, 4).long(), output_attentions=True)


@torch.no_grad()
def test_features_come_as_those_of_blip2(eager, pixels):
    source = blip2(Blip2ForConditionalGeneration)
    source.set_attn_implementation("eager")
    theirs = source.get_image_features(pixels, **ASKED)
    tokenizer = SeedTokenizer.from_blip2(blip2())
    tokenizer.set_attn_implementation("eager")
    ours = tokenizer.get_image_features(pixels, **ASKED)
    assert type(ours) is type(theirs) and set(theirs) == set(ours)
    for name in ("last_hidden_state", "hidden_states", "attentions", "vision_outputs"):
        assert shapes(theirs[name]) == shapes(ours[name]), name
    assert ours.qformer_outputs.last_hidden_state.shape == theirs.qformer_outputs.last_hidden_state.shape
    torch.testing.assert_close(ours.pooler_output.norm(dim=-1), torch.ones(3))  # ours is that of retrieval
    from_codes = eager.get_image_features(codes=eager.encode(pixels))
    assert set(from_codes) == {"last_hidden_state", "pooler_output"}
    assert torch.equal(from_codes.last_hidden_state, eager.embed_codes(eager.encode(pixels)))


def test_no_images_give_no_rows_of_anything(eager):
    output = eager.get_image_features(torch.zeros(0, 3, 28, 28), **ASKED)
    assert {len(state) for state in (*output.hidden_states, *output.attentions, output.pooler_output)} == {0}
    assert len(output.qformer_outputs.last_hidden_state) == 0


def test_input_embeddings_are_those_of_the_vit(eager):
    model = tiny_tokenizer()
    embeddings = model.get_input_embeddings()
    assert embeddings is model.vision_model.get_input_embeddings()
    model.set_input_embeddings(eager.get_input_embeddings())
    assert model.get_input_embeddings() is eager.get_input_embeddings()
    with pytest.raises((TypeError, AttributeError)):  # as of any vision model of transformers
        model.resize_token_embeddings(10)
