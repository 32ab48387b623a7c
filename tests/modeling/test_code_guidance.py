"""Guidance on codes: equal to two separate passes, in every family, wherever a row writes an image."""

import copy
from threading import Thread
from types import SimpleNamespace

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import CompileConfig, DynamicCache, GenerationConfig

from seed_hf.modeling.generation_seed import CodeSegment, Defect, missing_span_tokens, parse_segments
from seed_hf.modeling.guidance_seed import check_guided_options, guided_hidden, guided_logits
from seed_hf.modeling.streaming_seed import SeedStreamer
from seed_hf.modeling.visual_vocabulary_seed import VisualVocabulary
from tiny import tiny_text_tokenizer
from tiny_diffusion import tiny_model_and_processor, tiny_pipeline
from tiny_families import FAMILIES, plain_model
from tiny_language import CODEBOOK_SIZE, tiny_processor, tiny_seed_model
from two_passes import assert_two_passes, eager_to_draw, guided_scores


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
IDS = {"eos_token_id": 2, "pad_token_id": 1}


def padded(prompts) -> dict[str, torch.Tensor]:
    longest = max(map(len, prompts))
    gaps = [longest - len(prompt) for prompt in prompts]
    return {
        "input_ids": torch.tensor([[1] * gap + prompt for gap, prompt in zip(gaps, prompts)]),
        "attention_mask": torch.tensor([[0] * gap + [1] * len(prompt) for gap, prompt in zip(gaps, prompts)]),
    }


def guided(model, ids=PADDED, mask=MASK, **settings):
    return model.generate(ids, attention_mask=mask, generation_mode="image", **{**IDS, **settings})


def rows_without_padding(found, prompts):
    longest = max(map(len, prompts))
    return [row[longest - len(prompt) :] for row, prompt in zip(found.tolist(), prompts)]


@pytest.mark.parametrize("cache", [{}, {"cache_implementation": "static"}], ids=["dynamic", "static"])
def test_greedy_guidance_is_that_of_two_passes(model, cache):
    found = guided(model, code_guidance_scale=3.0, **cache)
    assert not torch.equal(found, guided(model))
    for row, prompt in zip(rows_without_padding(found, PROMPTS), PROMPTS):
        assert_two_passes(model, row, len(prompt), 3.0)


def interleaved_prompts(layout):
    """Rows that write text while others write codes: a span in the prompt, one that is begun, and a short one."""
    span = layout.span(range(5, 37))
    return [[0, 11, *span, 12], [0, 5, 6, *span[:20]], [0, 3, 4, 5]]


@pytest.mark.parametrize("bos", [0, None], ids=["bos", "no bos"])
def test_every_image_is_guided_by_itself(model, bos, monkeypatch):
    layout = VisualVocabulary.of(model.config)
    prompts = interleaved_prompts(layout)
    monkeypatch.setattr(model.config, "bos_token_id", bos)
    settings = {**padded(prompts), **IDS, **eager_to_draw(layout), "generation_mode": "interleaved"}
    settings |= {"max_new_tokens": 80, "code_guidance_scale": 3.0}
    for cache in ({"cache_implementation": "static"}, {}):
        found = model.generate(**settings, **cache)
        images = []
        for row, prompt in zip(rows_without_padding(found, prompts), prompts):
            total = len(prompt) + 80
            assert_two_passes(model, row, len(prompt), 3.0, mode="interleaved", total=total, bos=bos)
            images.append(sum(isinstance(part, CodeSegment) for part in parse_segments(row, layout).parts))
        assert images[0] > 2 and images[2] > 1
    inside = missing_span_tokens(found[:, : found.shape[1] - 40], layout)
    assert len(inside.unique()) > 1, "the rows should be at different places of their images"


def test_compiled_steps_are_guided(model):
    layout = VisualVocabulary.of(model.config)
    settings = {**padded(interleaved_prompts(layout)), **IDS, **eager_to_draw(layout), "max_new_tokens": 44}
    settings |= {"code_guidance_scale": 3.0, "cache_implementation": "static", "generation_mode": "interleaved"}
    compiling = CompileConfig(backend="eager", fullgraph=True, mode=None)
    compiling._compile_all_devices = True  # else transformers compiles on accelerators alone
    torch._dynamo.reset()
    compiled = model.generate(**settings, compile_config=compiling)
    assert torch.equal(compiled, model.generate(**settings))
    assert model._compiled_call is not None


def test_scale_one_is_no_guidance(model):
    rows = []
    hook = model.register_forward_pre_hook(
        lambda _, args, given: rows.append(len(given["input_ids"])), with_kwargs=True
    )
    try:
        none = guided(model)
        assert torch.equal(guided(model, code_guidance_scale=1.0), none) and set(rows) == {2}
        rows.clear()
        assert torch.equal(guided(model, code_guidance_scale=1.0001), none) and set(rows) == {4}
    finally:
        hook.remove()


def test_states_are_guided_as_their_logits_are():
    """But for one number a sample, which changes no choice."""
    torch.manual_seed(0)
    hidden, head, scale = torch.randn(6, 16), torch.nn.Linear(16, 40), torch.tensor([3.0, 1.0, 0.5])
    from_states = head(guided_hidden(hidden, scale))
    from_logits = guided_logits(head(hidden)[:, None], scale)[:, 0]
    apart = from_states - from_logits
    assert torch.allclose(apart, apart[:, :1].expand_as(apart), atol=1e-5)
    assert torch.equal(guided_hidden(hidden, scale)[1], hidden[1])


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


def test_what_is_sampled_from_are_guided_scores(model):
    """All settings of sampling apply as they do without guidance: the library draws."""
    settings = {"do_sample": True, "typical_p": 0.5, "top_k": 0, "return_dict_in_generate": True}
    output = guided(model, code_guidance_scale=3.0, output_scores=True, output_logits=True, **settings)
    assert output.past_key_values is None and len(output.sequences) == len(output.logits[3]) == 2
    expected = guided_scores(model, output.sequences[0, : 5 + 3].tolist(), 3.0)[-1]
    assert torch.allclose(output.logits[3][0], expected, atol=1e-4)
    left = (output.scores[3][0] > -torch.inf).sum()
    assert 0 < left < CODEBOOK_SIZE


def test_a_span_that_is_begun_goes_on(model):
    layout = VisualVocabulary.of(model.config)
    whole = guided(model, code_guidance_scale=3.0)
    begun = whole[:, : 5 + 1 + 10]  # the prompt, <img> and ten codes
    mask = torch.cat([MASK, torch.ones(2, 11, dtype=torch.long)], 1)
    assert torch.equal(guided(model, begun, mask, code_guidance_scale=3.0), whole)
    assert (whole[:, 5] == layout.boi_token_id).all()


def test_a_prompt_that_is_empty_itself_is_not_guided(model):
    """Whether bos and <img> or <img> alone, and beside a longer row."""
    begin = VisualVocabulary.of(model.config).boi_token_id
    prompts = [[0, begin], [begin], [0, 7, 8, 9]]
    given = padded(prompts)
    plain = guided(model, *given.values())
    found = guided(model, *given.values(), code_guidance_scale=3.0)
    assert torch.equal(found[:2], plain[:2]) and not torch.equal(found[2], plain[2])
    alone = guided(model, torch.tensor([[begin]]), None, code_guidance_scale=3.0)
    assert alone[0].tolist() == found[1, 3:38].tolist()


@pytest.mark.parametrize("mode", ["image", "interleaved"])
def test_beams_have_guided_scores(model, mode):
    layout = VisualVocabulary.of(model.config)
    settings = {"attention_mask": MASK, "generation_mode": mode, "code_guidance_scale": 3.0, "num_beams": 3, **IDS}
    settings |= {"num_return_sequences": 2, "length_penalty": 0.0, "max_new_tokens": 38}
    settings |= {"return_dict_in_generate": True, "output_scores": True}
    settings |= eager_to_draw(layout, 30.0) if mode == "interleaved" else {}
    found = model.generate(PADDED, **settings)
    assert torch.equal(found.sequences, model.generate(PADDED, use_cache=False, **settings).sequences)
    assert len(found.sequences.unique(dim=0)) == 4
    for row, start, sum_of_scores in ((0, 0, found.sequences_scores[0]), (2, 2, found.sequences_scores[2])):
        ids = [token for token in found.sequences[row, start:].tolist() if token != 1]
        scores = guided_scores(model, ids, 3.0).log_softmax(-1)
        scores[:, layout.boi_token_id] += 30.0 if mode == "interleaved" else 0.0
        new = range(5 - start, len(ids))
        assert sum_of_scores.item() == pytest.approx(sum(scores[i - 1, ids[i]].item() for i in new), abs=1e-3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"past_key_values": DynamicCache()}, "does not go with (past_key_values|cache)"),
        ({"output_hidden_states": True, "return_dict_in_generate": True}, "does not go with output_hidden_states"),
        ({"prompt_lookup_num_tokens": 3}, "does not go with prompt_lookup_num_tokens"),
        ({"generation_config": GenerationConfig(prefill_chunk_size=2)}, "does not go with prefill_chunk_size"),
        ({"code_guidance_scale": float("nan")}, "must be a finite number"),
    ],
)
def test_what_guidance_does_not_go_with(model, settings, message):
    with pytest.raises(ValueError, match=message):
        guided(model, **{"code_guidance_scale": 2.0, **settings})
    for mode in ("text", None):
        with pytest.raises(ValueError, match=f"generation_mode 'image' or 'interleaved', got {mode!r}"):
            model.generate(PADDED, generation_mode=mode, code_guidance_scale=2.0)


def test_a_window_that_loses_the_first_token_is_refused():
    with pytest.raises(ValueError, match="looks 32 tokens back, and 40 were asked for"):
        check_guided_options(SimpleNamespace(sliding_window=32), 40, {})
    check_guided_options(SimpleNamespace(sliding_window=64), 40, {})


def test_adapters_are_guided(model):
    model = copy.deepcopy(model)
    lora = LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    adapted = get_peft_model(model, lora).eval()
    found = guided(adapted, code_guidance_scale=3.0)
    for row, prompt in zip(rows_without_padding(found, PROMPTS), PROMPTS):
        assert_two_passes(adapted, row, len(prompt), 3.0)


# The whole model


def test_the_whole_model_passes_it_on():
    model = tiny_seed_model()
    ids = torch.tensor([PROMPTS[0]])
    expected = model.language_model.generate(ids, generation_mode="image", code_guidance_scale=4.0)
    assert torch.equal(model.generate(ids, generation_mode="image", code_guidance_scale=4.0), expected)
    assert not torch.equal(model.generate(ids, generation_mode="image"), expected)


def test_the_pipeline_passes_it_on():
    model, processor = tiny_model_and_processor()
    pipe = tiny_pipeline(model, processor=processor)
    prompt = processor.draw("a red apple")["input_ids"][0].tolist()
    codes = pipe.encode_prompt("a red apple", generation_kwargs={"code_guidance_scale": 3.0, "do_sample": False})
    layout = VisualVocabulary.of(model.config.text_config)
    row = [*prompt, *layout.span(codes[0].tolist()), 2]
    assert_two_passes(model.language_model, row, len(prompt), 3.0)


def test_a_chat_of_several_turns_and_a_streamer():
    model, processor = tiny_seed_model(), tiny_processor()
    layout = processor.vocabulary
    chat = [{"role": "user", "content": "generate an image of a red apple"}]
    settings = {"generation_mode": "interleaved", "max_new_tokens": 40, "code_guidance_scale": 3.0}
    settings |= {"do_sample": False, **eager_to_draw(layout)}
    for turn in range(2):
        inputs = processor.apply_chat_template(
            chat, add_generation_prompt=True, tokenize=True, return_dict=True, begin_image=turn == 1
        )
        streamer, rows = SeedStreamer(processor, timeout=60, skip_special_tokens=False), []
        thread = Thread(target=lambda: rows.append(model.generate(**inputs, streamer=streamer, **settings)))  # noqa: B023
        thread.start()
        parts = list(streamer)
        thread.join()
        prompt = inputs["input_ids"][0].tolist()
        total = len(prompt) + 40
        row = rows[0][0].tolist()
        assert_two_passes(model.language_model, row, len(prompt), 3.0, mode="interleaved", total=total)
        streamed = [token for part in parts for token in part.ids]
        assert streamed == rows[0][0, len(prompt) :].tolist()
        (answer,) = processor.post_process_multimodal_output(rows[0][:, len(prompt) - turn :])
        assert not any(isinstance(part, Defect) for part in answer)
        drawn = [part.codes for part in answer if isinstance(part, CodeSegment)]
        assert drawn
        image = {"type": "image", "codes": drawn[0]}
        chat += [{"role": "assistant", "content": [image]}, {"role": "user", "content": "make it blue"}]
