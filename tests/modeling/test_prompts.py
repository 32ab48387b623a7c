"""Every format of a sequence is written once: processor, collator and evaluation give the same ids."""

import pytest
import torch

from seed_hf.artifacts.bundled import bundled
from seed_hf.data.batches.language_model import LanguageModelCollator
from seed_hf.modeling.image_processing_seed import SeedImageProcessor
from seed_hf.modeling.processing_seed import SeedProcessor, extend_text_tokenizer
from seed_hf.modeling.prompts_seed import FORMATS, SEQUENCES, Mark, SequenceEncoder, written_chat_template
from seed_hf.modeling.visual_vocabulary_seed import VisualVocabulary
from tiny import tiny_text_tokenizer
from tiny_language import CODEBOOK_SIZE, picture, span, tiny_text_config


CODES = list(range(5, 37))
CONFIG = tiny_text_config()


def plain(text):
    return tiny_text_tokenizer()(text, add_special_tokens=False)["input_ids"]


def text_tokenizer(bos: bool):
    tokenizer = tiny_text_tokenizer()
    if not bos:
        tokenizer.bos_token = None
    return tokenizer


def processor_of(tokenizer, **prompts) -> SeedProcessor:
    tokenizer = extend_text_tokenizer(tokenizer, CODEBOOK_SIZE)
    return SeedProcessor(SeedImageProcessor(size={"height": 28, "width": 28}), tokenizer, **prompts)


def filled(inputs, codes) -> list[int]:
    ids = inputs["input_ids"][0]
    visual = torch.tensor(codes) + CONFIG.visual_token_offset
    return ids.masked_scatter(ids == CONFIG.image_token_id, visual).tolist()


ROWS = {
    "image_to_text": {"codes": CODES, "caption": "a red apple"},
    "question": {"codes": CODES, "caption": "x", "questions": [("what is {} shown?", "an apple")]},
    "text_to_image": {"codes": CODES, "caption": "a red apple"},
}


@pytest.mark.parametrize("bos", [True, False], ids=["bos", "no bos"])
@pytest.mark.parametrize(
    "prompts",
    [
        {},
        {"caption_prompt": "shown {is}", "image_prompt": "draw {text}", "question_prompt": 'q "{}" {} a'},
    ],
    ids=["paper", "own"],
)
def test_processor_and_collator_give_the_same_prompt_ids(bos, prompts):
    processor = processor_of(text_tokenizer(bos), **prompts)
    prompt = {
        "image_to_text": filled(processor.caption(picture()), CODES),
        "question": filled(processor.ask(picture(), "what is {} shown?"), CODES),
        "text_to_image": processor.draw("a red apple")["input_ids"][0].tolist(),
    }
    answer = {
        "image_to_text": [*plain(" a red apple"), 2],
        "question": [*plain(" an apple"), 2],
        "text_to_image": [*span(CONFIG, CODES), 2],
    }
    for tokenizer in (text_tokenizer(bos), processor.tokenizer):
        for direction, row in ROWS.items():
            collator = LanguageModelCollator(tokenizer, CONFIG, directions={direction: 1.0}, **prompts)
            batch = collator([row])
            ids, labels = batch["input_ids"][0].tolist(), batch["labels"][0].tolist()
            assert ids == [*prompt[direction], *answer[direction]]
            assert labels == [-100] * len(prompt[direction]) + answer[direction]
            assert (ids[0] == 0) == bos


def test_the_collator_works_with_any_layout():
    """SEED-LLaMA's: codes first, then the marks, and a placeholder beyond the rows."""
    layout = VisualVocabulary(
        visual_token_offset=331,
        boi_token_id=395,
        eoi_token_id=396,
        image_token_id=999,
        codebook_size=CODEBOOK_SIZE,
        num_query_tokens=32,
        vocab_size=397,
    )
    collator = LanguageModelCollator(tiny_text_tokenizer(), layout, directions={"text_to_image": 1.0}, max_length=64)
    batch = collator([ROWS["text_to_image"]])
    image = [395, *(331 + code for code in CODES), 396]
    assert batch["input_ids"][0].tolist() == [0, *plain("Generate an image a red apple"), *image, 2]
    assert batch["labels"][0, -35:].tolist() == [*image, 2]


def test_evaluation_asks_as_the_processor_does():
    for bos in (True, False):
        processor = processor_of(text_tokenizer(bos))
        for codes in (CODES, CODES[::-1]):
            assert processor.sequences.prompt("caption", codes=codes) == filled(processor.caption(picture()), codes)


def test_text_without_bos_learns_all_but_its_first_token():
    """No token predicts the first one: in a packed batch the token before it belongs to another sample."""
    text = plain("the blue fire engine")
    collator = LanguageModelCollator(text_tokenizer(False), CONFIG, max_length=40, pack_length=40)
    batch = collator([{"text": "the blue fire engine"}] * 2)
    assert batch["input_ids"][0, : 2 * len(text) + 2].tolist() == [*text, 2, *text, 2]
    learned = [-100, *text[1:], 2]
    assert batch["labels"][0, : 2 * len(text) + 2].tolist() == learned * 2
    assert len(text) not in batch["loss_positions"].tolist()
    with pytest.raises(ValueError, match="eos"):
        no_end = text_tokenizer(True)
        no_end.eos_token = None
        LanguageModelCollator(no_end, CONFIG)


def test_a_tokenizer_without_bos_is_served_without():
    processor = processor_of(text_tokenizer(False))
    assert processor.plain_tokenizer()("a red apple").input_ids == plain("a red apple")
    assert processor("a red apple")["input_ids"][0].tolist() == plain("a red apple")


@pytest.mark.parametrize(
    "words", ["a photo \U0001f436 of", 'say "x" \\n }} {{ {% x %}', "中文 “von”", "tab\tnew\nline"]
)
def test_prompts_of_any_characters_are_the_same_in_a_chat(words):
    processor = processor_of(tiny_text_tokenizer(), caption_prompt=words, question_prompt=f"{words} {{}} {words}")
    image = {"type": "image", "codes": CODES}
    for content, name in (([image], "caption"), ([image, {"type": "text", "text": "a question"}], "question")):
        ids = processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=True
        )
        assert ids[0].tolist() == processor.sequences.prompt(name, question="a question", codes=CODES)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("bos", [True, False])
def test_a_served_chat_begins_as_the_processors(name, bos):
    """A text tokenizer writes no bos before a chat: its template does."""
    processor = processor_of(text_tokenizer(bos), prompt_format=name)
    turns = [{"role": "user", "content": "a red apple"}, {"role": "assistant", "content": "the blue fire engine"}]
    for chat in (turns[:1], [*turns, *turns[:1]]):
        expected = processor(processor.apply_chat_template(chat, add_generation_prompt=True))["input_ids"][0].tolist()
        served = processor.plain_tokenizer()
        ids = served.apply_chat_template(chat, add_generation_prompt=True, tokenize=True, return_dict=False)
        assert ids == expected
    processor.chat_template = "{{ bos_token }}own"
    assert processor.plain_tokenizer().chat_template == "{{ bos_token }}own"


@pytest.mark.parametrize("bos", [True, False])
def test_bos_of_a_template_is_a_token_and_not_its_name(bos):
    """Templates made for other processors spell it, and so do those of served tokenizers."""
    processor = processor_of(text_tokenizer(bos))
    chat = [{"role": "user", "content": [{"type": "image", "codes": CODES}, {"type": "text", "text": "a question"}]}]
    expected = processor.apply_chat_template(chat, tokenize=True)
    for template in (processor.plain_tokenizer().chat_template, "{{ bos_token }}" + processor.chat_template):
        assert torch.equal(processor.apply_chat_template(chat, template, tokenize=True), expected)
    assert processor.apply_chat_template(chat, "{{ bos_token }}said", bos_token="he ") == "he said"


def test_an_image_that_does_not_fit_is_refused():
    collator = LanguageModelCollator(tiny_text_tokenizer(), CONFIG, directions={"text_to_image": 1.0}, max_length=35)
    with pytest.raises(ValueError, match="35 tokens, but max_length is 35"):
        collator([ROWS["text_to_image"]])


def test_the_bundled_chat_template_is_the_one_that_is_written():
    saved = bundled("seed-tiny", "model") / "chat_template.jinja"
    assert written_chat_template() == saved.read_text(encoding="utf-8")
    own = written_chat_template('CAPTION "x"', "QUESTION_AFTER {} CAPTION")
    assert '" QUESTION_AFTER " ~ text ~ " CAPTION"' in own and r'" CAPTION \"x\""' in own


@pytest.mark.parametrize("chosen", FORMATS)
def test_formats_are_whole(chosen):
    for name in SEQUENCES:
        each = FORMATS[chosen].sequence(name)
        assert each.prompt[0] is Mark.BOS and each.answer[-1] is Mark.EOS
        assert (Mark.IMAGE in each.prompt + each.answer) == (name != "text")
    with pytest.raises(ValueError, match="question_prompt"):
        SequenceEncoder(tiny_text_tokenizer(), CONFIG, prompt_format=chosen, question_prompt="?")


def test_unknown_formats_are_refused():
    for build in (written_chat_template, tiny_text_config, processor_of_format):
        with pytest.raises(ValueError, match="prompt_format must be one of seed, vicuna, llama2, plain; got 'chatml'"):
            build(prompt_format="chatml")


def processor_of_format(prompt_format):
    return processor_of(text_tokenizer(True), prompt_format=prompt_format)


def test_the_format_is_saved_and_read_by_the_collator(tmp_path):
    processor_of_format("vicuna").save_pretrained(tmp_path)
    processor = SeedProcessor.from_pretrained(tmp_path)
    assert processor.prompt_format == "vicuna" and "ASSISTANT:" in processor.chat_template
    collator = LanguageModelCollator(
        processor.tokenizer, tiny_text_config(prompt_format="vicuna"), directions={"question": 1.0}
    )
    batch = collator([ROWS["question"]])
    asked = filled(processor.ask(picture(), "what is {} shown?"), CODES)
    assert batch["input_ids"][0].tolist() == [*asked, *plain("an apple"), 2]
    assert asked == [0, *plain("USER:"), *span(CONFIG, CODES), *plain("what is {} shown?\nASSISTANT:")]
