"""Guidance on codes: equal to two separate passes, in every family, sampled and greedy."""

import pytest
import torch
from transformers import GenerationConfig

from seed_hf.modeling.generation_seed import CodeSegment, parse_segments
from seed_hf.modeling.visual_vocabulary_seed import VisualVocabulary
from tiny import tiny_text_tokenizer
from tiny_families import FAMILIES, plain_model
from tiny_language import CODEBOOK_SIZE, tiny_seed_model


@pytest.fixture(scope="module", params=FAMILIES)
def model(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    plain_model(request.param).save_pretrained(folder)
    tiny_text_tokenizer().save_pretrained(folder)
    torch.manual_seed(1)
    model = FAMILIES[request.param][1].from_language_model(folder, codebook_size=CODEBOOK_SIZE, code_dim=8)
    return model.eval()


PROMPTS = [[0, 7, 8, 9, 10], [0, 11, 12]]
PADDED = torch.tensor([PROMPTS[0], [1, 1, *PROMPTS[1]]])
MASK = torch.tensor([[1] * 5, [0, 0, 1, 1, 1]])


@torch.no_grad()
def two_passes(model, prompt, scale, bos=0):
    """The plain way: the prompt and the empty prompt, each by itself, without a cache."""
    layout = VisualVocabulary.of(model.config)
    given, alone = [*prompt, layout.boi_token_id], [bos, layout.boi_token_id]
    for _ in range(layout.num_query_tokens):
        conditional, unconditional = (
            model(torch.tensor([ids])).logits[0, -1].log_softmax(-1) for ids in (given, alone)
        )
        guided = unconditional + scale * (conditional - unconditional)
        codes = guided[layout.visual_token_offset : layout.visual_token_offset + layout.codebook_size]
        token = layout.visual_token_offset + codes.argmax().item()
        given.append(token)
        alone.append(token)
    return [*given, layout.eoi_token_id]


IDS = {"eos_token_id": 2, "pad_token_id": 1}


def guided(model, ids=PADDED, mask=MASK, **settings):
    return model.generate(ids, attention_mask=mask, generation_mode="image", **{**IDS, **settings})


@pytest.mark.parametrize("cache", [{}, {"cache_implementation": "static"}], ids=["dynamic", "static"])
def test_greedy_guidance_is_that_of_two_passes(model, cache):
    found = guided(model, code_guidance_scale=3.0, **cache)
    plain = guided(model)
    assert not torch.equal(found, plain)
    for row, prompt in zip(found.tolist(), PROMPTS):
        expected = two_passes(model, prompt, 3.0)
        assert row[5 - len(prompt) :][: len(expected)] == expected
        assert row[-1] == 2


def test_scale_one_is_no_guidance(model):
    assert torch.equal(guided(model, code_guidance_scale=1.0), guided(model))
    assert torch.equal(guided(model, code_guidance_scale=1.0001), guided(model))


def test_sampled_spans_are_valid_and_seeded(model):
    settings = {"do_sample": True, "temperature": 0.9, "top_k": 20, "num_return_sequences": 3}
    found = []
    for given in ({**settings, **IDS}, {"generation_config": GenerationConfig(**settings, **IDS)}):
        torch.manual_seed(5)
        found.append(
            model.generate(PADDED, attention_mask=MASK, generation_mode="image", code_guidance_scale=2.0, **given)
        )
    assert torch.equal(*found) and len(found[0]) == 6 and len(found[0].unique(dim=0)) > 2
    for row in found[0].tolist():
        images = [part for part in parse_segments(row, model.config).parts if isinstance(part, CodeSegment)]
        assert len(images) == 1 and len(images[0].codes) == 32


def test_a_span_that_is_begun_goes_on(model):
    layout = VisualVocabulary.of(model.config)
    whole = guided(model, code_guidance_scale=3.0)
    begun = whole[:, : 5 + 1 + 10]  # the prompt, <img> and ten codes
    mask = torch.cat([MASK, torch.ones(2, 11, dtype=torch.long)], 1)
    assert torch.equal(guided(model, begun, mask, code_guidance_scale=3.0), whole)
    assert (whole[:, 5] == layout.boi_token_id).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_beams": 2}, "not with num_beams"),
        ({"num_return_sequences": 2}, "the same image each time"),
        ({"return_dict_in_generate": True}, "does not go with return_dict_in_generate"),
    ],
)
def test_what_guidance_does_not_go_with(model, settings, message):
    with pytest.raises(ValueError, match=message):
        guided(model, code_guidance_scale=2.0, **settings)
    with pytest.raises(ValueError, match="goes with generation_mode='image', got 'text'"):
        model.generate(PADDED, generation_mode="text", code_guidance_scale=2.0)


def test_the_whole_model_passes_it_on():
    model = tiny_seed_model()
    ids = torch.tensor([PROMPTS[0]])
    expected = model.language_model.generate(ids, generation_mode="image", code_guidance_scale=4.0)
    assert torch.equal(model.generate(ids, generation_mode="image", code_guidance_scale=4.0), expected)
    assert not torch.equal(model.generate(ids, generation_mode="image"), expected)
