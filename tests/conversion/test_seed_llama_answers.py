"""Answers of SEED-LLaMA, cut apart: the parser loses nothing that the authors' demo server or scripts find."""

import json
import re

import pytest

from released_seed_llama import GOLDEN, LAYOUT
from seed_hf.conversion.llama_tokenizer import read_llama_tokenizer
from seed_hf.modeling.generation_seed import CodeSegment, Defect, TextSegment
from seed_hf.modeling.image_processing_seed import SeedImageProcessor
from seed_hf.modeling.processing_seed import SeedProcessor


RECORDED = json.loads((GOLDEN / "cut_out.json").read_text())
ANSWERS = RECORDED["sequences"]
GENERATED = json.loads((GOLDEN / "generated.json").read_text())
# The server takes the second <img> for the first </img>, which stands before it; the text inside codes it drops.
SERVER_LOSES_IMAGE, SERVER_LOSES_TEXT = {"end_before_begin"}, {"text_inside"}


@pytest.fixture(scope="module", params=["converted", "saved twice"])
def processor(request, tmp_path_factory):
    images = SeedImageProcessor(size={"height": 28, "width": 28})
    processor = SeedProcessor(images, read_llama_tokenizer(LAYOUT), prompt_format="vicuna")
    for number in range(2 if request.param == "saved twice" else 0):
        folder = tmp_path_factory.mktemp(f"saved{number}")
        processor.save_pretrained(folder)
        processor = SeedProcessor.from_pretrained(folder)
    return processor


def images_of(parts) -> list[list[int]]:
    return [part.codes for part in parts if isinstance(part, CodeSegment)]


def texts_of(parts) -> list[str]:
    return [part.text for part in parts if isinstance(part, TextSegment)]


def sound(processor, codes: list[int]) -> bool:
    size = processor.vocabulary.codebook_size
    return len(codes) == 32 and all(0 <= code < size for code in codes)


def words(text: str) -> str:
    """Text without white space, and without the names that the authors decode visual tokens to."""
    return re.sub(r"<image>|</?img>|<img_\d{5}>|</s>|\s", "", text)


@pytest.mark.parametrize("name", ANSWERS)
def test_the_parser_gives_all_that_the_authors_cut_out(processor, name):
    ids, script, server = (ANSWERS[name][key] for key in ("new_ids", "script", "flask"))
    (every,) = processor.post_process_multimodal_output([ids], skip_special_tokens=False)
    assert [token for part in every for token in part.ids] == ids  # in order, and each once
    (parts,) = processor.post_process_multimodal_output([ids])
    found = images_of(parts)
    # The scripts: the text before the first image, and that image; all text if there is none.
    cut = [call["codes"][0] for call in script["decoded"]]
    assert [codes for codes in cut if sound(processor, codes)] == found[: sum(sound(processor, c) for c in cut)]
    assert words("".join(texts_of(parts))).startswith(words(script["printed"]))
    # The server: every image whose marks it could pair, and all text.
    drawn = [codes for codes, image in zip(server["images_ids"], server["images"]) if image]
    assert drawn == found or name in SERVER_LOSES_IMAGE and not drawn and len(found) == 1
    said, theirs = words("".join(texts_of(every))), words(server["text"])
    assert said == theirs or name in SERVER_LOSES_TEXT and theirs in said
    assert any(isinstance(part, Defect) for part in parts) == (server["errors"] > 0 or name == "codes_alone")


def test_second_images_and_text_behind_them_are_there(processor):
    """What the scripts drop."""
    two = processor.post_process_multimodal_output([ANSWERS["two_images"]["new_ids"]])[0]
    assert [part.type for part in two] == ["text", "image", "text", "image"] and texts_of(two) == ["One.", "Two."]
    after = processor.post_process_multimodal_output([ANSWERS["text_image_text"]["new_ids"]])[0]
    assert texts_of(after) == ["First.", "Then more text."]
    lines = processor.post_process_multimodal_output([ANSWERS["newlines"]["new_ids"]])[0]
    assert texts_of(lines) == ["line one\nline two\n", "\nline three"]


@pytest.mark.parametrize("name", RECORDED["force_boi"])
def test_an_image_that_the_prompt_began(processor, name):
    recorded = RECORDED["force_boi"][name]
    prompt = processor("USER: x\nASSISTANT:", begin_image=True)["input_ids"][0].tolist()
    assert prompt == recorded["input_ids"]
    answer = ANSWERS[name]["new_ids"][1:]  # the given <img> counts as generated
    (parts,) = processor.post_process_multimodal_output([[*prompt, *answer][len(prompt) - 1 :]])
    drawn = [codes for codes, image in zip(recorded["images_ids"], recorded["images"]) if image]
    assert images_of(parts) == drawn


@pytest.mark.parametrize("name", RECORDED["demo_requests"])
def test_requests_of_the_demo(processor, name):
    """A request has all images of the chat, as codes; a response has them and those that were drawn."""
    request, response = (RECORDED["demo_requests"][name][key] for key in ("request", "response"))
    inputs = processor(request["text"], codes=list(request["images"]), begin_image=request["force_boi"])
    prompt = inputs["input_ids"][0].tolist()
    assert prompt == response["input_ids"]
    answer = ANSWERS["image_alone" if request["force_boi"] else "text_then_image"]["new_ids"]
    (parts,) = processor.post_process_multimodal_output([[*prompt, *answer[request["force_boi"] :]]])
    assert images_of(parts) == response["images_ids"]


@pytest.mark.parametrize(
    ("name", "ids", "drawn"),
    [
        ("pretrain_caption_to_image", "caption_new_ids", "codes"),
        ("pretrain_unconditional", "unconditional_new_ids", "negative"),
    ],
)
def test_images_of_the_evaluation_script(processor, name, ids, drawn):
    """`test_seed_llama.py` generates these outputs again; here they are cut out, with the <img> of the prompt."""
    output = GENERATED["outputs"][name]
    assert output["beam4_max120"][output["prompt_length"] :] == RECORDED["evaluation_script"][ids]
    codes = processor.post_process_multimodal_output([output["beam4_max120"]], generation_mode="image")[0]
    assert codes.tolist() == RECORDED["evaluation_script"]["drawn_with_negative"]["decoded"][0][drawn]


@pytest.mark.parametrize("name", GENERATED["cut_out_of_outputs"])
def test_outputs_of_the_model(processor, name):
    recorded = GENERATED["cut_out_of_outputs"][name]
    (parts,) = processor.post_process_multimodal_output([recorded["new_ids"]])
    cut = [call["codes"][0] for call in recorded["script"]["decoded"]]
    if recorded["script"]["raises"] is None:  # they want <img> among the new tokens, or no span at all
        assert images_of(parts)[: len(cut)] == cut
        assert words("".join(texts_of(parts))).startswith(words(recorded["script"]["printed"]))
