"""Any order of codes and marks works, with or without a row for the placeholder."""

import json
import random
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedConfig

from seed_hf.modeling.configuration_seed import SeedConfig
from seed_hf.modeling.generation_seed import (
    GENERATION_MODES,
    CodeSegment,
    Defect,
    TextSegment,
    VisualSpanLogitsProcessor,
    missing_span_tokens,
    parse_segments,
)
from seed_hf.modeling.image_processing_seed import SeedImageProcessor
from seed_hf.modeling.processing_seed import SeedProcessor, code_token, read_vocabulary
from seed_hf.modeling.visual_vocabulary_seed import VisualVocabulary, visual_vocabulary
from tiny import tiny_text_tokenizer
from tiny_language import (
    CODEBOOK_SIZE,
    TEXT_VOCAB_SIZE,
    picture,
    tiny_language_model,
    tiny_processor,
    tiny_text_config,
)


EOS, ROWS = 2, 448
SIZES = {"codebook_size": CODEBOOK_SIZE, "num_query_tokens": 32}
# SEED-LLaMA's order: codes, then <img> and </img>; the placeholder has no row.
CODES_FIRST = VisualVocabulary(
    visual_token_offset=TEXT_VOCAB_SIZE,
    boi_token_id=TEXT_VOCAB_SIZE + CODEBOOK_SIZE,
    eoi_token_id=TEXT_VOCAB_SIZE + CODEBOOK_SIZE + 1,
    image_token_id=ROWS + 5,
    text_vocab_size=TEXT_VOCAB_SIZE,
    vocab_size=ROWS,
    **SIZES,
)
# Marks far from the codes, codes in the middle of the text, the end mark before the begin mark.
SCATTERED = VisualVocabulary(
    visual_token_offset=100, boi_token_id=300, eoi_token_id=7, image_token_id=301, vocab_size=ROWS, **SIZES
)
LAYOUTS = {"opt": VisualVocabulary.of(tiny_text_config()), "codes first": CODES_FIRST, "scattered": SCATTERED}
layouts = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)


# A reference that knows nothing but what the words mean


def visual_ids(layout) -> set[int]:
    codes = [layout.visual_token_offset + code for code in range(layout.codebook_size)]
    return {*codes, layout.boi_token_id, layout.eoi_token_id, layout.image_token_id}


def text_ids(layout) -> set[int]:
    return set(range(layout.text_vocab_size or layout.vocab_size)) - visual_ids(layout)


def code_ids(layout) -> set[int]:
    return {layout.visual_token_offset + code for code in range(layout.codebook_size)}


def open_codes(row: list[int], layout) -> int | None:
    """How many codes an open span at the end of a row has; `None` if no span is open."""
    codes = 0
    for token in reversed(row):
        if token == layout.boi_token_id:
            return codes
        if token not in code_ids(layout):
            return None
        codes += 1
    return None


def may_follow(row, layout, mode, prompt_length, max_length) -> set[int]:
    if mode == "text":
        return text_ids(layout)
    codes = open_codes(row, layout)
    if codes is not None:
        return code_ids(layout) if codes < layout.num_query_tokens else {layout.eoi_token_id}
    if mode == "image":
        return {EOS} if layout.eoi_token_id in row[prompt_length:] else {layout.boi_token_id}
    fits = max_length - len(row) >= layout.num_query_tokens + 2
    return text_ids(layout) | ({layout.boi_token_id} if fits else set())


def random_row(draw: random.Random, layout, length: int) -> list[int]:
    row = []
    while len(row) < length:
        style = draw.random()
        if style < 0.4:
            row += layout.span([draw.randrange(layout.codebook_size) for _ in range(draw.choice([3, 31, 32, 33]))])
            row = row[: len(row) - draw.choice([0, 0, 1, 2, 20])]
        elif style < 0.7:
            row += draw.choices(sorted(visual_ids(layout)), k=draw.randint(1, 3))
        else:
            row += draw.choices(sorted(text_ids(layout)), k=draw.randint(1, 5))
    return row[-length:]


@layouts
@pytest.mark.parametrize("mode", GENERATION_MODES)
def test_the_constraint_is_the_reference(layout, mode):
    draw = random.Random(0)
    for _ in range(60):
        length, rows = draw.randint(1, 80), 4
        prompt_length, max_length = draw.randint(0, length), length + draw.randint(1, 60)
        ids = [random_row(draw, layout, length) for _ in range(rows)]
        settings = {"prompt_length": prompt_length, "max_length": max_length, "eos_token_id": EOS}
        processor = VisualSpanLogitsProcessor(layout, mode, **settings)
        scores = processor(torch.tensor(ids), torch.zeros(rows, ROWS))
        for row, left in zip(ids, scores):
            allowed = set((left > -torch.inf).nonzero().flatten().tolist())
            assert allowed == may_follow(row, layout, mode, prompt_length, max_length)


@layouts
def test_missing_tokens_are_those_of_the_reference(layout):
    draw = random.Random(1)
    for _ in range(200):
        length = draw.randint(1, 80)
        row = random_row(draw, layout, length)
        codes = open_codes(row, layout)
        expected = 0 if codes is None else max(layout.num_query_tokens - codes, 0) + 1
        assert missing_span_tokens(torch.tensor([row]), layout).item() == expected


@layouts
def test_the_parser_reads_any_layout(layout):
    draw = random.Random(2)
    found = set()
    for _ in range(500):
        row = random_row(draw, layout, draw.randint(1, 120))
        row[draw.randrange(len(row))] = draw.choice([-1, ROWS + 100, 10**12, row[0]])
        parts = parse_segments(row, layout).parts
        assert [i for part in parts for i in part.ids] == row
        for part in parts:
            found.add(part.kind if isinstance(part, Defect) else part.type)
            if isinstance(part, TextSegment):
                assert set(part.ids) <= text_ids(layout)
            if isinstance(part, CodeSegment):
                assert part.ids == layout.span(part.codes) and len(part.codes) == 32
            if isinstance(part, Defect) and part.kind == "unknown_ids":
                assert not set(part.ids) & (text_ids(layout) | visual_ids(layout))
    assert {"text", "image", "unknown_ids", "unfilled_image", "stray_codes"} <= found


@layouts
@pytest.mark.parametrize(
    "settings",
    [
        {"do_sample": True, "temperature": 1.5, "top_k": 0, "num_return_sequences": 20},
        {"num_beams": 3, "num_return_sequences": 3},
    ],
    ids=["sampling", "beams"],
)
@pytest.mark.parametrize("mode", GENERATION_MODES)
def test_generated_spans_are_valid(layout, mode, settings):
    """The model has ROWS rows and does not know the layout."""
    torch.manual_seed(0)
    model = tiny_language_model(vocab_size=ROWS)
    prompt = torch.tensor([[0, 5, 6], [0, 8, 9]])
    constraint = {"prompt_length": 3, "max_length": 50, "eos_token_id": EOS}
    processor = VisualSpanLogitsProcessor(layout, mode, **constraint)
    bias = {"sequence_bias": [[[layout.boi_token_id], 20.0]]} if mode == "interleaved" else {}
    out = model.generate(prompt, logits_processor=[processor], max_length=50, pad_token_id=1, **settings, **bias)
    spans = 0
    for row in out[:, 3:].tolist():
        parsed = parse_segments(row, layout)
        assert not parsed.defects
        spans += sum(isinstance(part, CodeSegment) for part in parsed.parts)
    assert {"text": spans == 0, "image": spans == len(out), "interleaved": spans > 0}[mode]


# The processor


def codes_first_tokenizer():
    tokenizer = tiny_text_tokenizer()
    tokenizer.add_tokens([*(code_token(code) for code in range(CODEBOOK_SIZE)), "<img>", "</img>"])
    tokenizer.padding_side = "left"
    return tokenizer


def test_the_processor_reads_the_ids_from_the_tokenizer(tmp_path):
    processor = SeedProcessor(SeedImageProcessor(size={"height": 28, "width": 28}), codes_first_tokenizer())
    layout = processor.vocabulary
    assert layout.differences(CODES_FIRST) == ["image_token_id"]
    assert layout.image_token_id == layout.vocab_size == len(processor.tokenizer)
    plain = tiny_text_tokenizer()(" a photo of", add_special_tokens=False)["input_ids"]
    asked = processor.caption(picture())["input_ids"][0].tolist()
    assert asked == [0, *layout.span(), *plain]
    for text in ("<img>", "</img>", "<img_00003>", "<image"):
        assert max(processor(text)["input_ids"][0].tolist()) < TEXT_VOCAB_SIZE
    codes = list(range(32))
    row = [0, *plain, *layout.span(codes), *plain, 2]
    (parts,) = processor.post_process_multimodal_output([row])
    assert [parts[0].text, parts[1].codes, parts[2].text] == [" a photo of", codes, " a photo of"]
    assert processor.post_process_multimodal_output([row], generation_mode="text") == [" a photo of a photo of"]
    processor.save_pretrained(tmp_path)
    assert SeedProcessor.from_pretrained(tmp_path).vocabulary == layout


def test_the_layout_of_a_tokenizer_is_that_of_the_config():
    processor = tiny_processor()
    assert processor.vocabulary.differences(tiny_text_config()) == []
    assert read_vocabulary(processor.tokenizer, 16).differences(tiny_text_config()) == ["num_query_tokens"]


# The data itself


@layouts
def test_integers_and_tensors_are_told_apart_alike(layout):
    ids = torch.arange(-3, ROWS + 12)
    assert [layout.is_text(i) for i in ids.tolist()] == layout.is_text(ids).tolist()
    assert [layout.is_code(i) for i in ids.tolist()] == layout.is_code(ids).tolist()
    assert set(ids[layout.is_text(ids)].tolist()) == text_ids(layout)
    assert set(ids[layout.is_code(ids)].tolist()) == code_ids(layout)
    assert layout.rows() == sorted(visual_ids(layout) - {layout.image_token_id})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"boi_token_id": TEXT_VOCAB_SIZE + 3}, "boi_token_id=334 is also a visual token: these are 331 .. 394"),
        ({"eoi_token_id": CODES_FIRST.boi_token_id}, "three different ids"),
        ({"image_token_id": -1}, "image_token_id must not be negative"),
        ({"vocab_size": TEXT_VOCAB_SIZE + CODEBOOK_SIZE + 1}, "vocab_size=396 has no room.* need 397"),
        ({"codebook_size": 0}, "codebook_size must be at least 1"),
        ({"text_vocab_size": None, "vocab_size": None}, "text_vocab_size or vocab_size"),
    ],
)
def test_wrong_layouts_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        VisualVocabulary(**{**vars(CODES_FIRST), **wrong})


def fields(saved):
    """What a saved configuration says, without where and by which version it was saved."""
    if not isinstance(saved, dict):
        return saved
    incidental = ("auto_map", "_name_or_path", "transformers_version")
    return {name: fields(value) for name, value in saved.items() if name not in incidental}


# Fields that 0.1 did not have, with the value that means what 0.1 did.
NEW_FIELDS = {"feature_contrast_loss_weight": 0.0, "contrastive_loss_weight": 0.0, "prompt_format": "seed"}
GONE_FIELDS = {"generation_memory_dim", "generation_memory_rank"}  # of an option that is off in these folders


def test_folders_of_version_0_1_load_and_save_the_same_fields(tmp_path):
    folder = Path(__file__).parents[1] / "fixtures" / "saved_by_0.1" / "model"
    SeedConfig.from_pretrained(folder).save_pretrained(tmp_path)
    SeedProcessor.from_pretrained(folder).save_pretrained(tmp_path)
    library = dir(PreTrainedConfig())  # how much of its own transformers writes depends on its version
    sections = [("config.json", "text_config"), ("config.json", "tokenizer_config"), ("processor_config.json", None)]
    for name, section in sections:
        before, after = (json.loads((each / name).read_text(encoding="utf-8")) for each in (folder, tmp_path))
        if section:
            before, after = before[section], after[section]
        before = {name: value for name, value in before.items() if name not in GONE_FIELDS}
        ours = {name: value for name, value in before.items() if name in after or name not in library}
        new = {field: after.pop(field) for field in NEW_FIELDS if field in after}
        assert fields(after) == fields(ours) and all(NEW_FIELDS[field] == value for field, value in new.items())
    layout = json.loads((folder / "config.json").read_text(encoding="utf-8"))["text_config"]
    names = ("boi_token_id", "eoi_token_id", "visual_token_offset", "image_token_id")
    assert {name: layout[name] for name in names}.items() <= visual_vocabulary(
        layout["text_vocab_size"], layout["codebook_size"]
    ).items()
