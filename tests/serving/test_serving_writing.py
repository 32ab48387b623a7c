"""What the language model of a server reads and writes: chats in every format, and rows of a batch that do not mix."""

import asyncio

import pytest
import torch

from seed_hf.data.batches.instruction import InstructionCollator
from seed_hf.modeling.generation_seed import CodeSegment, TextSegment
from seed_hf.modeling.prompts_seed import FORMATS
from seed_hf.serving.batches import Batches, Job
from seed_hf.serving.chat_prompt import prompt_ids
from seed_hf.serving.errors import RequestError
from seed_hf.serving.metrics import Metrics
from seed_hf.serving.writing import Reply, Row, Written, write
from tiny_diffusion import tiny_model_and_processor
from tiny_language import tiny_processor, tiny_text_config


CODES = list(range(32))


@pytest.fixture(scope="module")
def processors():
    return {name: tiny_processor(prompt_format=name) for name in FORMATS}


@pytest.mark.parametrize("name", FORMATS)
def test_a_chat_is_written_as_in_training(processors, name):
    processor = processors[name]
    prompt = processor.sequences.prompt
    assert prompt_ids(processor, [("user", ["a red apple"])], "image") == prompt("draw", text="a red apple")
    if name == "plain":  # its chats have no questions
        return
    asked = [("user", [CODES, "what is shown ?"])]
    assert prompt_ids(processor, asked, "text") == prompt("question", codes=CODES, question="what is shown ?")
    if name == "seed":
        assert prompt_ids(processor, [("user", [CODES])], "text") == prompt("caption", codes=CODES)


@pytest.mark.parametrize("name", FORMATS)
def test_a_request_for_an_image_ends_a_chat_as_it_is_trained(processors, name):
    processor = processors[name]
    drawing = processor.tokenizer.decode(processor.sequences.prompt("draw", text="a red apple")[1:]).strip()
    turns = [("user", [CODES, "what is it ?"]), ("assistant", ["a photo"]), ("user", ["a red apple"])]
    ids = prompt_ids(processor, turns, "image")
    assert ids[1:].count(processor.vocabulary.boi_token_id) == 1
    said = processor.decode(ids, skip_visual_tokens=False).strip()
    end = drawing.removeprefix("user: ").removeprefix("[inst] ")
    assert said.endswith(end) and "a photo" in said, (said, end)


@pytest.mark.parametrize("name", FORMATS)
def test_to_change_an_image_is_a_chat_as_it_is_trained(processors, name):
    processor = processors[name]
    parts = [{"type": "image", "codes": CODES}, {"type": "text", "text": "a blue apple"}]
    collator = InstructionCollator(processor.tokenizer, tiny_text_config(prompt_format=name))
    answer = {"role": "assistant", "content": [{"type": "image", "codes": CODES}]}
    (row,) = collator([{"messages": [{"role": "user", "content": parts}, answer]}])["input_ids"].tolist()
    ids = prompt_ids(processor, [("user", [CODES, "a blue apple"])], "image")
    assert row[: len(ids)] == ids and row[len(ids)] == processor.vocabulary.boi_token_id


def test_what_cannot_be_written_is_refused(processors):
    processor = processors["seed"]
    for turns, mode, words in (
        ([("user", ["an <image> here"])], "text", "stands for an image"),
        ([("user", [])], "text", "empty"),
        ([("user", [CODES])], "image", "say in words"),
        ([("assistant", ["a dog"])], "image", "say in words"),
    ):
        with pytest.raises(RequestError, match=words):
            prompt_ids(processor, turns, mode)


def written(rows: list[Row], size: int) -> list[tuple[list, Written]]:
    """The parts and the end of each row, written in batches."""
    model, processor = tiny_model_and_processor()
    with torch.no_grad():  # it likes to begin an image
        model.get_output_embeddings().weight[processor.vocabulary.boi_token_id] *= 5

    async def run():
        runners = {"write": lambda jobs: write(model, processor, jobs)}
        batches = Batches(runners, size, 0.05, Metrics())
        batches.start()
        parts = [[] for _ in rows]
        ends = await asyncio.gather(
            *(batches.run("write", row, row.key, each.append) for row, each in zip(rows, parts))
        )
        await batches.stop()
        return list(zip(parts, ends))

    return asyncio.run(run())


def whole(parts: list) -> list:
    """Parts with texts that follow each other put together."""
    found: list = []
    for part in parts:
        if isinstance(part, str) and found and isinstance(found[-1], str):
            found[-1] += part
        else:
            found.append(part)
    return found


def test_texts_and_images_of_a_batch_are_those_of_single_rows():
    """A model without training writes anything: texts, half words and images, of prompts of several lengths."""
    prompts = [[0, *range(10, 12 + 9 * number)] for number in range(6)]
    rows = [Row(ids, "interleaved", 70, temperature=2.0, seed=seed) for seed, ids in enumerate(prompts)]
    rows += [Row(ids, "text", 5 + seed, seed=seed) for seed, ids in enumerate(prompts)]
    rows.append(Row(prompts[0], "text", 110, temperature=3.0, seed=99))  # would not fit beside the longest
    single, together = written(rows, 1), written(rows, 12)
    assert [(whole(parts), end) for parts, end in together] == [(whole(parts), end) for parts, end in single]
    assert single[-1][1].tokens > 128 - len(prompts[-1])  # the model has 128 positions
    images = [part for parts, _ in single[:6] for part in parts if not isinstance(part, str)]
    assert images and all(len(codes) == 32 for codes in images)
    assert not any(isinstance(part, list) for parts, _ in single[6:] for part in parts)


def test_a_reply_is_what_the_parser_reads_of_it():
    """Its parts, whole, are the segments of the ids; white space at both ends is left out."""
    _, processor = tiny_model_and_processor()
    vocabulary = processor.vocabulary
    texts = [processor.tokenizer.encode(text, add_special_tokens=False) for text in (" a red", " apple ", "é photo ")]
    ids = [*texts[0], *texts[1], *vocabulary.span(CODES), *texts[2], 2]
    (segments,) = processor.post_process_multimodal_output([ids])
    wanted = [s.codes if isinstance(s, CodeSegment) else s.text for s in segments if not s.type == "defect"]
    assert isinstance(segments[0], TextSegment)

    async def read(**options) -> tuple[list, str, int]:
        parts: list = []
        job = Job("write", Row([0], "interleaved", 100, **options), None, parts.append)
        reply = Reply(job, processor, {2})
        for token in ids:
            reply.take(token)
        end = await job.future
        return whole(parts), end.reason, end.tokens

    parts, reason, tokens = asyncio.run(read())
    assert parts == [wanted[0].lstrip(), wanted[1], wanted[2].rstrip()] and (reason, tokens) == ("stop", len(ids))
    assert asyncio.run(read(stop=("apple",)))[0] == ["a red"]
    assert asyncio.run(read(stop=("apple pie", "hoto")))[0] == ["a red apple ", CODES, "é p"]
    assert asyncio.run(read(stop=("a red",)))[:2] == ([], "stop")
