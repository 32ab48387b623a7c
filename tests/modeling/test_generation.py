"""Image spans are valid however they are generated, and any sequence can be read back."""

import random

import pytest
import torch
from transformers import GenerationConfig, LogitsProcessorList, SuppressTokensLogitsProcessor

from seed_hf.modeling.generation_seed import (
    GENERATION_MODES,
    CodeSegment,
    Defect,
    TextSegment,
    VisualSpanLogitsProcessor,
    missing_span_tokens,
    parse_segments,
)
from seed_hf.modeling.visual_tokens_seed import extend_text_tokenizer
from tiny import tiny_text_tokenizer
from tiny_language import span, tiny_language_model, tiny_seed_model, tiny_text_config


CONFIG = tiny_text_config()
CODES = list(range(32))
SPAN = span(CONFIG, CODES)
INF = float("inf")


@pytest.fixture(scope="module")
def model():
    return tiny_language_model()


def prompts(rows=2, length=5):
    return torch.randint(3, CONFIG.text_vocab_size, (rows, length), generator=torch.Generator().manual_seed(1))


def eager_to_draw(strength=8.0):
    """Settings that make a random model open image spans often."""
    return {"sequence_bias": [[[CONFIG.boi_token_id], strength]]}


def allowed(mode, ids, *, prompt_length=1, max_length=None, **kwargs):
    """The ids that the processor leaves for one row."""
    processor = VisualSpanLogitsProcessor(CONFIG, mode, prompt_length=prompt_length, max_length=max_length, **kwargs)
    scores = processor(torch.tensor([ids]), torch.zeros(1, CONFIG.vocab_size))
    return set(torch.nonzero(scores[0] > -INF).flatten().tolist())


TEXT = set(range(CONFIG.text_vocab_size))
CODE_IDS = set(range(CONFIG.visual_token_offset, CONFIG.visual_token_offset + CONFIG.codebook_size))
BOI, EOI, EOS = CONFIG.boi_token_id, CONFIG.eoi_token_id, 2


# One step


@pytest.mark.parametrize(
    ("mode", "ids", "expected"),
    [
        ("text", [0], TEXT),
        ("text", [0, *SPAN], TEXT),
        ("interleaved", [0], TEXT | {BOI}),
        ("interleaved", [0, *SPAN], TEXT | {BOI}),
        ("interleaved", [0, BOI], CODE_IDS),
        ("interleaved", [0, *SPAN[:-2]], CODE_IDS),
        ("interleaved", [0, *SPAN[:-1]], {EOI}),
        ("interleaved", [BOI], CODE_IDS),
        ("interleaved", [0, *SPAN, 7, BOI, SPAN[1]], CODE_IDS),
        # prompts that were never valid: too many codes are closed, anything else counts as outside
        ("interleaved", [0, BOI, *SPAN[1:-1], SPAN[1]], {EOI}),
        ("interleaved", [0, BOI, SPAN[1], 7], TEXT | {BOI}),
        ("interleaved", [SPAN[1], SPAN[2]], TEXT | {BOI}),
        ("image", [0], {BOI}),
        ("image", [0, BOI], CODE_IDS),
        ("image", [0, *SPAN[:-1]], {EOI}),
        ("image", [0, *SPAN], {EOS}),
        ("image", [0, *SPAN, EOS], {EOS}),
    ],
)
def test_what_may_follow(mode, ids, expected):
    assert allowed(mode, ids) == expected


def test_spans_of_the_prompt_do_not_count_as_drawn():
    assert allowed("image", [0, *SPAN, 5], prompt_length=36) == {BOI}
    assert allowed("image", [0, *SPAN, 5, *SPAN], prompt_length=36) == {EOS}
    # the prompt ends inside a span: it is finished, then the sequence ends
    begun = [0, *SPAN[:10]]
    assert allowed("image", begun, prompt_length=11) == CODE_IDS
    assert allowed("image", [0, *SPAN], prompt_length=11) == {EOS}


def test_no_span_is_begun_that_would_be_cut():
    assert BOI in allowed("interleaved", [0, 5], max_length=2 + 34)
    assert allowed("interleaved", [0, 5], max_length=2 + 33) == TEXT


def test_rows_are_independent_and_padding_is_ignored():
    rows = [[1, 1, 0, 5, BOI], [0, 5, *SPAN[:3]], [5, 6, 7, 8, 9]]
    processor = VisualSpanLogitsProcessor(CONFIG, "interleaved", prompt_length=5)
    scores = torch.randn(3, CONFIG.vocab_size)
    together = processor(torch.tensor(rows), scores)
    for index, row in enumerate(rows):
        assert torch.equal(together[index], processor(torch.tensor([row]), scores[index : index + 1])[0])
    finite = together > -INF
    assert torch.equal(together[finite], scores[finite]), "allowed scores stay as they are"


def test_other_processors_cannot_leave_a_row_without_choice():
    scores = torch.zeros(1, CONFIG.vocab_size)
    scores[:, EOI] = -INF
    processor = VisualSpanLogitsProcessor(CONFIG, "interleaved", prompt_length=1)
    out = processor(torch.tensor([[0, *SPAN[:-1]]]), scores)
    assert out[0].argmax() == EOI and out[0, EOI] == 0 and (out > -INF).sum() == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_no_score_is_high_enough_for_what_may_not_follow(dtype):
    scores = torch.randn(2, CONFIG.vocab_size).to(dtype)
    scores[:, 7] = INF
    processor = VisualSpanLogitsProcessor(CONFIG, "interleaved", prompt_length=1)
    out = processor(torch.tensor([[0, *SPAN[:3]], [0] * 4]), scores)
    assert out.dtype == dtype
    assert out[0, 7] == -INF and out[1, 7] == INF
    assert torch.equal(out[0, sorted(CODE_IDS)], scores[0, sorted(CODE_IDS)])


def test_several_ends_and_none():
    assert allowed("image", [0, *SPAN], eos_token_id=[2, 7]) == {2, 7}
    with pytest.raises(ValueError, match="eos_token_id"):
        VisualSpanLogitsProcessor(tiny_text_config(eos_token_id=None), "image", prompt_length=1)
    with pytest.raises(ValueError, match="'pictures'"):
        VisualSpanLogitsProcessor(CONFIG, "pictures", prompt_length=1)


def test_missing_tokens():
    rows = torch.tensor([[0] * 33 + [BOI], [0, *SPAN[:-1]], SPAN, [BOI, *SPAN[1:-1], SPAN[1]], [7] * 34])
    assert missing_span_tokens(rows, CONFIG).tolist() == [33, 1, 0, 1, 0]


@pytest.mark.parametrize("mode", GENERATION_MODES)
def test_compiles_as_one_graph(mode):
    processor = VisualSpanLogitsProcessor(CONFIG, mode, prompt_length=2, max_length=60)
    torch._dynamo.reset()
    compiled = torch.compile(processor.__call__, backend="eager", fullgraph=True)
    for ids in ([0, 5], [0, 5, BOI], [0, 5, *SPAN], [0, 5, *SPAN, 2]):
        ids, scores = torch.tensor([ids, ids]), torch.randn(2, CONFIG.vocab_size)
        assert torch.equal(compiled(ids, scores), processor(ids, scores))


# Whole generations


def check(sequences, mode, prompt_length, full_rows=True):
    """All new spans are valid; returns how many there are."""
    spans = 0
    for row in sequences:
        new = parse_segments(row[prompt_length:], CONFIG)
        assert not new.defects, new.defects
        images = [part for part in new.parts if isinstance(part, CodeSegment)]
        assert row[prompt_length:].max() < CONFIG.image_token_id
        if mode == "text":
            assert not images
        if mode == "image":
            assert len(images) == 1 and images[0].position == 0 and row[prompt_length + 34] == EOS
        spans += len(images)
    return spans


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"num_beams": 3, "num_return_sequences": 3},
        {"num_beams": 2, "do_sample": True, "temperature": 1.5},
        {"cache_implementation": "static"},
        {"use_cache": False},
        {"do_sample": True, "top_p": 0.5, "repetition_penalty": 1.5, "no_repeat_ngram_size": 2},
        {"min_new_tokens": 38},
    ],
    ids=lambda settings: "-".join(settings) or "greedy",
)
@pytest.mark.parametrize("mode", ["image", "interleaved"])
def test_every_way_of_decoding_is_valid(model, mode, settings):
    ids = prompts()
    bias = eager_to_draw(60.0) if mode == "interleaved" else {}
    out = model.generate(ids, generation_mode=mode, max_new_tokens=40, **settings, **bias)
    assert check(out, mode, ids.shape[1]) >= len(out)


def test_static_cache_and_padding_do_not_change_the_result(model):
    ids = prompts()
    plain = model.generate(ids, generation_mode="image")
    static = model.generate(ids, generation_mode="image", cache_implementation="static")
    assert torch.equal(plain, static)
    padded = torch.cat([torch.ones(2, 3, dtype=torch.long), ids], dim=1)
    mask = (torch.arange(8) >= 3).long().expand(2, -1)
    out = model.generate(padded, attention_mask=mask, generation_mode="image")
    assert torch.equal(out[:, 3:], plain)


def test_prompt_that_ends_inside_a_span_is_finished(model):
    ids = torch.tensor([[0, *SPAN[:20]], [5] * 21])
    out = model.generate(ids, generation_mode="interleaved", max_new_tokens=20)
    first = parse_segments(out[0], CONFIG)
    assert not first.defects and isinstance(first.parts[1], CodeSegment)
    check(out[1:], "interleaved", 21)


def test_own_logits_processors_are_kept(model):
    """A suppressed code stays suppressed; suppressing all codes does not break the span."""
    some = list(CODE_IDS)[:60]
    for banned in (some, list(CODE_IDS)):
        mine = LogitsProcessorList([SuppressTokensLogitsProcessor(banned)])
        out = model.generate(prompts(), logits_processor=mine, generation_mode="image", do_sample=True)
        check(out, "image", 5)
        if banned is some:
            assert not set(out.flatten().tolist()) & set(some)


# Reading


def kinds(ids):
    return [
        (part.kind if isinstance(part, Defect) else part.type, len(part.ids))
        for part in parse_segments(ids, CONFIG).parts
    ]


C = SPAN[1]
IMG = CONFIG.image_token_id


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ([], []),
        ([0, 5, 2], [("text", 3)]),
        (SPAN, [("image", 34)]),
        ([0, *SPAN, *SPAN, 2], [("text", 1), ("image", 34), ("image", 34), ("text", 1)]),
        ([BOI, C, EOI, 5], [("wrong_length", 3), ("text", 1)]),
        ([BOI, EOI], [("wrong_length", 2)]),
        ([*SPAN[:-1], C, EOI], [("wrong_length", 35)]),
        ([BOI, C, 5], [("broken_span", 2), ("text", 1)]),
        ([BOI, C, *SPAN], [("broken_span", 2), ("image", 34)]),
        ([*SPAN[:-1], -1], [("broken_span", 33), ("unknown_ids", 1)]),
        (SPAN[:-1], [("unfinished_span", 33)]),
        ([5, BOI], [("text", 1), ("unfinished_span", 1)]),
        ([C, C, 5], [("stray_codes", 2), ("text", 1)]),
        ([5, EOI, EOI], [("text", 1), ("stray_end", 1), ("stray_end", 1)]),
        ([BOI, *[IMG] * 32, EOI, 5], [("unfilled_image", 34), ("text", 1)]),
        ([IMG, 5], [("unfilled_image", 1), ("text", 1)]),
        ([IMG + 1, 10**12, -5], [("unknown_ids", 3)]),
    ],
)
def test_parts_of_a_sequence(ids, expected):
    assert kinds(ids) == expected


def test_codes_and_positions():
    parsed = parse_segments(torch.tensor([0, *SPAN, C, 5]), CONFIG)
    text, image, end = parsed.segments
    assert isinstance(text, TextSegment) and text.ids == [0] and end.ids == [5]
    assert image.codes == CODES and image.position == 1
    (defect,) = parsed.defects
    assert (defect.position, defect.kind, defect.ids) == (35, "stray_codes", [C])


def test_ten_thousand_random_sequences():
    draw = random.Random(0)
    marks = [BOI, EOI, IMG, C, 5, -1, CONFIG.vocab_size - 1, CONFIG.vocab_size + 9]
    found = set()
    for number in range(10_000):
        ids = []
        while len(ids) < draw.randint(0, 120):
            style = draw.random()
            if style < 0.4:
                length = draw.choice([0, 1, 31, 32, 32, 32, 33])
                piece = span(CONFIG, [draw.randrange(CONFIG.codebook_size) for _ in range(length)])
                ids += piece[draw.randint(0, 1) if style < 0.1 else 0 : -1 if style < 0.05 else None]
            elif style < 0.7:
                ids += draw.choices(marks, k=draw.randint(1, 4))
            else:
                ids += [draw.randrange(-2, CONFIG.vocab_size + 2) for _ in range(draw.randint(1, 6))]
        parsed = parse_segments(torch.tensor(ids) if number % 2 else ids, CONFIG)
        assert [i for part in parsed.parts for i in part.ids] == ids
        position = 0
        for part in parsed.parts:
            assert part.position == position
            position += len(part.ids)
            found.add(part.kind if isinstance(part, Defect) else part.type)
            if isinstance(part, CodeSegment):
                assert len(part.codes) == 32 and 0 <= min(part.codes) and max(part.codes) < CONFIG.codebook_size
            if isinstance(part, TextSegment):
                assert all(0 <= i < CONFIG.text_vocab_size for i in part.ids)
    assert len(found) == 9, f"the sequences should show every kind of part: {found}"


@pytest.mark.parametrize("mode", ["image", "interleaved"])
@pytest.mark.parametrize("settings", [{"max_time": 1e-9}, {"stop_strings": [">"]}, {"stop_strings": ["0", "img"]}])
def test_no_time_limit_and_no_stop_string_cuts_a_span(model, mode, settings):
    """And the names of visual tokens, `<img_00012>`, are no text."""
    tokenizer = extend_text_tokenizer(tiny_text_tokenizer(), CONFIG.codebook_size)
    ids = torch.cat([prompts(2), torch.full((2, 1), BOI)], 1)  # a span that is begun
    given = {"generation_mode": mode, "tokenizer": tokenizer, "max_new_tokens": 60}
    written = model.generate(ids, **given, **settings)
    rows = [parse_segments(row, CONFIG) for row in written.tolist()]
    assert all([part for part in row.parts if isinstance(part, CodeSegment)] for row in rows)
    assert not any(isinstance(part, Defect) for row in rows for part in row.parts)
    by_config = model.generate(
        ids, GenerationConfig(**settings, max_new_tokens=60), generation_mode=mode, tokenizer=tokenizer
    )
    assert torch.equal(by_config, written)


def test_a_stop_string_ends_text():
    model, tokenizer = tiny_language_model(), extend_text_tokenizer(tiny_text_tokenizer(), CONFIG.codebook_size)
    given = {"generation_mode": "interleaved", "tokenizer": tokenizer, "max_new_tokens": 40, "suppress_tokens": [BOI]}
    free = model.generate(prompts(1), **given)[0, 5:].tolist()
    texts = [tokenizer.decode(token) for token in free]
    word = next(text for text in texts if text.isascii() and text.isalnum())
    stopped = model.generate(prompts(1), **given, stop_strings=[word])[0, 5:].tolist()
    assert stopped == free[: texts.index(word) + 1]


def test_layers_that_keep_nothing_write_what_they_would_write(model):
    """In training with gradient checkpointing."""
    expected = model.generate(prompts(), generation_mode="image")
    model.train()
    model.gradient_checkpointing_enable()
    try:
        assert torch.equal(model.generate(prompts(), generation_mode="image"), expected)
    finally:
        model.gradient_checkpointing_disable()
        model.eval()


def test_a_batch_without_rows_is_refused(model):
    with pytest.raises(ValueError, match="no rows"):
        model.generate(prompts()[:0], generation_mode="image")


@pytest.mark.parametrize("mode", GENERATION_MODES)
@pytest.mark.parametrize("own", [{"max_new_tokens": 36}, {"max_length": 5 + 36}])
def test_a_generation_config_leaves_the_length_to_that_of_the_model(model, mode, own):
    """As transformers: what is not set in it is what the model's own says."""
    kept = model.generation_config
    model.generation_config = GenerationConfig(eos_token_id=None, pad_token_id=1, **own)
    try:
        given = {"generation_mode": mode, "suppress_tokens": [EOS]}
        unset = GenerationConfig(do_sample=False, pad_token_id=1, **{"suppress_tokens": [EOS]})
        for out in (model.generate(prompts(), **given), model.generate(prompts(), unset, generation_mode=mode)):
            assert out.shape[1] == 5 + 36
        longer = GenerationConfig(max_new_tokens=40, pad_token_id=1, suppress_tokens=[EOS])
        assert model.generate(prompts(), longer, generation_mode=mode).shape[1] == 5 + 40
    finally:
        model.generation_config = kept


@pytest.mark.parametrize("mode", [None, *GENERATION_MODES])
def test_an_assistant_that_is_a_whole_model_helps_as_its_language_model(mode):
    whole = tiny_seed_model()
    given = {"generation_mode": mode, "max_new_tokens": 36}
    expected = whole.generate(prompts(1), **given)
    for assistant in (tiny_seed_model(), tiny_seed_model(seed=3), tiny_seed_model().language_model):
        assert torch.equal(whole.generate(prompts(1), assistant_model=assistant, **given), expected)
