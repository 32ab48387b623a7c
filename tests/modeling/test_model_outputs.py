"""What the visual tokenizer and the whole model return, beside what BLIP-2 returns for the same call."""

import inspect

import pytest
import torch
from transformers import Blip2ForConditionalGeneration, GenerationConfig, LlavaForConditionalGeneration
from transformers.utils import ModelOutput

from seed_hf import bundled
from seed_hf.modeling.cache_name_seed import CACHE, CACHE_NAMES
from seed_hf.modeling.configuration_seed import SeedConfig
from seed_hf.modeling.generation_seed import GENERATION_MODES
from seed_hf.modeling.modeling_seed import SeedForConditionalGeneration
from seed_hf.modeling.modeling_seed_text import SeedForCausalLM
from seed_hf.modeling.modeling_seed_text_model import SeedTextModel
from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer
from tiny import tiny_tokenizer
from tiny_blip2 import blip2
from tiny_diffusion import tiny_model_and_processor
from tiny_families import FAMILIES, plain_model, visual_model, whole_model
from tiny_language import picture, tiny_processor, tiny_seed_model


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


def test_the_encoder_of_images_is_the_vit_as_in_blip2():
    model, other = tiny_seed_model(), blip2(Blip2ForConditionalGeneration)
    assert type(model.get_encoder(modality="image")) is type(other.get_encoder(modality="image"))
    assert model.get_encoder(modality="image") is model.visual_tokenizer.vision_model
    assert type(model.get_decoder()) is SeedForCausalLM and model.get_encoder() is model


def test_input_embeddings_are_those_of_the_vit(eager):
    model = tiny_tokenizer()
    embeddings = model.get_input_embeddings()
    assert embeddings is model.vision_model.get_input_embeddings()
    model.set_input_embeddings(eager.get_input_embeddings())
    assert model.get_input_embeddings() is eager.get_input_embeddings()
    with pytest.raises((TypeError, AttributeError)):  # as of any vision model of transformers
        model.resize_token_embeddings(10)


# The whole model


@pytest.fixture(scope="module")
def whole():
    model = tiny_seed_model()
    model.set_attn_implementation("eager")
    return model


@pytest.fixture(scope="module")
def prompt():
    images = [picture("red"), picture("blue")]
    return dict(tiny_processor()(["<image> a photo", "is it red ? <image> yes"], images=images, return_tensors="pt"))


@torch.no_grad()
def test_image_features_are_what_the_language_model_reads(whole, pixels):
    output = whole.get_image_features(pixels, **ASKED)
    codes = whole.visual_tokenizer.encode(pixels)
    rows = whole.get_input_embeddings()(codes + whole.config.text_config.visual_token_offset)
    assert torch.equal(output.pooler_output, rows)
    seen = whole.visual_tokenizer(pixels, **ASKED)
    assert equal((output.vision_outputs, output.qformer_outputs), (seen.vision_outputs, seen.qformer_outputs))
    from_codes = whole.get_image_features(codes=codes)
    assert set(from_codes) == {"pooler_output"} and torch.equal(from_codes.pooler_output, rows)
    source = blip2(Blip2ForConditionalGeneration)
    source.set_attn_implementation("eager")
    assert set(source.get_image_features(pixels, **ASKED)) == set(output)
    assert equal(whole.get_image_features(pixels, **ASKED, return_dict=False), output)
    for wrong in ({}, {"pixel_values": pixels, "codes": codes}):
        with pytest.raises(ValueError, match="either"):
            whole.get_image_features(**wrong)


@pytest.mark.parametrize("embedding", ["learned", "projected"])
@torch.no_grad()
def test_embeddings_with_images_are_as_good_as_ids(prompt, embedding):
    model = whole_model("opt", embedding)
    labels = prompt["input_ids"].masked_fill(prompt["attention_mask"] == 0, -100)
    given = {name: value for name, value in prompt.items() if name != "input_ids"}
    embeds = model.get_input_embeddings()(prompt["input_ids"])
    expected, found = model(**prompt, labels=labels), model(inputs_embeds=embeds, labels=labels, **given)
    assert torch.equal(found.logits, expected.logits) and torch.equal(found.loss, expected.loss)
    for mode in ("text", "image", "interleaved", None):
        options = {"generation_mode": mode, "max_new_tokens": 40, "pad_token_id": 1}
        ids = model.generate(**prompt, **options)
        new = ids[:, prompt["input_ids"].shape[1] :]
        assert torch.equal(model.generate(inputs=prompt["input_ids"], **given, **options), ids)
        assert torch.equal(model.generate(inputs_embeds=embeds, **given, **options), new)
        assert torch.equal(model.generate(inputs_embeds=embeds, **prompt, **options), ids)


def test_embeddings_that_images_do_not_fit_are_refused(whole, prompt):
    embeds = whole.get_input_embeddings()(prompt["input_ids"])
    pixels = prompt["pixel_values"]
    for call in (whole, whole.generate):
        with pytest.raises(ValueError, match="64 placeholders .2 images of 32., but 1 images"):
            call(inputs_embeds=embeds, pixel_values=pixels[:1])
    with pytest.raises(ValueError, match="not both"):
        whole(prompt["input_ids"], inputs_embeds=embeds, pixel_values=pixels)
    with pytest.raises(ValueError, match="two names"):
        whole.generate(prompt["input_ids"], inputs=prompt["input_ids"], pixel_values=pixels)
    with pytest.raises(ValueError, match="Give a prompt"):
        whole.generate(pixel_values=pixels)
    with pytest.raises(ValueError, match="does not go with inputs_embeds"):
        whole.generate(inputs_embeds=embeds, pixel_values=pixels, generation_mode="image", code_guidance_scale=2.0)
    for name in ("pixel_values", "codes"):
        with pytest.raises(TypeError, match=f"takes no {name}"):
            whole.language_model(prompt["input_ids"], **{name: pixels})


@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_embeddings_are_a_prompt_of_a_language_model(name):
    model, ids = visual_model(name), torch.randint(3, 300, (2, 7), generator=torch.Generator().manual_seed(0))
    embeds, options = model.get_input_embeddings()(ids), {"max_new_tokens": 36, "pad_token_id": 1}
    plain = plain_model(name)
    taken = plain.generate(inputs_embeds=plain.get_input_embeddings()(ids), max_new_tokens=4, pad_token_id=1)
    assert taken.shape == (2, 4) and model.generate(inputs_embeds=embeds, max_new_tokens=4).shape == (2, 4)
    for mode in ("text", "image", "interleaved"):
        expected = model.generate(ids, generation_mode=mode, **options)
        assert torch.equal(model.generate(inputs_embeds=embeds, generation_mode=mode, **options), expected[:, 7:])


@torch.no_grad()
def test_what_the_whole_configuration_says_reaches_the_language_model(whole, prompt):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(whole.config, "output_hidden_states", True)
        assert len(whole(**prompt).hidden_states) == whole.config.text_config.num_hidden_layers + 1
        assert "hidden_states" not in whole(**prompt, output_hidden_states=False)
        patch.setattr(whole.config, "return_dict", False)
        assert isinstance(whole(**prompt), tuple) and isinstance(whole(**prompt, return_dict=True), ModelOutput)


def test_the_image_encoder_is_at_the_top_of_the_configuration(tmp_path):
    """Where programs look for it, as in BLIP-2; saved in its own place."""
    config = tiny_seed_model().config
    assert config.vision_config is config.tokenizer_config.vision_config and "vision_config" not in config.to_dict()
    config.save_pretrained(tmp_path)
    loaded = SeedConfig.from_pretrained(tmp_path, vision_config={"attention_dropout": 0.5})
    assert loaded.tokenizer_config.vision_config.attention_dropout == loaded.vision_config.attention_dropout == 0.5
    assert loaded.vision_config.hidden_size == config.vision_config.hidden_size


def test_generation_from_embeddings_is_seen_in_the_signature():
    """There transformers looks for it."""
    for cls in (SeedForConditionalGeneration, SeedForCausalLM, LlavaForConditionalGeneration):
        assert "inputs_embeds" in inspect.signature(cls.prepare_inputs_for_generation).parameters, cls


def test_fields_of_the_language_model_are_at_the_top_of_the_configuration(tmp_path):
    config = tiny_seed_model().config
    text = config.text_config
    names = (
        "vocab_size",
        "bos_token_id",
        "eos_token_id",
        "pad_token_id",
        "image_token_id",
        "boi_token_id",
        "eoi_token_id",
    )
    assert [getattr(config, name) for name in names] == [getattr(text, name) for name in names]
    config.pad_token_id = 2
    assert text.pad_token_id == 2 and not set(names) & config.to_dict().keys()
    with pytest.raises(ValueError, match="has no room"):
        config.vocab_size = 100
    assert text.vocab_size == config.vocab_size > 100
    config.save_pretrained(tmp_path)
    assert SeedConfig.from_pretrained(tmp_path).pad_token_id == 2
    assert SeedConfig(config.tokenizer_config.to_dict(), text.to_dict(), eos_token_id=7).text_config.eos_token_id == 7


def test_whole_and_language_model_generate_by_one_config(tmp_path):
    model, processor = tiny_model_and_processor()
    model.config.text_config.use_cache = False  # as training leaves it
    model.generation_config.use_cache = True
    model.save_pretrained(tmp_path)
    loaded = SeedForConditionalGeneration.from_pretrained(tmp_path)
    assert loaded.language_model.generation_config.use_cache
    loaded.language_model.save_pretrained(tmp_path / "language")
    taken = SeedForCausalLM.from_pretrained(tmp_path / "language")
    assert SeedForConditionalGeneration.from_parts(loaded.visual_tokenizer, taken).generation_config.use_cache
    ids = processor.draw("a pig").input_ids
    for mode in (None, *GENERATION_MODES):
        asked = {"generation_mode": mode, "max_new_tokens": 36}
        for name in CACHE_NAMES:  # the library's old one, and its new one
            for each in (taken, loaded):
                cache = taken(ids[:, :-1], use_cache=True)[CACHE]
                assert torch.equal(each.generate(ids, **{name: cache}, **asked), loaded.generate(ids, **asked))
    with pytest.raises(ValueError, match="two names of one argument"):
        taken.generate(ids, past_key_values=cache, cache=cache)
    headless = SeedTextModel.from_pretrained(tmp_path / "language")
    for each in (taken, headless):
        for name in CACHE_NAMES:
            step = each(ids[:, -1:], **{name: taken(ids[:, :-1], use_cache=True)[CACHE]})
            torch.testing.assert_close(step[0], each(ids)[0][:, -1:], rtol=0, atol=1e-4)
    with pytest.raises(TypeError, match="by its name"):
        model.generate(ids, GenerationConfig())


def test_seed_tiny_keeps_what_it_has_read():
    for part in (bundled("seed-tiny", "model"), bundled("seed-tiny", "pipeline") / "seed_model"):
        assert SeedForConditionalGeneration.from_pretrained(part).language_model.config.use_cache
