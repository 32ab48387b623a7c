"""From generated ids to text: without image spans, without the prompt, or with all of it."""

import numpy as np
import pytest
import torch
from transformers.generation import GenerateDecoderOnlyOutput

from tiny import tiny_text_tokenizer
from tiny_language import picture, span, tiny_processor, tiny_seed_model


CODES = list(range(7, 39))


@pytest.fixture(scope="module")
def processor():
    return tiny_processor()


@pytest.fixture(scope="module")
def row(processor):
    words = tiny_text_tokenizer()(["a red apple", " yes"], add_special_tokens=False)["input_ids"]
    return [1, 0, *words[0], *span(processor.vocabulary, CODES), *words[1], 2]


def test_special_tokens_are_skipped_together_with_image_spans(processor, row):
    spelled = "".join(f"<img_{code:05d}>" for code in CODES)
    for ids in (row, torch.tensor(row), np.array(row)):
        assert processor.decode(ids, skip_special_tokens=True) == "a red apple yes"
        kept = processor.decode(ids, skip_special_tokens=True, skip_visual_tokens=False)
        assert kept == f"a red apple<img>{spelled}</img> yes"
        assert processor.decode(ids) == f"<pad><s>{kept}</s>"
        assert processor.decode(ids, skip_visual_tokens=True) == "<pad><s>a red apple yes</s>"
        rows = [ids, ids[:4]] if isinstance(ids, list) else ids[None]
        texts = processor.batch_decode(rows, skip_special_tokens=True)
        assert texts == processor.decode(rows, skip_special_tokens=True) and texts[0] == "a red apple yes"
    assert processor.decode(row[2], skip_special_tokens=True) == "a"
    # a caption of a server that has the tokenizer alone keeps its codes
    assert processor.tokenizer.decode(row, skip_special_tokens=True) == f"a red apple<img>{spelled}</img> yes"


def test_without_visual_tokens_decoding_is_that_of_the_tokenizer(processor):
    rows = [[1, 4, 5, 8, 1, 0, 8], [3, 4, 3, 1, 1, 8, 9]]
    for ids in (rows, torch.tensor(rows)):
        assert processor.batch_decode(ids) == processor.tokenizer.batch_decode(ids) == processor.decode(ids)
        for skip in (False, True):
            expected = processor.tokenizer.batch_decode(ids, skip_special_tokens=skip)
            assert processor.batch_decode(ids, skip_special_tokens=skip) == expected
    assert processor.batch_decode([]) == [] and processor.decode([]) == ""


def test_text_without_spans_and_without_the_prompt(processor, row):
    read = processor.post_process_image_text_to_text
    assert read(torch.tensor([row])) == ["a red apple yes"]
    assert read([row], skip_special_tokens=False) == ["<pad><s>a red apple yes</s>"]
    assert read([row], input_ids=[row[:4]]) == [processor.tokenizer.decode(row[4:5]) + " yes"]
    prompts = processor.caption([picture(), picture("blue")])
    model = tiny_seed_model()
    made = model.generate(**prompts, max_new_tokens=5, do_sample=True, num_return_sequences=2)
    new = made[:, prompts["input_ids"].shape[1] :]
    assert read(made, input_ids=prompts["input_ids"]) == processor.batch_decode(new, skip_special_tokens=True)
    assert [text.startswith(" a photo of") for text in read(made)] == [True] * 4
    for wrong in (prompts["input_ids"][:, :-1].flip(1), torch.cat([prompts["input_ids"]] * 3)):
        with pytest.raises(ValueError, match="prompt"):
            read(made, input_ids=wrong)
    with pytest.raises(ValueError, match="does not begin with its prompt"):
        read(new, input_ids=prompts["input_ids"])


def test_ids_of_any_kind_give_the_same_texts(processor, row):
    said = "a red apple yes"
    for flags in ({"skip_special_tokens": True}, {"skip_special_tokens": True, "skip_visual_tokens": False}, {}):
        wanted = processor.decode(row, **flags)
        for ids in (tuple(row), list(np.array(row)), list(torch.tensor(row)), torch.tensor(row)):
            assert processor.decode(ids, **flags) == wanted
            assert processor.batch_decode(ids, **flags) == [wanted]  # one row, as the library's tokenizers take it
            assert processor.batch_decode([ids, ids], **flags) == [wanted] * 2
        output = GenerateDecoderOnlyOutput(sequences=torch.tensor([row, row]))
        assert processor.batch_decode(output, **flags) == [wanted] * 2
    assert processor.decode(np.int64(row[2])) == processor.decode(torch.tensor(row[2])) == said.split()[0]


@pytest.mark.parametrize("missing", [None, float("nan"), 1])
def test_what_is_no_text_is_not_written_into_a_prompt(processor, missing):
    """The missing value of a table would be asked for as "None" or "nan"."""
    with pytest.raises(TypeError, match=f"prompt 1 must be a text, got {missing}"):
        processor.draw(["a red apple", missing])
    with pytest.raises(TypeError, match="prompt 0 must be a text"):
        processor.draw(missing)
    with pytest.raises(TypeError, match="question 0 must be a text"):
        processor.ask(picture(), [missing])
    with pytest.raises(TypeError, match="text 0 must be a text"):
        processor.text_tower(missing, 8)


@pytest.mark.parametrize("given", [{"text": ["a red apple"]}, {"a red apple"}, np.array("a"), np.array([["a"]])])
def test_a_table_or_a_set_is_not_taken_for_its_names(processor, given):
    """A mapping gave its keys: `draw({"prompt": ...})` drew "prompt"."""
    for call in (processor, processor.draw, lambda texts: processor.text_tower(texts, 8)):
        with pytest.raises(TypeError, match="are a text or a list of texts, got"):
            call(given)


def test_texts_of_numpy_are_texts(processor):
    words = np.array(["a red apple", "yes"])
    assert torch.equal(processor(words[0]).input_ids, processor("a red apple").input_ids)
    assert torch.equal(processor.draw(words).input_ids, processor.draw(words.tolist()).input_ids)


def test_what_is_no_ids_is_refused(processor, row):
    output = GenerateDecoderOnlyOutput(sequences=torch.tensor([row, row]))
    assert processor.decode(output) == processor.batch_decode(output)
    for wrong in ("abc", ["abc"], {"input_ids": [row]}, [{"a": 1}]):
        with pytest.raises(TypeError, match="Ids are numbers"):
            processor.decode(wrong)
        with pytest.raises(TypeError, match="Ids are numbers"):
            processor.batch_decode(wrong)
