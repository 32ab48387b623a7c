"""What a chat becomes: the tokens that the assistant said, the options of the call, and text as it always was."""

import copy
import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers.processing_utils import ProcessorMixin
from transformers.utils.chat_template_utils import render_jinja_template

from seed_hf.modeling.processing_seed import SeedProcessor
from seed_hf.modeling.prompts_seed import FORMATS, written_chat_template
from tiny_language import picture, tiny_processor
from tiny_processors import janus_processor


SAVED = Path(__file__).parents[1] / "fixtures" / "saved_by_0.1"
IMAGE, CODES = {"type": "image", "image": picture()}, {"type": "image", "codes": list(range(32))}
MASKED = {"tokenize": True, "return_dict": True, "return_assistant_tokens_mask": True}
SANITIZES = "sanitize_control_tokens" in ProcessorMixin.apply_chat_template.__code__.co_varnames


def text(words: str) -> dict:
    return {"type": "text", "text": words}


def chat(*contents) -> list[dict]:
    roles = ["user", "assistant"] * len(contents)
    return [{"role": role, "content": content} for role, content in zip(roles, contents)]


CHAT = chat([IMAGE, text("what is shown ?")], "a red apple", "which photo ?", [text("this :"), IMAGE, text("yes")])


@pytest.fixture(scope="module")
def processors():
    return {name: tiny_processor(prompt_format=name) for name in FORMATS}


def said(processor, inputs) -> list[str]:
    rows = zip(inputs["input_ids"], inputs["assistant_masks"])
    return [processor.tokenizer.decode([int(i) for i, mask in zip(*row) if mask]) for row in rows]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("seed", " a red apple this :{} yes"),
        ("vicuna", " a red apple this :{}yes"),
        ("llama2", "a red applethis :{}yes"),
        ("plain", "a red applethis :{}yes"),
    ],
)
def test_what_the_assistant_said_is_marked(processors, name, expected):
    """Its words and its images, in every format, alone and beside a shorter chat."""
    processor = processors[name]
    image = "<img>" + "<image>" * 32 + "</img>"
    for chats in (CHAT, [chat([IMAGE]), CHAT]):
        inputs = processor.apply_chat_template(chats, **MASKED, processor_kwargs={"padding": True})
        assert inputs["assistant_masks"].shape == inputs["input_ids"].shape
        assert inputs["assistant_masks"].dtype == torch.long
        assert said(processor, inputs)[-1] == expected.format(image)
        assert inputs["assistant_masks"][:-1].sum() == 0, "an empty turn"


def test_masks_are_those_of_janus(processors):
    mine, janus = processors["seed"], janus_processor()
    for chats in (CHAT, [CHAT, chat([IMAGE], "yes")]):
        options = {"processor_kwargs": {"padding": True}, "return_tensors": "pt"}
        found, expected = (each.apply_chat_template(chats, **MASKED, **options) for each in (mine, janus))
        assert (
            sorted(found) == sorted(expected)
            and said(mine, found)[0] == " a red apple this :<img>" + "<image>" * 32 + "</img> yes"
        )
        for name in found:
            assert torch.equal(found[name], torch.as_tensor(expected[name])), name


def test_masks_of_known_codes_and_of_every_kind_of_result(processors):
    processor = processors["seed"]
    drawn = chat("draw", [CODES])
    inputs = processor.apply_chat_template(drawn, **MASKED)
    names = "".join(f"<img_{code:05d}>" for code in range(32))
    assert said(processor, inputs) == [f"<img>{names}</img>"] and "pixel_values" not in inputs
    for kind, wanted in ((None, list), ("np", np.ndarray), ("pt", torch.Tensor)):
        inputs = processor.apply_chat_template(drawn, return_tensors=kind, **MASKED)
        assert type(inputs["assistant_masks"]) is type(inputs["input_ids"]) is wanted
    whole = processor.apply_chat_template(CHAT[:2], **MASKED)["assistant_masks"]
    cut = {"truncation": True, "max_length": whole.shape[1] - 1}
    assert torch.equal(
        processor.apply_chat_template(CHAT[:2], **MASKED, processor_kwargs=cut)["assistant_masks"], whole[:, :-1]
    )


def test_masks_that_cannot_be_made_are_refused(processors):
    processor = copy.copy(processors["seed"])
    for lacking in ({"tokenize": True}, {"return_dict": True}, {}):
        with pytest.raises(ValueError, match="needs tokenize=True and return_dict=True"):
            processor.apply_chat_template(CHAT, return_assistant_tokens_mask=True, **lacking)
    old = SeedProcessor.from_pretrained(SAVED / "model")
    assert old.apply_chat_template(CHAT[:2]) == "<image> Question: what is shown ? Short answer. a red apple"
    with pytest.raises(ValueError, match="{% generation %}.*earlier version.*written_chat_template"):
        old.apply_chat_template(CHAT, **MASKED)
    old.chat_template = written_chat_template(prompt_format=old.prompt_format)
    assert said(old, old.apply_chat_template(CHAT[:2], **MASKED)) == [" a red apple"]
    processor.chat_template = {"default": processor.chat_template, "old": "{{ messages }}"}
    assert processor.apply_chat_template(CHAT, **MASKED)["assistant_masks"].any()
    with pytest.raises(ValueError, match="generation"):
        processor.apply_chat_template(CHAT, "old", **MASKED)


@pytest.mark.parametrize("name", FORMATS)
def test_marks_do_not_change_the_text(name):
    """Nothing is written by the marks themselves, whatever the turns are."""
    marked = written_chat_template(prompt_format=name)
    plain = re.sub(r"{%- (end)?generation -%}\n", "", marked)
    assert plain != marked
    draw = random.Random(0)
    for _ in range(60):
        parts = [[IMAGE, text(draw.choice(["who", " a ", "", "\n x"]))][: draw.randint(0, 2)] for _ in range(4)]
        turns = chat(*(draw.choice([part, "hi\n", " "]) for part in parts))
        for prompted in (False, True):
            options = {"conversations": [turns], "add_generation_prompt": prompted}
            rendered = render_jinja_template(chat_template=marked, **options)[0]
            assert rendered == render_jinja_template(chat_template=plain, **options)[0]


def test_what_the_assistant_says_begins_where_the_prompt_ends(processors):
    for name, processor in processors.items():
        turns = chat([IMAGE, text("who ?")], "an apple")
        prompt = processor.apply_chat_template(turns[:1], add_generation_prompt=True)
        whole, marks = render_jinja_template(
            [turns], chat_template=processor.chat_template, return_assistant_tokens_mask=True
        )
        assert whole[0][: marks[0][0][0]] == prompt, name
        continued = processor.apply_chat_template(turns, continue_final_message=True)
        assert continued == f"{prompt}{' ' if name in ('seed', 'vicuna') else ''}an apple", name


# Options of the call


def test_options_of_the_call_are_taken_in_both_places(processors):
    processor = processors["seed"]
    by_name = processor.apply_chat_template(
        CHAT, tokenize=True, return_dict=True, max_length=120, padding="max_length"
    )
    options = {"max_length": 120, "padding": "max_length"}
    apart = processor.apply_chat_template(CHAT, tokenize=True, return_dict=True, processor_kwargs=options)
    assert options == {"max_length": 120, "padding": "max_length"}, "what was given stays as it is"
    assert by_name["input_ids"].shape == (1, 120) and torch.equal(by_name["input_ids"], apart["input_ids"])
    mixed = processor.apply_chat_template(
        CHAT, tokenize=True, max_length=120, processor_kwargs={"padding": "max_length"}
    )
    assert torch.equal(mixed, apart["input_ids"])
    begun = processor.apply_chat_template(CHAT[:1], tokenize=True, begin_image=True)
    assert begun[0, -1] == processor.vocabulary.boi_token_id
    with pytest.raises(ValueError, match="padding was passed two times"):
        processor.apply_chat_template(CHAT, tokenize=True, padding=True, processor_kwargs={"padding": True})
    with pytest.raises(TypeError, match="no option temperature"):
        processor.apply_chat_template(CHAT, tokenize=True, temperature=1.0)
    with pytest.raises(ValueError, match="would cut an image"):
        processor.apply_chat_template(CHAT, tokenize=True, truncation=True, max_length=40)


def test_images_of_a_chat_by_address_and_by_codes(processors, tmp_path):
    processor = processors["seed"]
    picture().save(tmp_path / "a.png")
    openai = {"type": "image_url", "image_url": {"url": str(tmp_path / "a.png")}}
    turns = chat([openai, CODES, text("same ?")])
    inputs = processor.apply_chat_template(turns, tokenize=True, return_dict=True)
    expected = processor(
        "<image><image> Question: same ? Short answer.", str(tmp_path / "a.png"), codes=[None, CODES["codes"]]
    )
    assert sorted(inputs) == sorted(expected) and all(torch.equal(inputs[name], expected[name]) for name in inputs)
    nearly = {"type": "image_url", "url": str(tmp_path / "a.png")}  # which no template writes
    with pytest.raises(ValueError, match="neither text nor an image"):
        processor.apply_chat_template(chat([nearly, text("same ?")]), tokenize=True, return_dict=True)


@pytest.mark.parametrize(
    ("messages", "message"),
    {
        "no message": ([], "is empty"),
        "an empty chat in a batch": ([chat("a"), [{}]], "Message 0 of the chat needs content and a role"),
        "a role of other data": ([{"role": "human", "content": "a"}], "role, system, user, assistant; got"),
        "a tool": ([*chat("a", "b"), {"role": "tool", "content": "c"}], "Message 2 of the chat needs"),
        "no role": ([{"content": "a"}], "Message 0 of the chat needs"),
        "no content": ([{"role": "user", "text": "a"}], "Message 0 of the chat needs"),
        "a bare string": (chat(["a", text("b")]), "neither text nor an image: 'a'"),
        "a video": (chat([{"type": "video", "video": "a.mp4"}]), "neither text nor an image"),
        "text of another type": (chat([{"type": "input_text", "text": "a"}]), "neither text nor an image"),
        "no type": (chat([{"text": "a"}]), "neither text nor an image"),
        "no text": (chat([{"type": "text", "content": "a"}]), "neither text nor an image"),
    }.values(),
)
def test_what_the_template_would_leave_out_is_refused(processors, messages, message):
    for processor in processors.values():
        for tokenize in (False, True):
            with pytest.raises(ValueError, match=message):
                processor.apply_chat_template(messages, tokenize=tokenize)


def test_tools_are_refused_by_formats_that_have_none(processors):
    for processor in processors.values():
        with pytest.raises(ValueError, match="tools would not be read"):
            processor.apply_chat_template(CHAT, tools=[{"type": "function", "function": {"name": "look"}}])


def test_a_template_of_ones_own_may_know_more(processors):
    turns = [{"role": "tool", "content": [{"type": "number", "value": 3}]}]
    own = "{{ messages[0]['role'] }} {{ messages[0]['content'][0]['value'] }}"
    assert processors["vicuna"].apply_chat_template(turns, own) == "tool 3"


@pytest.mark.parametrize("codes", [np.arange(32), list(np.arange(32)), torch.arange(32), tuple(range(32))])
def test_codes_are_whole_numbers_of_any_library(processors, codes):
    processor, turns = processors["vicuna"], chat([{"type": "image", "codes": codes}, text("same ?")])
    expected = processor.apply_chat_template(chat([CODES, text("same ?")]), tokenize=True)
    assert torch.equal(processor.apply_chat_template(turns, tokenize=True), expected)
    for wrong in ([True] * 32, [1.0] * 32, [64] * 32):
        with pytest.raises(ValueError, match="32 integers in 0..63"):
            processor.apply_chat_template(chat([{"type": "image", "codes": wrong}]), tokenize=True)


@pytest.mark.skipif(not SANITIZES, reason="this transformers has no sanitize_control_tokens")
def test_an_image_that_a_user_types_can_stay_text(processors):
    processor = processors["seed"]
    turns = chat([IMAGE, text("what is <image> and </s> ?")])
    inputs = processor.apply_chat_template(turns, tokenize=True, return_dict=True, sanitize_control_tokens=True)
    (ids,) = inputs["input_ids"].tolist()
    assert ids.count(processor.image_token_id) == 32 and len(inputs["pixel_values"]) == 1
    assert processor.tokenizer.decode(ids[35:]) == " question: what is <image> and </s> ? short answer."


@pytest.mark.skipif(SANITIZES, reason="this transformers has sanitize_control_tokens")
def test_an_option_that_transformers_lacks_is_refused(processors):
    with pytest.raises(ValueError, match="newer"):
        processors["seed"].apply_chat_template(CHAT, tokenize=True, sanitize_control_tokens=True)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("kind", [None, "pt", "np"])
def test_what_the_assistant_says_ends_with_eos_where_it_is_asked_for(processors, side, kind):
    """Learned with the answer: without it, a model that learns from chats never stops."""
    short = chat([text("what ?")], "yes")
    for name, processor in processors.items():
        settings = {**MASKED, "padding": True, "padding_side": side, "return_tensors": kind}
        plain = processor.apply_chat_template([CHAT, short, CHAT[:1]], **settings)
        ended = processor.apply_chat_template([CHAT, short, CHAT[:1]], end_text=True, **settings)
        eos = processor.tokenizer.eos_token_id
        for row, (ids, mask, kept) in enumerate(
            zip(ended["input_ids"], ended["assistant_masks"], ended["attention_mask"])
        ):
            ids, mask = np.array(ids)[np.array(kept) == 1], np.array(mask)[np.array(kept) == 1]
            before = np.array(plain["attention_mask"][row]) == 1
            plain_ids, plain_mask = (
                np.array(plain[key][row])[before][: len(ids) - 1] for key in ("input_ids", "assistant_masks")
            )
            assert before.sum() - len(plain_ids) == (name in ("vicuna", "llama2"))  # a line break behind each turn
            assert ids[:-1].tolist() == plain_ids.tolist() and ids[-1] == eos
            assert mask[:-1].tolist() == plain_mask.tolist()
            assert mask[-1] == (row < 2), name  # the last one is what the user says
    with pytest.raises(ValueError, match="needs return_attention_mask"):
        processor.apply_chat_template(short, end_text=True, return_attention_mask=False, **MASKED)


def test_eos_ends_a_text_where_it_is_asked_for(processors):
    processor = processors["seed"]
    eos, words = processor.tokenizer.eos_token_id, ["a red apple", "a"]
    plain, ended = (processor(words, padding=False, return_tensors=None, **end) for end in ({}, {"end_text": True}))
    assert ended.input_ids == [[*row, eos] for row in plain.input_ids]
    marked = processor(words, end_text=True, return_special_tokens_mask=True, padding=False, return_tensors=None)
    assert [row[-1] for row in marked.special_tokens_mask] == [1, 1]
    with pytest.raises(ValueError, match="goes on with an image, and end_text ends the text"):
        processor(words, begin_image=True, end_text=True)


def test_a_text_whose_end_is_cut_has_no_eos(processors):
    """The collators do the same: a model would learn to stop in the middle."""
    processor, short = processors["seed"], chat([text("what ?")], "a red apple and a blue fire engine")
    eos, whole = processor.tokenizer.eos_token_id, processor.apply_chat_template(short, end_text=True, **MASKED)
    length = whole["input_ids"].shape[1]
    for limit in (length, length - 1, length - 3):
        cut = processor.apply_chat_template(short, end_text=True, truncation=True, max_length=limit, **MASKED)
        kept = whole["input_ids"][0].tolist()[:limit]
        assert cut["input_ids"][0].tolist() == kept and (eos in kept) == (limit == length)
        assert cut["assistant_masks"][0].tolist() == whole["assistant_masks"][0].tolist()[:limit]


def test_eos_is_of_the_assistant_whatever_its_template_puts_behind_it(processors):
    template = (
        "{% for message in messages %}{% if message.role == 'assistant' %}{% generation %}{{ message.content }}"
        "{% endgeneration %}{{ eos_token }}!\n{% else %}{{ message.content }}{% endif %}{% endfor %}"
    )
    processor = processors["seed"]
    out = processor.apply_chat_template(
        [{"role": "user", "content": "what"}, {"role": "assistant", "content": " yes"}],
        template,
        end_text=True,
        **MASKED,
    )
    ids, eos = out["input_ids"][0].tolist(), processor.tokenizer.eos_token_id
    assert processor.decode(ids) == "<s>what yes!</s>" and ids.count(eos) == 1
    assert out["assistant_masks"][0].tolist()[-2:] == [0, 1]


def test_what_cannot_end_with_eos_is_refused(processors):
    processor = processors["vicuna"]
    with pytest.raises(ValueError, match="add_generation_prompt asks for it: give one"):
        processor.apply_chat_template(CHAT, tokenize=True, end_text=True, add_generation_prompt=True)
    without = copy.deepcopy(processor)
    without.tokenizer.eos_token = None
    with pytest.raises(ValueError, match="the text tokenizer has none"):
        without("a red apple", end_text=True)


def test_what_the_assistant_says_keeps_its_line_break(processors):
    for name, processor in processors.items():
        said = processor.apply_chat_template(chat([text("what ?")], "yes\n"), end_text=True, **MASKED)
        assert processor.decode(said["input_ids"][0]).endswith("yes\n</s>"), name
