"""A streamer gives what the parser reads of the whole row."""

import random
from threading import Thread

import pytest
import torch

from released_seed_llama import LAYOUT
from seed_hf.conversion.llama_tokenizer import read_llama_tokenizer
from seed_hf.modeling.generation_seed import CodeSegment, TextSegment
from seed_hf.modeling.image_processing_seed import SeedImageProcessor
from seed_hf.modeling.processing_seed import SeedProcessor
from seed_hf.modeling.streaming_seed import SeedStreamer
from tiny_language import picture, tiny_processor, tiny_seed_model


@pytest.fixture(scope="module")
def processor():
    return tiny_processor()


def joined(parts) -> list:
    """(type, position, ids, text, codes or kind), with texts that follow each other as one."""
    result = []
    for part in parts:
        more = getattr(part, "codes", None) or getattr(part, "kind", None)
        if isinstance(part, TextSegment) and result and result[-1][0] == "text":
            kind, position, ids, text, _ = result[-1]
            assert position + len(ids) == part.position
            result[-1] = (kind, position, ids + part.ids, text + part.text, None)
        else:
            result.append((part.type, part.position, part.ids, getattr(part, "text", None), more))
    return result


def streamed(processor, ids, prompt: int, **settings) -> list:
    streamer = SeedStreamer(processor, timeout=5, **settings)
    streamer.put(torch.tensor([ids[:prompt]]))
    for token in ids[prompt:]:
        streamer.put(torch.tensor([token]))
    streamer.end()
    return list(streamer)


def random_row(draw: random.Random, layout) -> list[int]:
    row = []
    for _ in range(draw.randint(1, 6)):
        span = layout.span([draw.randrange(layout.codebook_size) for _ in range(draw.choice([3, 32, 32, 33]))])
        stray = [layout.eoi_token_id, layout.boi_token_id, layout.visual_token_offset + 5, layout.image_token_id]
        row += draw.choice([
            span, span[: draw.randint(1, len(span))], draw.choices(stray, k=2),
            [draw.randrange(3, layout.boi_token_id) for _ in range(draw.randint(1, 9))],
        ])  # fmt: skip
    return row


def test_streamed_segments_are_those_of_the_parser(processor):
    draw, kinds = random.Random(0), set()
    for _ in range(300):
        row = random_row(draw, processor.vocabulary)
        (expected,) = processor.post_process_multimodal_output([row], skip_special_tokens=False)
        found = streamed(processor, row, 0, skip_prompt=False, skip_special_tokens=False)
        assert joined(found) == joined(expected)
        kinds |= {getattr(part, "kind", part.type) for part in found}
    assert {"text", "image", "broken_span", "unfinished_span", "wrong_length", "stray_codes", "stray_end"} <= kinds


def test_half_a_character_waits_for_its_other_half(processor):
    ids = processor.sequences.encode("red ☂ apple")
    found = streamed(processor, [0, *ids, 2], 1)
    assert "".join(part.text for part in found) == "red ☂ apple" and not any("\ufffd" in part.text for part in found)
    assert len(found) > 1 and found[0].position == 1  # the prompt counts


@pytest.fixture(scope="module")
def llama_processor():
    """Its text tokenizer has a token for each byte, which it decodes together, and strips the first space."""
    images = SeedImageProcessor(size={"height": 28, "width": 28})
    return SeedProcessor(images, read_llama_tokenizer(LAYOUT), prompt_format="vicuna")


WORDS = ["red", "☂", " ", "  ", "猫", "é", "🐱\u200d👤", "\n", "a", " apple", "\ufffd", "😀😀"]


@pytest.mark.parametrize("which", ["processor", "llama_processor"])
@pytest.mark.parametrize("skip", [True, False])
def test_streamed_text_is_the_decoded_text(which, skip, request):
    """Sound texts, and any ids: bytes that are no characters, and special tokens in between."""
    processor, draw = request.getfixturevalue(which), random.Random(0)
    last = processor.vocabulary.boi_token_id if which == "processor" else processor.vocabulary.visual_token_offset
    for number in range(400):
        ids = processor.sequences.encode("".join(draw.choices(WORDS, k=draw.randint(1, 20))))
        if number % 2:
            low = draw.choice([0, 0, 3]), draw.choice([30, 259, last])  # ids of bytes and special tokens are low
            ids = [draw.randrange(*low) for _ in range(draw.randint(1, 25))]
        found = streamed(processor, ids, 0, skip_prompt=False, skip_special_tokens=skip)
        expected = processor.tokenizer.decode(ids, skip_special_tokens=skip)
        assert "".join(part.text for part in found) == expected, ids
        assert all(ids[part.position :][: len(part.ids)] == part.ids for part in found)
        if which == "processor" and not number % 2 and "\ufffd" not in expected:
            assert len(found) > len(ids) / 8, "text comes in pieces"


def test_a_long_text_is_decoded_once(processor, monkeypatch):
    ids, decoded, decode = [5, 6, 7, 8] * 500, [], processor.tokenizer.decode
    monkeypatch.setattr(processor.tokenizer, "decode", lambda ids, **kw: decoded.append(len(ids)) or decode(ids, **kw))
    found = streamed(processor, ids, 0, skip_prompt=False)
    assert len(found) == len(ids) and sum(decoded) < 4 * len(ids)


def test_generation_in_another_thread(processor):
    model = tiny_seed_model()
    inputs = processor.caption(picture())
    settings = {"generation_mode": "interleaved", "max_new_tokens": 80, "do_sample": True}
    streamer = SeedStreamer(processor, timeout=60)
    torch.manual_seed(3)
    thread = Thread(target=lambda: torch.manual_seed(3) and model.generate(**inputs, streamer=streamer, **settings))
    thread.start()
    found = list(streamer)
    thread.join()
    assert any(isinstance(part, CodeSegment) for part in found) or all(part.type == "text" for part in found)
    drawn = SeedStreamer(processor, timeout=60)
    ids = model.generate(**processor.draw("a red apple"), generation_mode="image", streamer=drawn)
    (image,) = (part for part in drawn if isinstance(part, CodeSegment))
    assert processor.post_process_multimodal_output(ids, generation_mode="image")[0].tolist() == [image.codes]


def test_one_row_alone(processor):
    with pytest.raises(ValueError, match="one row, got 2"):
        SeedStreamer(processor).put(torch.zeros(2, 3, dtype=torch.long))
