"""Prompts to codes: sampling follows the generator, and the text tower ranks candidates."""

import pytest
import torch
from transformers import GenerationConfig

from seed_hf import SeedImagePipeline, SeedTokenizer
from tiny import tiny_tokenizer, tiny_tokenizer_config
from tiny_diffusion import generators, tiny_model_and_processor, tiny_pipeline


STEPS = {"num_inference_steps": 2, "output_type": "pt"}


@pytest.fixture(scope="module")
def drawing_pipe():
    model, processor = tiny_model_and_processor()
    return tiny_pipeline(model, processor=processor)


def test_a_batch_of_prompts_gives_the_codes_of_each_alone(drawing_pipe):
    prompts = ["a red apple", "the blue fire engine on a table", "a"]
    together = drawing_pipe(prompts, **STEPS).codes
    alone = torch.cat([drawing_pipe(prompt, **STEPS).codes for prompt in prompts])
    assert torch.equal(together, alone)


def test_sampled_codes_follow_the_generator_and_spare_the_global_state(drawing_pipe):
    sample = {"do_sample": True, "temperature": 3.0}
    before = torch.get_rng_state()
    first, again, other = (
        drawing_pipe("a red apple", generator=generators(seed), generation_kwargs=sample, **STEPS)
        for seed in (1, 1, 2)
    )
    assert torch.equal(first.codes, again.codes) and torch.equal(first.images, again.images)
    assert not torch.equal(first.codes, other.codes)
    assert torch.equal(first.images, drawing_pipe(codes=first.codes, generator=generators(1), **STEPS).images)
    assert torch.equal(before, torch.get_rng_state())


def test_settings_of_a_generation_config_count_as_those_by_name(drawing_pipe):
    """Each prompt of a list has its own generator, and codes are codes, whatever else `generate` is to return."""
    sampled = {"generation_config": GenerationConfig(do_sample=True, temperature=3.0, top_k=0)}
    both = drawing_pipe.encode_prompt(["a red apple", "the blue fire engine"], generators(1, 2), sampled)
    alone = drawing_pipe.encode_prompt("the blue fire engine", generators(2), sampled)
    assert torch.equal(both[1:], alone) and drawing_pipe.samples_codes(sampled)
    assert not drawing_pipe.samples_codes({**sampled, "do_sample": False})
    greedy = drawing_pipe.encode_prompt("a red apple")
    asked = GenerationConfig(return_dict_in_generate=True, output_scores=True)
    assert torch.equal(drawing_pipe.encode_prompt("a red apple", None, {"generation_config": asked}), greedy)


def test_a_compiled_model_is_what_it_was_made_of(drawing_pipe):
    compiled = torch.compile(drawing_pipe.visual_tokenizer, backend="eager")
    pipe = tiny_pipeline(compiled)
    codes = drawing_pipe.encode_prompt("a red apple")
    plain = tiny_pipeline(drawing_pipe.visual_tokenizer)
    draw = {"codes": codes, "generator": generators(1), **STEPS}
    assert torch.equal(pipe(**draw).images, plain(**{**draw, "generator": generators(1)}).images)


def test_of_several_candidates_the_one_nearest_to_the_prompt_is_drawn(drawing_pipe):
    prompts = ["a red apple", "the blue fire engine"]
    chosen = drawing_pipe(prompts, num_candidates=6, generator=generators(1)[0], **STEPS).codes
    seed = torch.randint(2**62, (1,), generator=generators(1)[0]).item()
    torch.manual_seed(seed)
    inputs = drawing_pipe.processor.draw(prompts)
    settings = {"generation_mode": "image", "do_sample": True, "top_k": 0, "num_return_sequences": 6}
    ids = drawing_pipe.seed_model.generate(**inputs, **settings)
    offset = drawing_pipe.seed_model.config.text_config.visual_token_offset
    candidates = (ids[:, inputs.input_ids.shape[1] + 1 :][:, :32] - offset).unflatten(0, (2, 6))
    tokenizer = drawing_pipe.visual_tokenizer
    for prompt, found, best in zip(prompts, candidates, chosen):
        words = drawing_pipe.processor.tokenizer(prompt, return_tensors="pt")
        wanted = tokenizer.get_text_features(words.input_ids, words.attention_mask).pooler_output
        similarity = tokenizer.get_image_features(codes=found).pooler_output @ wanted[0]
        assert len(found.unique(dim=0)) > 1 and similarity.min() < similarity.max()
        assert torch.equal(best, found[similarity.argmax()])


def test_candidates_are_saved_with_the_pipeline_and_can_be_switched_off(drawing_pipe, tmp_path):
    model, processor = drawing_pipe.seed_model, drawing_pipe.processor
    tiny_pipeline(model, processor=processor, num_candidates=4).save_pretrained(tmp_path)
    loaded = SeedImagePipeline.from_pretrained(tmp_path)
    loaded.set_progress_bar_config(disable=True)
    drawn, same, first = (
        loaded("a red apple", generator=generators(3), num_candidates=count, **STEPS).codes for count in (None, 4, 1)
    )
    assert torch.equal(drawn, same) and not torch.equal(drawn, first)
    assert torch.equal(first, drawing_pipe("a red apple", **STEPS).codes)


def test_candidates_need_a_text_tower_that_reads_the_prompt():
    model, processor = tiny_model_and_processor()
    for tower, words in ((tiny_tokenizer(text_tower=False), "text_tower"), (other_vocabulary(), "400")):
        model.visual_tokenizer = tower
        pipe = tiny_pipeline(model, processor=processor)
        with pytest.raises(ValueError, match=words):
            pipe("a red apple", num_candidates=2)
        assert pipe("a red apple", **STEPS).images.shape == (1, 3, 16, 16)


def other_vocabulary() -> SeedTokenizer:
    qformer = tiny_tokenizer_config().qformer_config.to_dict() | {"vocab_size": 400}
    return tiny_tokenizer(qformer_config=qformer)


@pytest.mark.parametrize("candidates", [1, 2])
def test_each_prompt_of_a_batch_is_sampled_by_its_own_generator(drawing_pipe, candidates):
    options = {"generation_kwargs": {"do_sample": True}, "num_candidates": candidates}
    prompts = ["a red apple", "a blue pig"]
    both = drawing_pipe.encode_prompt(prompts, generators(3, 4), **options)
    alone = [drawing_pipe.encode_prompt(one, generators(seed)[0], **options) for one, seed in zip(prompts, (3, 4))]
    assert torch.equal(both, torch.cat(alone))
    others = drawing_pipe.encode_prompt(prompts, generators(3, 5), **options)
    assert torch.equal(both[0], others[0]) and not torch.equal(both[1], others[1])
    with pytest.raises(ValueError, match="2 prompts need one generator each, got a list of 3"):
        drawing_pipe.encode_prompt(prompts, generators(3, 4, 5), **options)
