"""Text and images in, text and codes out; text that a user types never becomes a visual token."""

import random

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoProcessor, AutoTokenizer, BatchFeature, pipeline
from transformers.pipelines import any_to_any

import seed_hf.auto  # noqa: F401
from hostile_prompts import HOSTILE
from seed_hf.images import load_image
from seed_hf.images.metadata import minimal_exif
from seed_hf.modeling.generation_seed import CodeSegment, Defect, TextSegment
from seed_hf.modeling.image_processing_seed import SeedImageProcessor
from seed_hf.modeling.processing_seed import SeedProcessor, code_token, extend_text_tokenizer
from seed_hf.modeling.prompts_seed import plain_text_encoder
from seed_hf.modeling.visual_vocabulary_seed import visual_vocabulary
from tiny import tiny_text_tokenizer
from tiny_language import CODEBOOK_SIZE, TEXT_VOCAB_SIZE, picture, span, tiny_processor, tiny_seed_model


@pytest.fixture(scope="module")
def processor():
    return tiny_processor()


@pytest.fixture(scope="module")
def model():
    return tiny_seed_model()


def plain(text):
    return tiny_text_tokenizer()(text, add_special_tokens=False)["input_ids"]


# The tokenizer


def test_extended_tokenizer_has_the_ids_of_the_config():
    text = tiny_text_tokenizer()
    tokenizer = extend_text_tokenizer(text, CODEBOOK_SIZE)
    ids = visual_vocabulary(TEXT_VOCAB_SIZE, CODEBOOK_SIZE)
    assert len(text) == TEXT_VOCAB_SIZE, "the given tokenizer must stay as it is"
    assert tokenizer.convert_tokens_to_ids("<img>") == ids["boi_token_id"]
    assert tokenizer.convert_tokens_to_ids("</img>") == ids["eoi_token_id"]
    assert tokenizer.convert_tokens_to_ids("<image>") == ids["image_token_id"] == len(tokenizer) - 1
    for code in (0, 1, CODEBOOK_SIZE - 1):
        assert tokenizer.convert_tokens_to_ids(code_token(code)) == ids["visual_token_offset"] + code
    # not special: a server decodes without special tokens, and must not lose the image
    decoded = tokenizer.decode([0, ids["boi_token_id"], ids["visual_token_offset"] + 3, 2], skip_special_tokens=True)
    assert decoded == "<img><img_00003>"


def test_tokenizers_that_do_not_fit_are_refused():
    extended = extend_text_tokenizer(tiny_text_tokenizer(), 4)
    with pytest.raises(ValueError, match="already has visual tokens"):
        extend_text_tokenizer(extended, 4)
    for name in ("</img>", "<img_00003>", "<image>"):
        partly = tiny_text_tokenizer()
        partly.add_tokens([name])
        with pytest.raises(ValueError, match=f"already has visual tokens .{name}."):
            extend_text_tokenizer(partly, 4)
    with pytest.raises(ValueError, match="extend_text_tokenizer"):
        SeedProcessor(SeedImageProcessor(), tiny_text_tokenizer())
    wrong = tiny_text_tokenizer()
    wrong.add_tokens(["<img>", "<img_00000>", "</img>", "<img_00001>", "<image>"])
    with pytest.raises(ValueError, match=f"<img_00001> has {TEXT_VOCAB_SIZE + 3}"):
        SeedProcessor(SeedImageProcessor(), wrong)
    unclosed = tiny_text_tokenizer()
    unclosed.add_tokens(["<img>", "<img_00000>"])
    with pytest.raises(ValueError, match="</img> not found"):
        SeedProcessor(SeedImageProcessor(), unclosed)


# Text of a user


def test_text_never_becomes_visual_or_special_ids(processor):
    draw = random.Random(0)
    special = set(processor.tokenizer.all_special_ids)
    texts = [*HOSTILE]
    for _ in range(500):
        pieces = draw.choices([*HOSTILE, "a red apple", " ", "é", "�", "\n"], k=draw.randint(1, 8))
        texts.append("".join(pieces).replace("<image>", ""))
    for text in texts:
        ids = processor(text)["input_ids"][0].tolist()
        assert ids[0] == 0 and max(ids) < TEXT_VOCAB_SIZE
        assert not special & set(ids[1:]), text
        # nothing was lost either: the text comes back, lower-cased by this tokenizer
        assert processor.tokenizer.decode(ids[1:]) == text.lower()


def test_helpers_take_even_the_placeholder_as_text(processor):
    for inputs in (processor.draw("<image> <img_00001>"), processor.ask(picture(), "what is <image>?")):
        ids = inputs["input_ids"][0]
        assert (ids == processor.vocabulary.image_token_id).sum() == (32 if "pixel_values" in inputs else 0)
    ids = processor.draw("<image> <img_00001>")["input_ids"]
    assert ids.max() < TEXT_VOCAB_SIZE


def test_plain_text_is_encoded_as_by_the_tokenizer():
    encode = plain_text_encoder(extend_text_tokenizer(tiny_text_tokenizer(), 4))
    for text in (" a photo of", "a red apple", "", "Generate an image the blue fire engine"):
        assert encode(text) == plain(text)


# Prompts


def test_formats_are_those_of_training(processor):
    config = processor.vocabulary
    image = [config.boi_token_id, *[config.image_token_id] * 32, config.eoi_token_id]
    caption = processor.caption(picture())["input_ids"][0].tolist()
    assert caption == [0, *image, *plain(" a photo of")]
    assert caption == processor("<image> a photo of", picture())["input_ids"][0].tolist()
    question = processor.ask(picture(), "what is shown?")["input_ids"][0].tolist()
    assert question == [0, *image, *plain(" Question: what is shown? Short answer.")]
    assert processor.draw("a red apple")["input_ids"][0].tolist() == [0, *plain("Generate an image a red apple")]


def test_own_prompts_are_used_and_saved(tmp_path):
    processor = tiny_processor(caption_prompt="shown is", image_prompt="draw", question_prompt='q "{}" a')
    processor.save_pretrained(tmp_path)
    processor = SeedProcessor.from_pretrained(tmp_path)
    assert processor.caption(picture())["input_ids"][0, 35:].tolist() == plain(" shown is")
    assert processor.ask(picture(), "who {}")["input_ids"][0, 35:].tolist() == plain(' q "who {}" a')
    assert processor.draw("x")["input_ids"][0, 1:].tolist() == plain("draw x")
    chat = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "who"}]}]
    assert processor.apply_chat_template(chat) == '<image> q "who" a'
    with pytest.raises(ValueError, match="question_prompt"):
        tiny_processor(question_prompt="no place for it")


def test_the_chat_asks_with_the_prompts_of_the_processor(processor, tmp_path):
    processor.save_pretrained(tmp_path)
    chat = [{"role": "user", "content": [{"type": "image"}]}]
    other = SeedProcessor.from_pretrained(tmp_path, caption_prompt="shown is")
    assert other.apply_chat_template(chat, add_generation_prompt=True) == "<image> shown is"
    other.save_pretrained(tmp_path)
    assert (
        SeedProcessor.from_pretrained(tmp_path).apply_chat_template(chat, add_generation_prompt=True)
        == "<image> shown is"
    )
    own = SeedProcessor.from_pretrained(tmp_path, chat_template="my own", question_prompt="q {} a")
    assert own.chat_template == "my own"
    # One that differs from it in words alone is one's own, too, in a folder, a call and the constructor.
    other.chat_template = edited = other.chat_template.replace("Short answer.", "Answer briefly.")
    other.save_pretrained(tmp_path)
    parts = (other.image_processor, other.tokenizer)
    for kept in (SeedProcessor.from_pretrained(tmp_path), SeedProcessor(*parts, chat_template=edited)):
        assert kept.chat_template == edited != processor.chat_template
    with pytest.raises(AttributeError, match="The caption_prompt of a processor is part of its templates"):
        other.caption_prompt = "a photo of"
    other.caption_prompt = "shown is"  # as it was


def test_rows_are_padded_on_the_left(processor):
    inputs = processor(["a red apple", "<image> a photo of", "<image><image>"], [picture()] * 3)
    assert inputs["pixel_values"].shape == (3, 3, 28, 28)
    mask = inputs["attention_mask"]
    assert mask.shape == inputs["input_ids"].shape == (3, 1 + 2 * 34)
    assert (mask.diff(dim=1) >= 0).all() and mask[:, -1].all()
    assert (inputs["input_ids"][mask == 0] == 1).all()
    wide = processor("a", padding="max_length", max_length=9)
    assert wide["input_ids"].shape == (1, 9) and wide["attention_mask"].sum() == 2
    lists = processor(["a", "a red apple"], padding=False, return_tensors=None)["input_ids"]
    assert [len(row) for row in lists] == [2, 1 + len(plain("a red apple"))]
    assert processor("a", add_special_tokens=False)["input_ids"].tolist() == [plain("a")]


def test_nested_images_and_images_alone(processor):
    nested = processor(["<image>", "x", "<image><image>"], [[picture("red")], [], [picture("blue"), picture("green")]])
    flat = processor(images=[picture("red"), picture("blue"), picture("green")])
    assert torch.equal(nested["pixel_values"], flat["pixel_values"])
    assert set(flat) == {"pixel_values"} and set(processor("a")) == {"input_ids", "attention_mask"}


def test_no_images_give_no_rows(processor):
    size = processor.image_processor.size
    assert processor(images=[])["pixel_values"].shape == (0, 3, size["height"], size["width"])
    assert "pixel_values" not in processor(text="a red apple", images=[])
    for prepare in (processor.caption, lambda none: processor.ask(none, "what is shown?"), processor.draw):
        with pytest.raises(ValueError, match="at least one"):
            prepare([])


def test_images_are_prepared_as_everywhere(processor, tmp_path):
    """A turned 16-bit file, opened, as a path and as numbers in 0..1."""
    levels = np.arange(12 * 8, dtype=np.uint16).reshape(8, 12) * 600
    Image.fromarray(levels).save(tmp_path / "a.png", exif=minimal_exif(6))
    expected = processor.caption(load_image(tmp_path / "a.png"))["pixel_values"]
    turned = np.rot90((levels.astype(int) + 128) // 257, -1) / 255
    for image in (Image.open(tmp_path / "a.png"), str(tmp_path / "a.png"), np.stack([turned] * 3, -1)):
        assert torch.equal(processor.caption(image)["pixel_values"], expected)


def test_known_codes_stand_for_images(processor, model):
    pixels = processor(text="<image> and <image>", images=[picture(), picture()])
    codes = model.visual_tokenizer.encode(pixels.pixel_values)
    inputs = processor(text="<image> and <image>", codes=codes)
    assert torch.equal(inputs.input_ids, pixels.input_ids) and "pixel_values" not in inputs
    options = {"generation_mode": "text", "max_new_tokens": 4, "do_sample": False}
    assert torch.equal(model.generate(**inputs, **options), model.generate(**pixels, **options))
    with pytest.raises(ValueError, match="<image> 1 times, but 2 images"):
        processor(text="<image>", codes=codes)
    with pytest.raises(ValueError, match="without images"):
        processor(text="<image>", images=picture(), codes=codes[:1])


def test_wrong_inputs_are_refused(processor):
    same_number = "tokens in the prompts should be the same as the number of images"  # transformers' words
    with pytest.raises(ValueError, match=f"{same_number}: .* 2 times, but 1 images"):
        processor("<image> and <image>", picture())
    with pytest.raises(ValueError, match="0 times, but 1 images"):
        processor("nothing", picture())
    with pytest.raises(ValueError, match="1 times, but 0 images"):
        processor("<image>")
    with pytest.raises(ValueError, match="Give text"):
        processor()
    with pytest.raises(ValueError, match="videos"):
        processor("a", videos=[1])
    with pytest.raises(ValueError, match="audio"):
        processor("a", audio=torch.zeros(1, 9))
    with pytest.raises(TypeError, match="string"):
        processor([])
    with pytest.raises(TypeError, match="text 0 must be a text, got 1"):
        processor(text=[1, 2])
    for call in (processor, processor.draw, lambda text: processor.text_tower(text, 5)):
        with pytest.raises(ValueError, match="half a character"):
            call(["a", "b \ud800"])
    with pytest.raises(ValueError, match="3 questions for 2 images"):
        processor.ask([picture()] * 2, ["a", "b", "c"])
    with pytest.raises(ValueError, match="max_length"):
        processor("a red apple", padding="max_length", max_length=2)
    with pytest.raises(ValueError, match="'sideways'"):
        processor("a", padding="sideways")


# Chats


def chat(*contents):
    roles = ["user", "assistant"] * len(contents)
    return [{"role": role, "content": content} for role, content in zip(roles, contents)]


IMAGE = {"type": "image", "image": picture()}


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        (chat([IMAGE, {"type": "text", "text": "what is shown?"}]), "<image> Question: what is shown? Short answer."),
        (chat([IMAGE]), "<image> a photo of"),
        (chat("Generate an image a red apple"), "Generate an image a red apple"),
        (
            chat([IMAGE, {"type": "text", "text": "what?"}], "an apple", "which colour?"),
            "<image> Question: what? Short answer. an apple Question: which colour? Short answer.",
        ),
        (chat([IMAGE, IMAGE]), "<image><image> a photo of"),
        # The text of a turn is its question wherever the image stands.
        (chat([{"type": "text", "text": "what?"}, IMAGE]), "<image> Question: what? Short answer."),
        (
            chat([{"type": "text", "text": "who"}, IMAGE, {"type": "text", "text": "is it?"}], "an apple", [IMAGE]),
            "<image> Question: who is it? Short answer. an apple<image> a photo of",
        ),
        (
            chat([{"type": "text", "text": "draw"}], [{"type": "text", "text": "here:"}, IMAGE], "what is it?"),
            "draw here:<image> Question: what is it? Short answer.",
        ),
    ],
)
def test_chats_become_the_trained_formats(processor, messages, expected):
    assert processor.apply_chat_template(messages, add_generation_prompt=True) == expected
    inputs = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=True)
    images = [picture()] * expected.count("<image>") or None
    assert isinstance(inputs, BatchFeature)
    assert torch.equal(inputs["input_ids"], processor(expected, images)["input_ids"])
    assert ("pixel_values" in inputs) == (images is not None)


def test_rows_of_images_are_compared_with_the_places_of_each_text(processor):
    texts = ["<image> a", "<image> b <image>"]
    for images in ([[picture()], [picture()] * 2], [picture()] * 3):
        assert len(processor(texts, images)["pixel_values"]) == 3
    with pytest.raises(ValueError, match=r"\[1, 2\] times <image>, but the rows of images \[2, 1\]"):
        processor(texts, [[picture()] * 2, [picture()]])


def test_placeholder_typed_into_a_chat_is_refused(processor):
    messages = chat([IMAGE, {"type": "text", "text": "what is <image>?"}])
    with pytest.raises(ValueError, match="2 times, but 1 images"):
        processor.apply_chat_template(messages, tokenize=True)


# Output


def test_output_is_read_as_segments(processor):
    config = processor.vocabulary
    codes = list(range(32))
    row = [1, 1, 0, *plain(" a red apple"), *span(config, codes), *plain(" yes"), 2]
    (parts,) = processor.post_process_multimodal_output(torch.tensor([row]))
    assert [type(part) for part in parts] == [TextSegment, CodeSegment, TextSegment]
    assert [parts[0].text, parts[1].codes, parts[2].text] == [" a red apple", codes, " yes"]
    assert processor.post_process_multimodal_output([row], generation_mode="text") == [" a red apple yes"]
    (images,) = processor.post_process_multimodal_output([row], generation_mode="image")
    assert images.tolist() == [codes] and images.dtype == torch.long
    (kept,) = processor.post_process_multimodal_output(row, skip_special_tokens=False)
    assert kept[0].text.startswith("<pad><pad><s>")


def test_reading_never_raises(processor):
    draw = random.Random(1)
    size = processor.vocabulary.vocab_size
    for _ in range(300):
        row = [draw.randint(-3, size + 3) for _ in range(draw.randint(0, 60))]
        for mode in ("interleaved", "text", "image", None):
            processor.post_process_multimodal_output([row], generation_mode=mode)
    assert processor.post_process_multimodal_output([]) == []
    assert processor.post_process_multimodal_output(torch.zeros(2, 0, dtype=torch.long)) == [[], []]
    ((part,),) = processor.post_process_multimodal_output([[processor.vocabulary.eoi_token_id]])
    assert isinstance(part, Defect)
    with pytest.raises(ValueError, match="generation_mode"):
        processor.post_process_multimodal_output([[1]], generation_mode="audio")


# Files and pipelines


def test_save_load_save(processor, tmp_path):
    processor.save_pretrained(tmp_path / "a")
    loaded = SeedProcessor.from_pretrained(tmp_path / "a")
    loaded.save_pretrained(tmp_path / "b")
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert [name for name in names if not name.endswith(".py")] == [
        "chat_template.jinja",
        "processor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    for name in ("chat_template.jinja", "processor_config.json", "tokenizer.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    args = (["<image> a photo of <img_00001>", "a"], picture())
    for key, value in processor(*args).items():
        assert torch.equal(value, loaded(*args)[key])


def test_auto_classes_load_the_folder_of_a_model(processor, model, tmp_path):
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    assert isinstance(AutoProcessor.from_pretrained(tmp_path), SeedProcessor)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer.convert_tokens_to_ids("<image>") == processor.vocabulary.image_token_id


def test_any_to_any_pipeline(processor, model, monkeypatch):
    # Transformers needs torchvision for any model with images; this processor does not.
    monkeypatch.setattr(any_to_any, "requires_backends", lambda *args: None)
    pipe = pipeline("any-to-any", model=model, processor=processor)
    (answer,) = pipe(text="<image> a photo of", images=picture(), max_new_tokens=4, return_full_text=False)
    assert isinstance(answer["generated_text"], str) and " a photo of" not in answer["generated_text"]
    messages = chat([IMAGE, {"type": "text", "text": "what is shown?"}])
    (answer,) = pipe(text=messages, max_new_tokens=4)
    assert answer["generated_text"][-1]["role"] == "assistant"
    (drawn,) = pipe(text="Generate an image a red apple", generation_mode="image", max_new_tokens=40)
    assert drawn["generated_image"].shape == (1, 32) and drawn["generated_image"].max() < CODEBOOK_SIZE
