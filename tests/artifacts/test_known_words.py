"""What a small model knows is told before it draws or answers, and a guess is called one."""

import json
import sys

import pytest
from PIL import Image

from command_line import refused, run
from seed_hf.artifacts.known_words import KNOWN_WORDS, KnownWords, read_known_words
from seed_hf.inference import encode_images
from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer
from seed_hf.texts import answer, describe, generate_texts, likely_texts
from tiny_diffusion import tiny_model_and_processor, tiny_pipeline


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("known")
    model, processor = tiny_model_and_processor()
    tiny_pipeline(model, processor=processor).save_pretrained(path)
    known = KnownWords.of(["fire engine", "apple"], ["a red apple", "two fire engines", "What is it?"], sure=1.0)
    known.save(path / "processor")  # the one place of a pipeline, also where only its model is read
    return path


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A pipeline without a list of words."""
    path = tmp_path_factory.mktemp("plain")
    model, processor = tiny_model_and_processor()
    tiny_pipeline(model, processor=processor).save_pretrained(path)
    return path


def test_words_and_things_come_back(folder):
    known = read_known_words(folder, "pipeline")
    assert known == read_known_words(folder, "model") and known.things == ("apple", "fire engine")
    assert known.unknown("Two RED apples, a dragon and a red-ish dragon") == ["apples", "dragon", "and", "red-ish"]
    assert known.note("A red apple!") is None
    assert known.note("a dragon") == "This model knows 2 things and 9 words; 'dragon' is not one of them."


def test_a_model_without_the_file_is_asked_nothing(plain):
    assert read_known_words(plain, "pipeline") is None
    refused("words", "--model", plain, words="no list of the words")


@pytest.mark.parametrize(
    "content", ['{"things": ["a"], "words": "a"}', '{"words": [1], "things": [], "sure": 0.5}', "[]"]
)
def test_a_damaged_list_is_named(plain, content):
    path = plain / "processor" / KNOWN_WORDS
    path.write_text(content)
    with pytest.raises(ValueError, match=KNOWN_WORDS):
        read_known_words(plain, "model")
    path.unlink()


def test_unknown_words_are_warned_of(folder, tmp_path):
    image = tmp_path / "red.png"
    Image.new("RGB", (30, 30), "red").save(image)
    drawn = run("draw", "a red dragon", "-o", tmp_path / "a.png", "--steps", 1, "--model", folder)
    assert drawn[0] == 0 and "'dragon' is not one of them" in drawn[2] and "seed-hf words --model" in drawn[2]
    assert (
        run("draw", "a red apple", "-o", tmp_path / "a.png", "--steps", 1, "--model", folder)[2].find("seed-hf:") < 0
    )
    assert "'dragon'" in run("ask", image, "Is it a dragon?", "--model", folder)[2]
    status, out, _ = run("words", "--json", "--model", folder)
    assert status == 0 and json.loads(out)["things"] == ["apple", "fire engine"]


def test_a_guess_is_called_one(folder, tmp_path):
    image = tmp_path / "red.png"
    Image.new("RGB", (30, 30), "red").save(image)
    status, out, _ = run("see", image, "--model", folder)  # nothing is as sure as 1
    assert status == 0 and "not sure: " in out and "%)" in out
    answer = json.loads(run("see", image, "--json", "--model", folder)[1])
    assert len(answer["likely"]) == 3 and "not sure" not in answer["caption"]


def test_an_image_is_encoded_once_whatever_is_said_of_it(folder, tmp_path, monkeypatch):
    """And nothing of diffusers is imported for it."""
    image = tmp_path / "red.png"
    Image.new("RGB", (30, 30), "red").save(image)
    expected = json.loads(run("see", image, "--json", "--model", folder)[1])
    counts, encode = [], SeedTokenizer.encode
    monkeypatch.setattr(SeedTokenizer, "encode", lambda self, *args, **k: counts.append(1) or encode(self, *args, **k))
    monkeypatch.setitem(sys.modules, "diffusers", None)  # an import of it fails
    status, out, _ = run("see", image, image, "--json", "--model", folder)
    assert status == 0 and len(counts) == 2
    assert [json.loads(line) for line in out.splitlines()] == [expected] * 2


def test_codes_say_what_their_images_say():
    model, processor = tiny_model_and_processor()
    images = [Image.new("RGB", (30, 30), colour) for colour in ("red", "blue")]
    codes = encode_images(model.visual_tokenizer, processor.image_processor, images)
    assert generate_texts(model, processor, processor.caption(codes=codes)) == describe(model, processor, images)
    asked = processor.ask(codes=codes, questions=["What is it?", "Is it a red apple?"])
    by_image = answer(model, processor, images, ["What is it?", "Is it a red apple?"])
    assert generate_texts(model, processor, asked) == by_image
    rows = likely_texts(model, processor, processor.caption(codes=codes))
    alone = [likely_texts(model, processor, processor.caption([image]))[0] for image in images]
    assert [[one.text for one in row] for row in rows] == [[one.text for one in row] for row in alone]
    for call in (processor.caption, lambda **k: processor.ask(questions="?", **k)):
        with pytest.raises(ValueError, match="either images or codes"):
            call(images=images, codes=codes)
        with pytest.raises(ValueError, match="either images or codes"):
            call()


def test_likely_texts_are_those_of_the_model(folder):
    model, processor = tiny_model_and_processor()
    image = Image.new("RGB", (30, 30), "red")
    inputs = processor.caption([image])
    likely = likely_texts(model, processor, inputs, num_beams=16)[0]
    probabilities = [one.probability for one in likely]
    assert probabilities == sorted(probabilities, reverse=True) and 0 < sum(probabilities) <= 1
    # A search as wide as this finds a text at least as likely as the greedy one.
    greedy = generate_texts(model, processor, inputs)[0]
    assert likely[0].probability >= dict((one.text, one.probability) for one in likely).get(greedy, 0.0)


def test_several_images_have_codes_of_their_own(folder, tmp_path):
    run("draw", "a red apple", "-o", tmp_path / "many.png", "-n", 2, "--steps", 2, "--seed", 5, "--model", folder)
    run("draw", "a red apple", "-o", tmp_path / "one.png", "--steps", 2, "--seed", 6, "--model", folder)
    assert (tmp_path / "many-2.png").read_bytes() != (tmp_path / "one.png").read_bytes()
