"""OPT with a visual vocabulary, and the model that combines it with the visual tokenizer."""

import logging

import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, GenerationConfig, OPTConfig, OPTForCausalLM

import seed_hf.auto  # noqa: F401
from seed_hf.modeling.configuration_seed import SeedConfig, SeedTextConfig
from seed_hf.modeling.generation_seed import CodeSegment, parse_segments
from seed_hf.modeling.modeling_seed import SeedForConditionalGeneration
from seed_hf.modeling.modeling_seed_text import SeedForCausalLM
from seed_hf.modeling.visual_vocabulary_seed import VisualVocabulary, visual_vocabulary
from tiny import tiny_text_tokenizer, tiny_tokenizer, tiny_tokenizer_config
from tiny_language import (
    CODEBOOK_SIZE,
    OPT_SIZES,
    TEXT_VOCAB_SIZE,
    picture,
    span,
    tiny_language_model,
    tiny_processor,
    tiny_seed_model,
    tiny_text_config,
)


SIZES = {"codebook_size": CODEBOOK_SIZE, "code_dim": 8}


@pytest.fixture
def opt_folder(tmp_path):
    """A plain OPT checkpoint with a few more rows than its tokenizer has entries, as the published ones have."""
    torch.manual_seed(3)
    OPTForCausalLM(OPTConfig(vocab_size=TEXT_VOCAB_SIZE + 7, **OPT_SIZES)).save_pretrained(tmp_path / "opt")
    tiny_text_tokenizer().save_pretrained(tmp_path / "opt")
    return tmp_path / "opt"


def same_weights(first, second):
    a, b = first.state_dict(), second.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def saved_bytes(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.safetensors")}


# Configurations


def test_layout_of_the_vocabulary():
    config = SeedTextConfig(text_vocab_size=50265, codebook_size=8192)
    assert (config.boi_token_id, config.eoi_token_id, config.visual_token_offset) == (50265, 50266, 50267)
    assert (config.image_token_id, config.vocab_size) == (58459, 58496)
    for text, codes in ((1, 1), (63, 64), (331, 64), (50265, 8192)):
        ids = visual_vocabulary(text, codes)
        assert ids["vocab_size"] % 64 == 0 and 0 < ids["vocab_size"] - ids["image_token_id"] <= 64


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"visual_token_offset": 9}, f"{TEXT_VOCAB_SIZE + 2} .* got 9"),
        ({"boi_token_id": 5}, f"{TEXT_VOCAB_SIZE} .* got 5"),
        ({"vocab_size": TEXT_VOCAB_SIZE}, f"vocab_size={TEXT_VOCAB_SIZE} is too small.* need {TEXT_VOCAB_SIZE + 67}"),
        ({"codebook_size": 0}, "codebook_size must be at least 1"),
        ({"visual_embedding": "guessed"}, "'guessed'"),
    ],
)
def test_wrong_text_configs_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        tiny_text_config(**wrong)


def test_a_config_file_that_was_tampered_with_is_refused(tmp_path):
    tiny_text_config().save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(file.read_text().replace('"codebook_size": 64', '"codebook_size": 65'))
    with pytest.raises(ValueError, match="image_token_id"):
        SeedTextConfig.from_pretrained(tmp_path)


def test_parts_must_agree():
    with pytest.raises(ValueError, match="codebook_size=64, the language model 32"):
        SeedConfig(tiny_tokenizer_config(), tiny_text_config(codebook_size=32))
    with pytest.raises(ValueError, match="num_query_tokens=32, the language model 16"):
        SeedConfig(tiny_tokenizer_config(), tiny_text_config(num_query_tokens=16))
    with pytest.raises(ValueError, match="code_dim=8, the language model 32"):
        SeedConfig(tiny_tokenizer_config(), tiny_text_config(code_dim=32, visual_embedding="projected"))
    SeedConfig(tiny_tokenizer_config(), tiny_text_config(code_dim=32))  # without the projection nothing reads it
    with pytest.raises(ValueError, match="question_prompt"):
        SeedConfig(tiny_tokenizer_config(), tiny_text_config(), question_prompt="?")


def test_configs_survive_saving(tmp_path):
    config = SeedConfig(tiny_tokenizer_config(), tiny_text_config(), caption_prompt="shown is")
    config.save_pretrained(tmp_path)
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert isinstance(loaded, SeedConfig) and isinstance(loaded.text_config, SeedTextConfig)
    assert loaded.text_config.to_dict() == config.text_config.to_dict()
    assert loaded.tokenizer_config.to_dict() == config.tokenizer_config.to_dict()
    assert loaded.caption_prompt == "shown is"
    assert loaded.get_text_config().vocab_size == config.text_config.vocab_size


# From a plain OPT


def test_learned_model_is_opt_with_more_rows(opt_folder):
    opt = OPTForCausalLM.from_pretrained(opt_folder)
    model = SeedForCausalLM.from_language_model(opt_folder, **SIZES)
    assert model.config.text_vocab_size == TEXT_VOCAB_SIZE and model.config.eos_token_id == 2
    assert set(model.state_dict()) == set(opt.state_dict())
    assert model.lm_head.weight is model.get_input_embeddings().weight
    ids = torch.randint(0, TEXT_VOCAB_SIZE, (2, 9))
    logits = model(ids).logits
    assert logits.shape[-1] == model.config.vocab_size
    assert torch.equal(logits[..., :TEXT_VOCAB_SIZE], opt(ids).logits[..., :TEXT_VOCAB_SIZE])
    assert not model.training


def test_new_rows_are_like_words_and_differ(opt_folder):
    weight = SeedForCausalLM.from_language_model(opt_folder, **SIZES).get_input_embeddings().weight.detach()
    old, new = weight[:TEXT_VOCAB_SIZE], weight[TEXT_VOCAB_SIZE:]
    assert 0.8 < new.std() / old.std() < 1.2
    assert (new.mean(0) - old.mean(0)).abs().max() < 4 * old.std(0).max() / len(new) ** 0.5
    assert torch.cdist(new, new).fill_diagonal_(9).min() > 0.1 * torch.cdist(old, old).median()


def test_text_vocabulary_has_to_be_known(opt_folder, tmp_path):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (opt_folder / name).unlink()
    with pytest.raises(ValueError, match=r"text_vocab_size=len\(tokenizer\)"):
        SeedForCausalLM.from_language_model(opt_folder, **SIZES)
    model = SeedForCausalLM.from_language_model(opt_folder, text_vocab_size=100, **SIZES)
    assert model.config.boi_token_id == 100
    with pytest.raises(ValueError, match="do not belong together"):
        SeedForCausalLM.from_language_model(opt_folder, text_vocab_size=1000, **SIZES)
    tiny_processor().save_pretrained(opt_folder)
    with pytest.raises(ValueError, match="already has visual tokens"):
        SeedForCausalLM.from_language_model(opt_folder, **SIZES)


def test_untied_output_layer_is_extended_too(tmp_path):
    opt = OPTForCausalLM(OPTConfig(vocab_size=TEXT_VOCAB_SIZE, tie_word_embeddings=False, **OPT_SIZES)).eval()
    opt.save_pretrained(tmp_path / "opt")
    model = SeedForCausalLM.from_language_model(tmp_path / "opt", text_vocab_size=TEXT_VOCAB_SIZE, **SIZES)
    ids = torch.randint(0, TEXT_VOCAB_SIZE, (1, 5))
    assert model.lm_head.weight is not model.get_input_embeddings().weight
    assert torch.equal(model(ids).logits[..., :TEXT_VOCAB_SIZE], opt(ids).logits)


def test_half_precision_is_kept(opt_folder):
    model = SeedForCausalLM.from_language_model(opt_folder, dtype=torch.bfloat16, **SIZES)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}


# Codes through the linear layer


def projected(opt_folder, codebook):
    return SeedForCausalLM.from_language_model(opt_folder, visual_embedding="projected", codebook=codebook, **SIZES)


def test_projected_codes_enter_as_codebook_vectors(opt_folder):
    codebook = torch.randn(CODEBOOK_SIZE, 8)
    model = projected(opt_folder, codebook)
    config = model.config
    ids = torch.tensor([[0, *span(config, [3, 60]), 7, config.image_token_id]])
    embeds = model.embed_ids(ids)
    rows = model.get_input_embeddings()(ids)
    expected = model.visual_projection(codebook[[3, 60]])
    torch.testing.assert_close(embeds[0, 2:4], expected)
    others = [0, 1, 4, 5, 6]
    assert torch.equal(embeds[0, others], rows[0, others])
    assert torch.equal(model(ids).logits, model(inputs_embeds=embeds).logits)
    # as large as words, so that the first steps do not have to undo the start
    words = rows[0, [0, 5]].std()
    assert 0.2 < embeds[0, 2:4].std() / words < 5
    names = set(model.state_dict()) - set(OPTForCausalLM.from_pretrained(opt_folder).state_dict())
    assert names == {"visual_codebook", "visual_projection.weight", "visual_projection.bias"}


def test_a_new_projected_model_has_a_codebook():
    """Zeros would make every image the same, for good: the codebook is not trained."""
    config = tiny_text_config(visual_embedding="projected")
    assert SeedForCausalLM(config).visual_codebook.std(dim=0).min() > 0.1
    whole = SeedForConditionalGeneration(SeedConfig(tiny_tokenizer_config(), config))
    codebook = whole.visual_tokenizer.quantizer.embedding.weight
    assert torch.equal(whole.language_model.visual_codebook, codebook) and codebook.std() > 0
    assert SeedForConditionalGeneration.from_parts(whole.visual_tokenizer, whole.language_model)


def test_projected_gradients_reach_the_layer_and_not_the_rows_of_the_codes(opt_folder):
    model = projected(opt_folder, torch.randn(CODEBOOK_SIZE, 8))
    ids = torch.tensor([[0, *span(model.config, range(32)), 5]])
    model.embed_ids(ids).sum().backward()
    assert model.visual_projection.weight.grad.abs().sum() > 0
    rows = model.get_input_embeddings().weight.grad
    offset = model.config.visual_token_offset
    assert rows[offset : offset + CODEBOOK_SIZE].abs().sum() == 0 and rows[model.config.boi_token_id].abs().sum() > 0
    assert "visual_codebook" not in dict(model.named_parameters())


def test_projected_model_survives_saving_and_generates(opt_folder, tmp_path):
    model = projected(opt_folder, torch.randn(CODEBOOK_SIZE, 8))
    model.save_pretrained(tmp_path / "a")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "a")
    assert same_weights(model, loaded)
    ids = torch.tensor([[0, 5, 9]])
    for settings in ({}, {"cache_implementation": "static"}, {"num_beams": 2}):
        expected = model.generate(ids, generation_mode="image", **settings)
        assert torch.equal(loaded.generate(ids, generation_mode="image", **settings), expected)
        assert isinstance(parse_segments(expected[0], model.config).parts[1], CodeSegment)


def test_projected_needs_the_right_codebook(opt_folder):
    with pytest.raises(ValueError, match=r"\(64, 8\), got None"):
        projected(opt_folder, None)
    with pytest.raises(ValueError, match=r"\(64, 8\), got \(32, 8\)"):
        projected(opt_folder, torch.zeros(32, 8))
    model = projected(opt_folder, torch.randn(CODEBOOK_SIZE, 8))
    with pytest.raises(ValueError, match="codebook of the language model is not that of the visual tokenizer"):
        SeedForConditionalGeneration.from_parts(tiny_tokenizer(), model)
    fitting = projected(opt_folder, tiny_tokenizer().quantizer.embedding.weight)
    SeedForConditionalGeneration.from_parts(tiny_tokenizer(), fitting)


# Files


@pytest.mark.parametrize("build", [tiny_language_model, tiny_seed_model])
def test_save_load_save(build, tmp_path):
    model = build()
    model.save_pretrained(tmp_path / "a")
    loaded, report = type(model).from_pretrained(tmp_path / "a", output_loading_info=True)
    assert not any(report.values()), report
    loaded.save_pretrained(tmp_path / "b")
    assert saved_bytes(tmp_path / "a") == saved_bytes(tmp_path / "b") != {}
    type(model).from_pretrained(tmp_path / "b").save_pretrained(tmp_path / "c")
    # from the second time on: a model that was never loaded has not written down its dtype everywhere
    assert (tmp_path / "b" / "config.json").read_bytes() == (tmp_path / "c" / "config.json").read_bytes()
    assert same_weights(model, loaded)
    assert loaded.get_output_embeddings().weight is loaded.get_input_embeddings().weight
    ids = torch.randint(0, TEXT_VOCAB_SIZE, (2, 6))
    assert torch.equal(model(input_ids=ids).logits, loaded(input_ids=ids).logits)


def test_auto_classes(tmp_path):
    tiny_language_model().save_pretrained(tmp_path / "text")
    tiny_seed_model().save_pretrained(tmp_path / "both")
    assert type(AutoModelForCausalLM.from_pretrained(tmp_path / "text")) is SeedForCausalLM
    assert type(AutoModel.from_pretrained(tmp_path / "both")) is SeedForConditionalGeneration


def test_plain_opt_reads_the_weights(tmp_path):
    """Programs that know OPT but not SEED can serve a model with learned visual tokens."""
    model = tiny_language_model()
    model.save_pretrained(tmp_path)
    plain = OPTForCausalLM.from_pretrained(tmp_path, config=OPTConfig(vocab_size=model.config.vocab_size, **OPT_SIZES))
    ids = torch.randint(0, model.config.vocab_size, (1, 7))
    assert torch.equal(plain(ids).logits, model(ids).logits)


def test_keys_have_the_documented_prefixes():
    model = tiny_seed_model()
    assert {key.split(".")[0] for key in model.state_dict()} == {"visual_tokenizer", "language_model"}
    assert model.state_dict()["language_model.model.decoder.embed_tokens.weight"].shape[0] == 448


# Images in the prompt


def test_placeholders_are_filled_in_order():
    model, processor = tiny_seed_model(), tiny_processor()
    colours = ["red", "blue", "green"]
    inputs = processor(["<image> a <image>", "<image>"], [picture(colour, (28, 28)) for colour in colours])
    codes = model.visual_tokenizer.encode(inputs["pixel_values"])
    assert len({tuple(row) for row in codes.tolist()}) == 3, "the test needs images that differ"
    filled = model.fill_placeholders(inputs["input_ids"], inputs["pixel_values"])
    assert torch.equal(filled, model.fill_placeholders(inputs["input_ids"], codes=codes))
    first, second = (parse_segments(row, model.config.text_config) for row in filled)
    read = [part.codes for parsed in (first, second) for part in parsed.parts if isinstance(part, CodeSegment)]
    assert read == codes.tolist() and not first.defects + second.defects
    logits = model(**inputs).logits
    assert torch.equal(logits, model.language_model(filled, attention_mask=inputs["attention_mask"]).logits)


def test_loss_counts_placeholder_labels_as_codes():
    model, processor = tiny_seed_model(), tiny_processor()
    inputs = processor("<image> a photo of", picture())
    filled = model.fill_placeholders(inputs["input_ids"], inputs["pixel_values"])
    expected = model.language_model(filled, labels=filled).loss
    assert torch.equal(model(**inputs, labels=inputs["input_ids"]).loss, expected)


def test_placeholders_that_nothing_fills_are_refused():
    """The loss would be that of a token that stands for no image."""
    model = tiny_seed_model()
    config = model.config.text_config
    ids = torch.tensor([[0, *VisualVocabulary.of(config).span(), 5, 2]])
    with pytest.raises(ValueError, match="32 placeholders .1 images of 32., but 0 images"):
        model(input_ids=ids, labels=ids)
    with pytest.raises(ValueError, match="need input_ids, or inputs_embeds"):
        model(codes=torch.zeros(1, 32, dtype=torch.long))
    with pytest.raises(ValueError, match="0 placeholders"):
        model(inputs_embeds=torch.zeros(1, 3, 16), codes=torch.zeros(1, 32, dtype=torch.long))
    assert model(input_ids=ids[:, -2:], labels=ids[:, -2:]).loss.isfinite()


@pytest.mark.parametrize(
    ("codes", "error"),
    [
        (torch.full((1, 32), 64), ValueError),
        (torch.full((1, 32), -1), ValueError),
        (torch.zeros(1, 31, dtype=torch.long), ValueError),
        (torch.zeros(2, 32, dtype=torch.long), ValueError),
        (torch.zeros(1, 32), TypeError),
    ],
)
def test_wrong_codes_are_refused(codes, error):
    model, processor = tiny_seed_model(), tiny_processor()
    ids = processor("<image>", picture())["input_ids"]
    with pytest.raises(error):
        model.generate(ids, codes=codes)


def test_images_and_placeholders_must_match():
    model, processor = tiny_seed_model(), tiny_processor()
    inputs = processor("<image>", picture())
    with pytest.raises(ValueError, match=r"32 placeholders \(1 images of 32\), but 0 images"):
        model.generate(inputs["input_ids"])
    with pytest.raises(ValueError, match="0 placeholders"):
        model(input_ids=torch.tensor([[0, 5]]), pixel_values=inputs["pixel_values"])
    with pytest.raises(ValueError, match="not both"):
        model(**inputs, codes=torch.zeros(1, 32, dtype=torch.long))
    with pytest.raises(ValueError, match="input_ids"):
        model(pixel_values=inputs["pixel_values"])


# Generating


def test_three_modes_from_processor_to_segments():
    model, processor = tiny_seed_model(), tiny_processor()
    inputs = processor.caption([picture("red"), picture("blue")])
    for mode, types in (("text", {"text"}), ("image", {"image"}), ("interleaved", {"text", "image"})):
        ids = model.generate(**inputs, generation_mode=mode, max_new_tokens=40)
        prompt = ids[:, : inputs["input_ids"].shape[1]]
        assert torch.equal(prompt, model.fill_placeholders(inputs["input_ids"], inputs["pixel_values"]))
        for parts in processor.post_process_multimodal_output(ids[:, prompt.shape[1] :]):
            assert {part.type for part in parts} <= types
    assert model.generate(**processor.draw("a red apple"), generation_mode="image").shape[1] == 8 + 35


def test_defaults_and_limits_of_length(caplog):
    model = tiny_language_model(eos_token_id=2)
    ids = torch.randint(3, 300, (1, 6))
    never = {"sequence_bias": [[[2], -100.0]]}
    assert model.generate(ids, generation_mode="text", **never).shape[1] == 6 + 64
    assert model.generate(ids, generation_mode="interleaved", **never).shape[1] == 160
    assert model.generate(ids, generation_mode="text", max_length=9, **never).shape[1] == 9
    given = GenerationConfig(max_new_tokens=3, eos_token_id=2, pad_token_id=1, bos_token_id=0)
    assert model.generate(ids, given, generation_mode="text", **never).shape[1] == 9
    assert given.max_new_tokens == 3 and given.sequence_bias is None
    logger = logging.getLogger("transformers")
    logger.propagate = True
    try:
        assert model.generate(ids, generation_mode="text", max_new_tokens=500, **never).shape[1] == 160
    finally:
        logger.propagate = False
    assert "160 positions" in caplog.text


def test_what_cannot_be_generated_is_refused():
    model = tiny_language_model()
    ids = torch.randint(3, 300, (1, 6))
    begun = torch.tensor([[0, model.config.boi_token_id]])
    with pytest.raises(ValueError, match="needs 34 new tokens, but there is room for 33"):
        model.generate(ids, generation_mode="image", max_new_tokens=33)
    with pytest.raises(ValueError, match="room for 33"):
        model.generate(torch.randint(3, 300, (1, 127)), generation_mode="image")
    with pytest.raises(ValueError, match="needs 33 new tokens, but there is room for 10"):
        model.generate(begun, generation_mode="interleaved", max_new_tokens=10)
    with pytest.raises(ValueError, match="needs 34 new tokens, but there is room for 33"):  # beside one that is begun
        rows = torch.tensor([[0, 5], begun[0].tolist()])
        model.generate(rows, generation_mode="image", max_new_tokens=33)
    with pytest.raises(ValueError, match="ends inside an image span"):
        model.generate(begun, generation_mode="text")
    with pytest.raises(ValueError, match="room for no more"):
        model.generate(torch.randint(3, 300, (1, 160)), generation_mode="text")
    with pytest.raises(ValueError, match="'video'"):
        model.generate(ids, generation_mode="video")
    with pytest.raises(ValueError, match="has no constraints"):
        model.generate(ids, generation_mode="image", cache_implementation="paged")
    with pytest.raises(ValueError, match="needs a prompt as input_ids"):
        model.generate(generation_mode="text")


def test_the_end_of_an_image_is_where_generation_stops():
    """Of a generation config that names none, the model's own holds, before that of the configuration."""
    model = tiny_language_model()
    model.generation_config.eos_token_id = [5, 9]
    for settings in ({"do_sample": True}, {"num_beams": 2}, {}):
        given = GenerationConfig(pad_token_id=1, **settings)
        ids = model.generate(torch.tensor([[0, 7]]), given, generation_mode="image")[0].tolist()
        assert len(ids) == 2 + 34 + 1 and ids[-1] in (5, 9)
        given.eos_token_id = 2
        assert model.generate(torch.tensor([[0, 7]]), given, generation_mode="image")[0, -1] == 2


@pytest.mark.parametrize(("codes", "room"), [(0, 33), (29, 4), (32, 1), (32, 2)])
def test_a_span_that_is_begun_needs_room_for_its_rest_alone(codes, room):
    model = tiny_language_model()
    config = model.config
    begun = [0, 7, config.boi_token_id, *range(config.visual_token_offset, config.visual_token_offset + codes)]
    (row,) = model.generate(torch.tensor([begun]), generation_mode="image", max_new_tokens=room).tolist()
    assert len(row) == len(begun) + room
    assert [part.type for part in parse_segments(row, config).parts][:2] == ["text", "image"]


def test_without_a_mode_it_is_plain_opt():
    model = tiny_language_model()
    ids = torch.randint(3, 300, (2, 6))
    plain = OPTForCausalLM.generate(model, ids, max_new_tokens=12, do_sample=False)
    assert torch.equal(model.generate(ids, max_new_tokens=12), plain)
    assert (model.generate(ids, max_new_tokens=60)[:, 6:] >= TEXT_VOCAB_SIZE).any(), "nothing was constrained"


def test_full_size_builds_without_memory():
    with torch.device("meta"):
        model = SeedForCausalLM(
            SeedTextConfig(hidden_size=2560, ffn_dim=10240, num_hidden_layers=2, num_attention_heads=32)
        )
    assert model.lm_head.weight.shape == (58496, 2560)


def test_compiles_as_one_graph():
    model = tiny_language_model(visual_embedding="projected")
    ids = torch.randint(0, model.config.vocab_size, (2, 9))
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(ids).logits, model(ids).logits)
