"""A text tokenizer of a stranger, or one that has changed: no text becomes visual tokens, no word is ignored."""

import copy
import json
import pickle

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from seed_hf import SeedImageProcessor, SeedProcessor
from seed_hf.data.batches.image_text import ImageTextCollator
from seed_hf.data.batches.language_model import LanguageModelCollator
from seed_hf.modeling.processing_seed import extend_text_tokenizer
from seed_hf.modeling.prompts_seed import SequenceEncoder
from tiny import tiny_text_tokenizer
from tiny_language import CODEBOOK_SIZE, TEXT_VOCAB_SIZE, picture, tiny_processor, tiny_text_config


CONFIG = tiny_text_config()
VISUAL = {
    "<img>": CONFIG.boi_token_id,
    "</img>": CONFIG.eoi_token_id,
    "first code": CONFIG.visual_token_offset,
    "last code": CONFIG.visual_token_offset + CODEBOOK_SIZE - 1,
    "<image>": CONFIG.image_token_id,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processor")
    tiny_processor().save_pretrained(folder)
    return folder


def edit(folder, target, name, change):
    """A copy of the processor's folder in which `change` has edited a JSON file."""
    for path in folder.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    values = json.loads((target / name).read_text())
    change(values)
    (target / name).write_text(json.dumps(values))
    return target


@pytest.mark.parametrize("id_of", VISUAL)
def test_a_word_with_the_id_of_a_visual_token_is_refused(folder, tmp_path, id_of):
    def change(values):
        values["model"]["vocab"]["q"] = VISUAL[id_of]

    edited = edit(folder, tmp_path, "tokenizer.json", change)
    with pytest.raises(ValueError, match=f"'q' has the id {VISUAL[id_of]} "):
        SeedProcessor.from_pretrained(edited)


@pytest.mark.parametrize("name", ["bos_token", "eos_token", "pad_token"])
def test_a_special_token_that_is_a_visual_token_is_refused(folder, tmp_path, name):
    edited = edit(folder, tmp_path, "tokenizer_config.json", lambda values: values.update({name: "<img_00001>"}))
    with pytest.raises(ValueError, match=f"'{name}' has the id {CONFIG.visual_token_offset + 1} "):
        SeedProcessor.from_pretrained(edited)


def test_the_training_has_the_same_check():
    tokenizer = tiny_text_tokenizer()
    settings = json.loads(tokenizer.backend_tokenizer.to_str())
    settings["model"]["vocab"]["q"] = CONFIG.visual_token_offset
    hostile = copy.deepcopy(tokenizer)
    hostile._tokenizer = type(tokenizer.backend_tokenizer).from_str(json.dumps(settings))
    with pytest.raises(ValueError, match="'q' has the id"):
        LanguageModelCollator(hostile, CONFIG)
    assert LanguageModelCollator(tokenizer, CONFIG)


def test_words_that_are_added_later_are_refused(tmp_path):
    """They are ids beyond the visual tokens, for which the language model has no rows."""
    processor = tiny_processor()
    before = processor(text="a fire engine").input_ids
    processor.tokenizer.add_tokens(["engine"])
    uses = (
        lambda: processor(text="a fire engine"),
        lambda: processor.caption(picture()),
        lambda: processor.ask(picture(), "what?"),
        lambda: processor.draw("a fire engine"),
    )
    for use in uses:
        with pytest.raises(ValueError, match=r"had 398 entries and has 399.*plain text tokenizer"):
            use()
    processor.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="engine after the visual tokens"):
        SeedProcessor.from_pretrained(tmp_path)
    assert before.shape == (1, 4)


def test_special_tokens_after_the_visual_ones_are_no_words(tmp_path):
    """Padding of a released model, for instance. No text becomes them."""
    tokenizer = extend_text_tokenizer(tiny_text_tokenizer(), CODEBOOK_SIZE)
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    processor = SeedProcessor(tiny_processor().image_processor, tokenizer)
    processor.save_pretrained(tmp_path)
    again = SeedProcessor.from_pretrained(tmp_path)
    assert tokenizer.pad_token_id not in again(text="a [PAD]").input_ids[0].tolist()


def test_the_text_tower_reads_names_of_visual_tokens_as_text():
    """Their ids would be beyond its vocabulary. The special tokens around a text are those of the tokenizer."""
    processor = tiny_processor()
    end = {"single": "$A </s>", "special_tokens": [("</s>", 2)]}
    processor.tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(**end)
    texts = ["a red apple", "", "the blue fire engine is a blue fire engine"]
    theirs = processor.tokenizer(
        texts, padding=True, padding_side="right", truncation=True, max_length=6, return_tensors="pt"
    )
    ours = processor.text_tower(texts, 6)
    assert all(torch.equal(ours[name], theirs[name]) for name in ("input_ids", "attention_mask"))
    hostile = processor.text_tower("a <img_00001> <img>", 32).input_ids
    assert hostile.max() < TEXT_VOCAB_SIZE and hostile[0, -1] == 2
    # Stage I learns from captions of strangers with the same tokenizer.
    for padding, length in (("longest", ours.input_ids.shape[1]), ("max_length", 6)):
        collator = ImageTextCollator(tokenizer=processor.tokenizer, max_text_tokens=6, padding=padding)
        batch = collator([{"caption": text} for text in texts])
        assert batch["input_ids"].shape == (3, length)
        assert torch.equal(batch["input_ids"][:, : ours.input_ids.shape[1]], ours.input_ids)
    assert torch.equal(
        ImageTextCollator(tokenizer=processor.tokenizer)([{"caption": "a <img_00001> <img>"}])["input_ids"], hostile
    )
    processor.tokenizer.decode(hostile[0])


SPECIAL, UNIT = ["<s>", "<pad>", "</s>", "<unk>"], list("abcdefghijklmnopqrstuvwxyz<>/ ")


def model_of_words(kind: str) -> Tokenizer:
    """A tokenizer whose model has the special tokens among its words, as sentencepiece's are converted."""
    numbers = {word: id for id, word in enumerate([*SPECIAL, "\u2581red", "red", "\u2581", *UNIT])}
    if kind == "unigram":
        tokenizer = Tokenizer(models.Unigram([(word, 0.0 if id < 4 else -3.0) for word, id in numbers.items()], 3))
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    elif kind == "whole words":
        tokenizer = Tokenizer(models.WordLevel(numbers, unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    elif kind == "word pieces":
        tokenizer = Tokenizer(models.WordPiece(numbers, unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    else:
        tokenizer = Tokenizer(models.BPE(numbers, [("\u2581", "red")], ignore_merges=True))
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer


@pytest.mark.parametrize("kind", ["unigram", "whole words", "word pieces", "BPE that looks words up"])
def test_special_tokens_among_the_words_are_text_too(kind):
    names = dict(zip(("bos_token", "pad_token", "eos_token", "unk_token"), SPECIAL))
    plain = PreTrainedTokenizerFast(tokenizer_object=model_of_words(kind), **names)
    processor = SeedProcessor(
        SeedImageProcessor(size={"height": 28, "width": 28}), extend_text_tokenizer(plain, CODEBOOK_SIZE)
    )
    for text in ("<s>", "</s> <pad>", "red </s> red", "a </s>", "</s></s>"):
        assert not {0, 1, 2} & {*processor(text)["input_ids"][0].tolist()[1:]}, text
    for text in ("red", "red red", "a red"):
        assert processor(text)["input_ids"][0].tolist() == [0, *plain(text, add_special_tokens=False).input_ids]


def test_words_of_the_plain_tokenizer_keep_their_ids():
    words = tiny_text_tokenizer().get_vocab()
    encoder = SequenceEncoder(tiny_processor().tokenizer, CONFIG)
    assert set(encoder.encode.vocabulary().values()) == set(range(TEXT_VOCAB_SIZE)) == set(words.values())
    again = pickle.loads(pickle.dumps(copy.deepcopy(encoder)))
    assert again.ids(["a red apple"]) == encoder.ids(["a red apple"])
