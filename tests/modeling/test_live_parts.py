"""Two models, or their configurations, stay as they were when put together; codes are the same in training."""

import pytest
import torch

from seed_hf.modeling.configuration_seed import SeedConfig, SeedTokenizerConfig
from seed_hf.modeling.modeling_seed import SeedForConditionalGeneration
from seed_hf.modeling.modeling_seed_text import SeedForCausalLM
from tiny import tiny_tokenizer
from tiny_language import TEXT_VOCAB_SIZE, tiny_language_model, tiny_seed_model


PIXELS = torch.randn(4, 3, 28, 28, generator=torch.Generator().manual_seed(0))
IDS = torch.arange(3, 15)[None]


def attention_of(config) -> list[str | None]:
    parts = [getattr(config, name) for name in config.sub_configs]
    return [config._attn_implementation, *(each for part in parts for each in attention_of(part))]


def with_dropout():
    tokenizer = tiny_tokenizer()
    for part in (tokenizer.qformer, tokenizer.vision_model):
        for module in part.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.5
    assert any(isinstance(module, torch.nn.Dropout) for module in tokenizer.qformer.modules())
    return tokenizer


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_configurations_of_models_that_run_keep_their_attention(attention):
    tokenizer, language_model = tiny_tokenizer(), tiny_language_model()
    for model in (tokenizer, language_model):
        model.set_attn_implementation(attention)
    before = attention_of(tokenizer.config), attention_of(language_model.config)
    assert set(before[0] + before[1]) == {attention}
    logits, codes = language_model(input_ids=IDS).logits, tokenizer.encode(PIXELS)
    SeedConfig(tokenizer_config=tokenizer.config, text_config=language_model.config)
    SeedTokenizerConfig(vision_config=tokenizer.config.vision_config, qformer_config=tokenizer.config.qformer_config)
    model = SeedForConditionalGeneration.from_parts(tokenizer, language_model)
    assert (attention_of(tokenizer.config), attention_of(language_model.config)) == before
    assert torch.equal(language_model(input_ids=IDS).logits, logits) and torch.equal(tokenizer.encode(PIXELS), codes)
    assert model.config.text_config is language_model.config
    whole = SeedConfig(
        tokenizer_config=tokenizer.config, text_config=language_model.config, attn_implementation="eager"
    )
    assert set(attention_of(whole)) == {"eager"}  # asked for by name, it is that of all


def test_parts_that_are_refused_stay_as_they_were():
    language_model = tiny_language_model(visual_embedding="projected")
    logits = language_model(input_ids=IDS).logits
    with pytest.raises(ValueError, match="codebook of the language model is not that"):
        SeedForConditionalGeneration.from_parts(tiny_tokenizer(), language_model)
    assert language_model.config._attn_implementation == "sdpa"
    assert torch.equal(language_model(input_ids=IDS).logits, logits)


def test_a_codebook_is_the_same_one_in_half_precision():
    tokenizer, language_model = tiny_tokenizer(), tiny_language_model(visual_embedding="projected")
    language_model.visual_codebook.copy_(tokenizer.quantizer.embedding.weight.detach())
    assert SeedForConditionalGeneration.from_parts(tokenizer.to(torch.bfloat16), language_model)
    language_model.visual_codebook[0, 0] += 1
    with pytest.raises(ValueError, match="codebook of the language model is not that"):
        SeedForConditionalGeneration.from_parts(tokenizer, language_model)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_extending_and_taking_apart_keep_the_attention(attention, tmp_path):
    extended = tiny_language_model()
    extended.set_attn_implementation(attention)
    plain = extended.to_plain()
    assert plain.config._attn_implementation == attention
    plain.save_pretrained(tmp_path)
    sizes = {"text_vocab_size": TEXT_VOCAB_SIZE, "codebook_size": 64, "code_dim": 8}
    again = SeedForCausalLM.from_language_model(tmp_path, attn_implementation=attention, **sizes)
    assert again.config._attn_implementation == attention


def test_images_have_the_codes_of_use_while_the_whole_model_trains():
    tokenizer = with_dropout()
    wanted = tokenizer.encode(PIXELS)
    assert not torch.equal(tokenizer.train().encode(PIXELS), wanted)  # dropout would make others
    tokenizer.eval()
    built = SeedForConditionalGeneration(tiny_seed_model().config)
    assert built.training and not built.visual_tokenizer.training  # not only after `train`
    model = SeedForConditionalGeneration.from_parts(tokenizer, tiny_language_model().train())
    config = model.config.text_config
    ids = torch.tensor([[config.boi_token_id, *[config.image_token_id] * 32, config.eoi_token_id]] * 4)
    for mode in (None, True, False, True):
        if mode is not None:
            model.train(mode)
            assert model.training == model.language_model.training == mode
        found = model.fill_placeholders(ids, PIXELS)[:, 1:-1] - config.visual_token_offset
        assert torch.equal(found, wanted)
        rows = model.get_image_features(PIXELS).pooler_output
        assert torch.equal(rows, model.language_model.embed_ids(wanted + config.visual_token_offset))


@pytest.mark.parametrize("tokenizer_type", [torch.bfloat16, torch.float32])
def test_nothing_is_rounded_when_parts_of_two_types_are_saved(tokenizer_type, tmp_path):
    other = torch.bfloat16 if tokenizer_type == torch.float32 else torch.float32
    tokenizer, language_model = tiny_tokenizer().to(tokenizer_type), tiny_language_model().to(other)
    SeedForConditionalGeneration.from_parts(tokenizer, language_model).save_pretrained(tmp_path)
    loaded = SeedForConditionalGeneration.from_pretrained(tmp_path)
    assert loaded.dtype == torch.float32
    for part, saved in ((loaded.language_model, language_model), (loaded.visual_tokenizer, tokenizer)):
        for name, weight in saved.state_dict().items():
            assert torch.equal(part.state_dict()[name].float(), weight.float())


def test_attentions_asked_for_in_the_configuration_are_returned():
    model = tiny_seed_model()
    model.set_attn_implementation("eager")
    assert model(input_ids=IDS).attentions is None
    model.config.output_attentions = True
    assert len(model(input_ids=IDS).attentions) == 1
    assert model(input_ids=IDS, output_attentions=False).attentions is None
