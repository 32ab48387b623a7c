"""Every option of a call does what it does in Janus, LLaVA and BLIP-2, or is refused; none is lost without a word."""

import inspect

import numpy as np
import pytest
import torch
from datasets import Dataset, Image
from datasets.fingerprint import Hasher
from transformers import (
    AddedToken,
    AutoImageProcessor,
    AutoProcessor,
    Blip2Processor,
    BlipImageProcessorPil,
    LlavaProcessor,
)
from transformers.processing_utils import TextKwargs
from transformers.tokenization_utils_base import TruncationStrategy
from transformers.utils import PaddingStrategy

from seed_hf.modeling.image_processing_seed import SeedImageProcessor
from seed_hf.modeling.processing_seed import SeedProcessor, extend_text_tokenizer
from seed_hf.modeling.processor_options_seed import TEXT_OPTIONS
from tiny import tiny_text_tokenizer
from tiny_language import CODEBOOK_SIZE, picture, tiny_processor
from tiny_processors import janus_processor, janus_tokenizer


TEXTS = ["<image> a photo of the blue fire engine", "a red apple"]
SPAN = 34


@pytest.fixture(scope="module")
def processor():
    return tiny_processor()


@pytest.fixture(scope="module")
def janus():
    return janus_processor()


def same(found, expected) -> None:
    assert sorted(found) == sorted(expected)
    for name, value in expected.items():
        assert type(found[name]) is type(value), name
        if isinstance(value, torch.Tensor):
            assert found[name].dtype == value.dtype and torch.equal(found[name], value), name
        else:
            np.testing.assert_equal(found[name], value, err_msg=name)


TEXT_CALLS = [
    {"padding": True},
    {"padding": "longest", "max_length": 50},
    {"padding": PaddingStrategy.LONGEST},
    {"padding": "max_length", "max_length": 60},
    {"padding": "max_length"},  # to the 64 tokens of the text tokenizer
    {"padding": True, "padding_side": "right"},
    {"padding": True, "pad_to_multiple_of": 16},
    {"padding": "max_length", "max_length": 50, "pad_to_multiple_of": 16},
    {"padding": False, "return_tensors": None},
    {"padding": "do_not_pad", "return_tensors": None, "return_length": True},
    {"padding": True, "truncation": True, "max_length": 39},
    {"padding": True, "truncation": "longest_first", "max_length": 39},
    {"padding": True, "truncation": TruncationStrategy.ONLY_FIRST, "max_length": 39},
    {"padding": True, "truncation": True},
    {"padding": True, "truncation": None},
    {"padding": "max_length", "truncation": True, "max_length": 40, "pad_to_multiple_of": 8},
    {"padding": True, "truncation": "do_not_truncate"},
    {"padding": True, "add_special_tokens": False},
    {"padding": True, "return_attention_mask": False},
    {"padding": True, "return_special_tokens_mask": True},
    {"padding": True, "return_mm_token_type_ids": True},
    {"padding": True, "return_offsets_mapping": True},
    {"padding": True, "return_text_replacement_offsets": True},
    {"padding": True, "return_length": True},
    {"padding": True, "return_tensors": "np"},
    {"text_kwargs": {"padding": "max_length", "max_length": 60, "padding_side": "right"}},
    {"text_kwargs": {"padding": "max_length"}, "max_length": 60},
    {"common_kwargs": {"return_tensors": "np"}, "padding": True},
]


@pytest.mark.parametrize("options", TEXT_CALLS, ids=str)
def test_options_of_text_do_what_they_do_in_janus(processor, janus, options):
    same(processor(TEXTS, picture(), **options), janus(TEXTS, picture(), **options))


@pytest.mark.parametrize(
    "options",
    [
        {"do_resize": False},
        {"size": {"height": 14, "width": 14}},
        {"size": 14},
        {"size": {"shortest_edge": 14}},
        {"resample": 0, "size": 40},
        {"do_center_crop": True, "crop_size": {"height": 14, "width": 14}},
        {"do_pad": True, "pad_size": {"height": 40, "width": 40}},
        {"do_rescale": True, "rescale_factor": -1.0},
        {"do_rescale": False},
        {"do_normalize": False},
        {"image_mean": [0.0, 0.5, 1.0], "image_std": [1.0, 1.0, 2.0]},
    ],
    ids=str,
)
def test_options_of_images_do_what_they_do_in_llava(options):
    """By name, and in `images_kwargs`. LLaVA with the image processor of BLIP, which BLIP-2 has, too."""
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    sizes = {"size": {"height": 28, "width": 28}}
    tokenizer = janus_tokenizer()
    llava = LlavaProcessor(BlipImageProcessorPil(**sizes), tokenizer, 14, "full")
    mine = tiny_processor()
    before = mine(images=noise)["pixel_values"]
    for call in (options, {"images_kwargs": options}):
        found = mine("<image> a", noise, **call)["pixel_values"]
        expected = llava(images=noise, text="<image> a", return_tensors="pt", **call)["pixel_values"]
        torch.testing.assert_close(found, expected, atol=2e-6, rtol=0)
        assert found.shape != before.shape or not torch.equal(found, before)


def test_llava_cuts_and_pads_text_as_we_do(processor):
    llava = LlavaProcessor(processor.image_processor, janus_tokenizer(), 14, "full")
    for options in TEXT_CALLS:
        if "return_tensors" in options or "common_kwargs" in options:
            continue
        texts = ["a red apple", "a photo of the blue fire engine what is shown ?"]
        same(processor(texts, **options), llava(text=texts, return_tensors="pt", **options))


def test_both_modalities_in_one_call(processor):
    both = processor(
        TEXTS,
        picture(),
        padding="max_length",
        max_length=44,
        rescale_factor=-1.0,
        text_kwargs={"padding_side": "right"},
    )
    assert both["input_ids"].shape == (2, 44) and both["attention_mask"][0, 0] == 1 and both["pixel_values"].mean() < 0
    apart = processor(TEXTS, picture(), images_kwargs={"return_tensors": "np"}, text_kwargs={"return_tensors": None})
    assert isinstance(apart["pixel_values"], np.ndarray) and isinstance(apart["input_ids"], list)


# Truncation


@pytest.mark.parametrize("side", ["left", "right"])
def test_no_cut_goes_through_an_image(side):
    processor = tiny_processor()
    processor.tokenizer.truncation_side = side
    text, codes = "a red <image> apple", [list(range(32))]
    whole = processor(text, codes=codes)["input_ids"][0].tolist()
    begin = whole.index(processor.vocabulary.boi_token_id)
    after = len(whole) - begin - SPAN
    free = after if side == "right" else begin - 1
    for limit in range(1, len(whole) + 1):
        if len(whole) - limit > free:
            with pytest.raises(ValueError, match="would cut an image: an image is 34 tokens"):
                processor(text, codes=codes, truncation=True, max_length=limit)
            continue
        kept = processor(text, codes=codes, truncation=True, max_length=limit)["input_ids"][0].tolist()
        assert kept == (whole[:limit] if side == "right" else [whole[0], *whole[len(whole) - limit + 1 :]])


def test_llava_refuses_to_cut_images_as_we_do(processor):
    llava = LlavaProcessor(processor.image_processor, janus_tokenizer(), 14, "full")
    for each in (processor, llava):
        with pytest.raises(ValueError):
            each(images=picture(), text="<image> a red apple", truncation=True, max_length=4)


def test_what_stands_around_a_text_is_never_cut(processor):
    boi = processor.vocabulary.boi_token_id
    kept = processor("a red apple", truncation=True, max_length=3, begin_image=True)["input_ids"][0].tolist()
    assert kept[0] == 0 and kept[-1] == boi and len(kept) == 3
    with pytest.raises(ValueError, match="no room for the 2 tokens"):
        processor("a red apple", truncation=True, max_length=1, begin_image=True)


def test_rows_that_are_too_long_are_not_lost(processor):
    """Janus and LLaVA return them longer than they were asked for, with a warning."""
    for options in ({"padding": "max_length"}, {"padding": True}, {"padding": False}):
        with pytest.raises(ValueError, match="Text 0 has 4 tokens, but max_length is 3. Give truncation=True"):
            processor("a red apple", max_length=3, **options)
    processor = tiny_processor()
    processor.tokenizer.model_max_length = 10**30
    for options in ({"padding": "max_length"}, {"truncation": True}):
        with pytest.raises(ValueError, match="needs max_length"):
            processor("a", **options)


# What a processor was loaded with


def test_load_time_options_hold_until_a_call_says_otherwise(processor, tmp_path):
    processor.save_pretrained(tmp_path)
    loaded = SeedProcessor.from_pretrained(tmp_path, padding="max_length", max_length=12, rescale_factor=-1.0)
    assert loaded("a").input_ids.shape == (1, 12) and loaded(images=picture()).pixel_values.mean() < 0
    assert loaded("a", padding=True).input_ids.shape == (1, 2)
    assert loaded("a", text_kwargs={"max_length": 7}).input_ids.shape == (1, 7)
    same(loaded(images=picture(), rescale_factor=1 / 255), processor(images=picture()))
    turned = SeedProcessor.from_pretrained(tmp_path, padding_side="right", truncation_side="left")
    assert turned(["a", "a red"]).input_ids[0].tolist() == [0, turned("a").input_ids[0, 1].item(), 1]
    assert (
        turned("a red apple", truncation=True, max_length=2).input_ids[0, 1] == turned("a red apple").input_ids[0, -1]
    )
    assert turned.draw(["a", "a red"]).attention_mask[0, 0] == 0, "prompts to generate from are padded on the left"


def test_a_folder_that_pads_on_the_right_is_padded_on_the_left(tmp_path):
    tokenizer = extend_text_tokenizer(tiny_text_tokenizer(), CODEBOOK_SIZE)
    tokenizer.init_kwargs["padding_side"] = tokenizer.padding_side = "right"
    SeedProcessor(tiny_processor().image_processor, tokenizer).save_pretrained(tmp_path)
    assert SeedProcessor.from_pretrained(tmp_path)(["a", "a red"]).attention_mask[0].tolist() == [0, 1, 1]


# What is refused


def test_unknown_options_are_refused(processor):
    groups = ("text_kwargs", "images_kwargs", "common_kwargs")
    for options in ({"foo": 1}, *({group: {"foo": None}} for group in groups)):
        with pytest.raises(TypeError, match="no option foo.* It has .*return_tensors"):
            processor("<image> a", picture(), **options)
    with pytest.raises(TypeError, match="no option foo"):
        processor.image_processor(picture(), foo=1)
    with pytest.raises(TypeError, match="no option temperature"):
        processor("a", temperature=1.0)
    with pytest.raises(TypeError, match="in text_kwargs"):
        processor("<image>", picture(), text_kwargs={"do_resize": False})
    with pytest.raises(TypeError, match="text_kwargs must be a dict"):
        processor("a", text_kwargs=3)


@pytest.mark.parametrize(
    "options",
    [
        {"text_pair": "b"},
        {"text_target": "b"},
        {"text_pair_target": "b"},
        {"is_split_into_words": True},
        {"stride": 2},
        {"return_overflowing_tokens": True},
        {"return_token_type_ids": True},
        {"videos_kwargs": {"fps": 2}},
        {"audio_kwargs": {"sampling_rate": 2}},
        {"truncation": "only_second"},
        {"truncation": "sideways"},
        {"padding": None},
        {"padding_side": "middle"},
        {"max_length": 0},
        {"max_length": True},
        {"pad_to_multiple_of": 2.0},
        {"padding": False, "pad_to_multiple_of": 8},
        {"truncation": True, "max_length": 36, "pad_to_multiple_of": 8},
        {"return_length": "yes"},
        {"padding": True, "text_kwargs": {"padding": False}},
        {"do_resize": True, "images_kwargs": {"do_resize": False}},
        {"data_format": "channels_last"},
        {"device": "cuda"},
        {"image_seq_length": 3},
        {"crop_size": 14},
        {"pad_size": 14},
        {"sanitize_control_tokens": True, "return_offsets_mapping": True},
    ],
    ids=str,
)
def test_options_that_would_change_nothing_or_are_wrong_are_refused(processor, options):
    with pytest.raises(ValueError):
        processor("<image> a", picture(), **options)


def test_options_that_ask_for_nothing_are_taken(processor):
    """transformers' own callers pass them."""
    nothing = {"stride": 0, "return_token_type_ids": False, "is_split_into_words": None, "verbose": False}
    nothing |= {"videos_kwargs": {}, "audio_kwargs": None, "common_kwargs": {}, "padding_side": None}
    nothing |= {"videos": None, "audio": None, "begin_image": None}
    same(processor(TEXTS, picture(), **nothing), processor(TEXTS, picture()))


def test_the_call_names_its_inputs_alone_and_each_may_be_left_out():
    """transformers asks the signature which kinds of input a processor has, and which it may leave out."""
    ours, theirs = (
        {n: p for n, p in inspect.signature(c.__call__).parameters.items() if p.kind is not p.VAR_KEYWORD}
        for c in (SeedProcessor, LlavaProcessor)
    )
    others = {"videos", "audio"}  # LLaVA drops them without a word
    assert theirs.keys() - others <= ours.keys() and not others & ours.keys()
    assert all(p.default is None and p.annotation is not p.empty for n, p in ours.items() if n != "self")


def test_every_option_of_transformers_is_known():
    assert set(TextKwargs.__annotations__) <= TEXT_OPTIONS


# What servers ask for


def test_the_number_of_placeholders_is_known_before_an_image_is_prepared(processor, janus):
    sizes = [(100, 100), (300, 100)]
    found = processor._get_num_multimodal_tokens(image_sizes=sizes)
    call = processor(["<image>", "<image> b"], [picture()] * 2, return_mm_token_type_ids=True)
    assert found["num_image_tokens"] == call["mm_token_type_ids"].sum(-1).tolist() == [32, 32]
    assert found["num_image_patches"] == [1, 1] and "num_image_tokens" not in processor._get_num_multimodal_tokens()
    assert processor.image_token == janus.image_token and processor.image_token_id == janus.image_token_id
    assert processor.replace_image_token({}, 0) == janus.replace_image_token({}, 0)
    codes = [list(range(32))]
    known = processor("<image> b", codes=codes, return_mm_token_type_ids=True)
    assert known["mm_token_type_ids"].sum() == 32 and known["mm_token_type_ids"][0, 1] == 0


def test_saving_leaves_a_processor_as_it_was(tmp_path):
    processor = tiny_processor()
    before = processor.to_dict()
    processor.save_pretrained(tmp_path)
    assert processor.to_dict() == before
    loaded = SeedProcessor.from_pretrained(tmp_path)
    before = loaded.to_dict()
    loaded.save_pretrained(tmp_path / "again")
    assert loaded.to_dict() == before == SeedProcessor.from_pretrained(tmp_path / "again").to_dict()
    # What transformers takes for the class that a processor extends has all that processors have.
    assert SeedProcessor.replace_image_token is not SeedProcessor.__mro__[1].replace_image_token


def test_blip2_counts_its_tokens_as_part_of_the_limit(processor):
    """So do we: `max_length` is that of text and image together."""
    tokenizer = tiny_text_tokenizer()
    tokenizer.add_tokens([AddedToken("<image>", special=True, normalized=False)], special_tokens=True)
    blip2 = Blip2Processor(processor.image_processor, tokenizer, num_query_tokens=32)
    for max_length in (60, 50):
        options = {"padding": "max_length", "max_length": max_length}
        theirs = blip2(images=picture(), text="a red apple", return_tensors="pt", **options)
        assert theirs["input_ids"].shape == processor("<image> a red apple", picture(), **options)["input_ids"].shape


@pytest.mark.parametrize("cls", [SeedProcessor, AutoProcessor, AutoImageProcessor, SeedImageProcessor])
def test_the_backend_of_images_is_pillow(cls, processor, tmp_path):
    """`backend="pil"` was an AttributeError of a property."""
    processor.save_pretrained(tmp_path)
    assert type(cls.from_pretrained(tmp_path, backend="pil")) is type(cls.from_pretrained(tmp_path))
    if cls in (SeedProcessor, SeedImageProcessor):
        with pytest.raises(ValueError, match="backend must be 'pil', got 'torchvision'"):
            cls.from_pretrained(tmp_path, backend="torchvision")


def test_columns_of_datasets_are_lists(tmp_path):
    processor = tiny_processor()
    rows = Dataset.from_dict({"image": [picture("red"), picture("blue")], "caption": ["a red apple", "a"]})
    rows = rows.cast_column("image", Image())
    images, captions = rows["image"], rows["caption"]
    assert not isinstance(images, list)
    for found, wanted in (
        (processor(captions), processor(list(captions))),
        (processor(["<image>"] * 2, images), processor(["<image>"] * 2, list(images))),
        (processor.caption(images), processor.caption(list(images))),
        (processor.draw(captions), processor.draw(list(captions))),
        (processor.image_processor(images), processor.image_processor(list(images))),
    ):
        assert sorted(found) == sorted(wanted)
        assert all(np.array_equal(found[name], wanted[name]) for name in wanted)


def test_use_leaves_a_processor_the_same_to_datasets():
    """Else a `map` with it would be computed again."""
    processor = tiny_processor()
    before = Hasher.hash(processor)
    processor("a red <image>", picture())
    processor.text_tower(["a"], 8)
    processor.decode(processor.draw("a")["input_ids"][0])
    assert Hasher.hash(processor) == before
