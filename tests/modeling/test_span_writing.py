"""Images are written without a pass for what is known: the ids are those of transformers' own loop."""

from concurrent.futures import ThreadPoolExecutor
from types import MethodType

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import CompileConfig, LogitsProcessor, LogitsProcessorList

from seed_hf.modeling.configuration_seed import SeedLlamaConfig
from seed_hf.modeling.generation_seed import missing_span_tokens
from seed_hf.modeling.modeling_seed_text import SeedLlamaForCausalLM
from seed_hf.modeling.span_writing_seed import writes_directly
from seed_hf.modeling.static_step_seed import can_keep_steps, drop_steps, static_step
from seed_hf.modeling.visual_vocabulary_seed import VisualVocabulary
from tiny import tiny_text_tokenizer
from tiny_families import FAMILIES, plain_model
from tiny_language import CODEBOOK_SIZE, tiny_language_model, tiny_seed_model


@pytest.fixture(scope="module", params=[*FAMILIES, "projected"])
def model(request, tmp_path_factory):
    if request.param == "projected":
        return tiny_language_model(visual_embedding="projected")
    folder = tmp_path_factory.mktemp(request.param)
    plain_model(request.param).save_pretrained(folder)
    tiny_text_tokenizer().save_pretrained(folder)
    torch.manual_seed(1)
    model = FAMILIES[request.param][1].from_language_model(folder, codebook_size=CODEBOOK_SIZE, code_dim=8)
    return model.eval()


class ProductsOfVocabulary(TorchDispatchMode):
    """The matrix products with the output layer, by the names of torch's operations."""

    def __init__(self, width):
        super().__init__()
        self.width, self.names = width, []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.__name__ in ("mm.default", "bmm.default", "linear.default"):
            self.names += [func.__name__ for each in args if each.shape[-1] == self.width]
        return func(*args, **(kwargs or {}))


PROMPTS = torch.tensor([[0, 7, 8, 9, 10], [1, 1, 0, 11, 12]])
MASK = torch.tensor([[1] * 5, [0, 0, 1, 1, 1]])
IDS = {"eos_token_id": 2, "pad_token_id": 1, "generation_mode": "image"}


def written(model, ids=PROMPTS, mask=MASK, **settings):
    torch.manual_seed(5)
    output = model.generate(ids, attention_mask=mask, **{**IDS, **settings})
    return getattr(output, "sequences", output)


def usual(model, ids=PROMPTS, mask=MASK, **settings):
    """By transformers' loop, which alone returns a dictionary."""
    return written(model, ids, mask, return_dict_in_generate=True, **settings)


def passes(model, run):
    """The rows and tokens of each pass through the blocks."""
    shapes = []
    hook = model.model.register_forward_pre_hook(
        lambda _, args, given: shapes.append(tuple(given.get("input_ids", given.get("inputs_embeds")).shape[:2])),
        with_kwargs=True,
    )
    try:
        run()
    finally:
        hook.remove()
    return shapes


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"max_new_tokens": 34},
        {"code_guidance_scale": 3.0},
        {"do_sample": True, "top_p": 0.8, "temperature": 1.3, "num_return_sequences": 3},
        {"do_sample": True, "code_guidance_scale": 2.0, "num_return_sequences": 2},
        {"do_sample": True, "top_k": 5, "repetition_penalty": 1.3},
    ],
    ids=lambda settings: "-".join(settings) or "greedy",
)
def test_the_ids_are_those_of_the_usual_loop(model, settings):
    expected = usual(model, **settings)
    for cache in ("dynamic", "static"):
        assert torch.equal(written(model, cache_implementation=cache, **settings), expected)


def test_a_prompt_inside_a_span_is_finished(model):
    span = torch.tensor(VisualVocabulary.of(model.config).span(range(32)))
    for begun in (1, 20, 32, 33):
        ids = torch.cat([PROMPTS, span[:begun].expand(2, -1)], 1)
        mask = torch.cat([MASK, torch.ones(2, begun, dtype=torch.long)], 1)
        assert writes_directly(model, IDS, missing_span_tokens(ids, model.config))
        assert torch.equal(written(model, ids, mask), usual(model, ids, mask))
    apart = torch.tensor([[0, 7, span[0], span[1]], [0, 7, 8, 9]])
    assert not writes_directly(model, IDS, missing_span_tokens(apart, model.config))
    assert torch.equal(written(model, apart, None), usual(model, apart, None))


def test_a_prompt_and_32_codes_take_32_passes_and_drawings_of_a_prompt_share_it(model):
    assert passes(model, lambda: written(model)) == [(2, 6), *[(2, 1)] * 31]
    shapes = passes(model, lambda: written(model, do_sample=True, num_return_sequences=4))
    assert shapes == [(2, 6), *[(8, 1)] * 31]


def test_what_needs_the_usual_loop_has_it(model):
    missing = missing_span_tokens(PROMPTS, model.config)
    assert writes_directly(model, IDS, missing)
    for option in (
        {"num_beams": 2},
        {"output_scores": True},
        {"use_cache": False},
        {"cache_implementation": "offloaded"},
        {"eos_token_id": [2, 3]},
        {"eos_token_id": None},
        {"max_time": 5.0},
        {"guidance_scale": 3.0},
        {"watermarking_config": {"greenlist_ratio": 0.5}},
        {"past_key_values": torch.zeros(2)},
    ):
        assert not writes_directly(model, {**IDS, **option}, missing)


def test_a_step_is_compiled_once_for_prompts_of_similar_lengths():
    """In one graph, so nothing in it waits for the device either."""
    model = tiny_language_model()
    compiling = CompileConfig(backend="eager", fullgraph=True, mode=None, dynamic=False)
    compiling._compile_all_devices = True  # else it is for accelerators alone
    torch._dynamo.reset()
    drop_steps(model)
    counted = torch._dynamo.utils.counters
    counted.clear()
    with torch._dynamo.config.patch(error_on_recompile=True):
        for length in (3, 5):
            ids, mask = PROMPTS[:, :length], torch.ones(2, length, dtype=torch.long)
            found = written(model, ids, mask, cache_implementation="static", compile_config=compiling)
            assert torch.equal(found, usual(model, ids, mask))
    assert counted["stats"]["unique_graphs"] == 1


def test_a_kept_step_serves_every_mode_of_autograd_and_goes_with_its_weights(model):
    drop_steps(model)
    with torch.inference_mode():
        inside = written(model, cache_implementation="static")
    assert torch.equal(written(model, cache_implementation="static"), inside)

    def kept():
        with static_step(model, 2, 36, codes_alone=True) as step:
            with static_step(model, 2, 36, codes_alone=True) as another:
                assert another is not step  # for calls of several threads at once
            return step

    step = kept()
    assert kept() is step
    head = model.get_output_embeddings()
    head.weight = torch.nn.Parameter(head.weight.detach().clone())
    assert kept() is not step


def test_a_call_under_autocast_leaves_no_step_of_its_number_type(model):
    """On a GPU, a captured one would also read copies of the weights that autocast has freed by then."""
    for first in (True, False):
        drop_steps(model)
        for cast in (first, not first):
            with torch.autocast("cpu", torch.bfloat16, enabled=cast):
                assert torch.equal(written(model, cache_implementation="static"), usual(model))


def test_a_call_that_overflows_spoils_no_later_one(model):
    expected = usual(model)
    drop_steps(model)
    weight = next(weight for name, weight in model.named_parameters() if "v_proj" in name)
    intact = weight.detach().clone()
    weight.data.fill_(torch.inf)
    written(model, PROMPTS.repeat(1, 4), MASK.repeat(1, 4), cache_implementation="static")
    weight.data.copy_(intact)
    assert torch.equal(written(model, cache_implementation="static"), expected)


def test_steps_are_dropped_of_a_whole_model_too():
    whole = tiny_seed_model()
    with static_step(whole.language_model, 2, 36) as step:
        pass
    drop_steps(whole)
    with static_step(whole.language_model, 2, 36) as another:
        assert another is not step


def test_calls_of_several_threads_do_not_share_a_step(model):
    torch.manual_seed(3)
    prompts = [torch.randint(3, 60, (1, 20)) for _ in range(8)]
    expected = [usual(model, ids, None) for ids in prompts]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda ids: model.generate(ids, **IDS, cache_implementation="static"), prompts))
    assert all(map(torch.equal, found, expected))


class Counting(LogitsProcessor):
    """Has a state, as transformers' own guidance and watermarks."""

    def __init__(self):
        self.calls = 0

    def __call__(self, input_ids, scores):
        self.calls += 1
        return scores.roll(self.calls, -1)


def test_processors_with_a_state_are_asked_as_often_as_in_the_usual_loop(model):
    for settings in ({"guidance_scale": 3.0}, {"guidance_scale": 3.0, "negative_prompt_ids": PROMPTS.flip(0)}):
        assert torch.equal(written(model, mask=None, **settings), usual(model, mask=None, **settings))
    own = [LogitsProcessorList([Counting()]) for _ in range(2)]
    assert torch.equal(written(model, logits_processor=own[0]), usual(model, logits_processor=own[1]))
    assert own[0][0].calls == own[1][0].calls


def test_a_forward_of_ones_own_is_not_passed_over(model):
    plain = written(model)
    original = type(model).forward

    def other(self, *args, **kwargs):
        output = original(self, *args, **kwargs)
        output.logits = -output.logits
        return output

    own = type("Own", (type(model),), {"forward": other})
    model.forward = MethodType(other, model)
    try:
        expected = usual(model)
        assert not torch.equal(expected, plain) and torch.equal(written(model), expected)
        assert torch.equal(written(model, cache_implementation="static"), expected)
    finally:
        del model.forward
    ours, model.__class__ = type(model), own
    try:
        assert torch.equal(written(model), expected)
    finally:
        model.__class__ = ours
    assert torch.equal(written(model), plain)


def test_hidden_states_that_were_once_asked_for_change_nothing_later(model):
    plain = written(model)
    model(PROMPTS, output_hidden_states=True)
    assert can_keep_steps(model) and torch.equal(written(model), plain)
    with_hook = model.model.register_forward_hook(lambda *given: None)
    assert not can_keep_steps(model)
    with_hook.remove()


def test_compiled_steps_of_many_sizes_do_not_share_a_limit(model):
    """torch compiles one function eight times, and then refuses."""
    compiling = CompileConfig(fullgraph=True, dynamic=False, mode=None, backend="eager")
    compiling._compile_all_devices = True
    with torch._dynamo.config.patch(recompile_limit=2):
        for rows in (1, 2, 3, 4, 1):
            ids = PROMPTS[:1].repeat(rows, 1)
            found = model.generate(ids, **IDS, cache_implementation="static", compile_config=compiling)
            assert torch.equal(found, usual(model, ids, None))


def test_a_step_whose_rotary_positions_the_host_looks_up_is_not_kept():
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    layout = {"text_vocab_size": 100, "codebook_size": 16, "num_query_tokens": 4, "max_position_embeddings": 64}
    for kind, is_kept in (("default", True), ("dynamic", False)):
        rotary = {"rope_type": kind, "factor": 2.0, "rope_theta": 10000.0}
        config = SeedLlamaConfig(**sizes, **layout, rope_parameters=rotary)
        assert can_keep_steps(SeedLlamaForCausalLM(config).eval()) == is_kept


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("mode", ["image", "text"])
def test_a_frozen_output_layer_is_one_product_for_all_rows(rows, mode):
    """Of the view of last places torch makes a product for each row, and copies the weights in bfloat16 on a CPU."""
    model = tiny_language_model().eval().requires_grad_(False)
    width = model.config.codebook_size if mode == "image" else model.config.vocab_size
    length = {} if mode == "image" else {"max_new_tokens": 2}
    with ProductsOfVocabulary(width) as seen:
        written(model, PROMPTS[:rows], MASK[:rows], generation_mode=mode, **length)
    assert set(seen.names) == {"mm.default"}
