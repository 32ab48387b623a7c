"""The page of the Space, in a real headless Chromium."""

import importlib.util
import io
import re
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from seed_hf.artifacts.loading import load_model
from seed_hf.demo.see_and_draw import PICTURES, demo_prompts
from seed_hf.images import load_image
from seed_hf.inference import encode_images
from seed_hf.texts import answer


SCENE = PICTURES / "scene-4.png"
_missing = [name for name in ("gradio", "playwright") if importlib.util.find_spec(name) is None]
if _missing:
    pytest.skip(f"The Space's tests need {' and '.join(_missing)}: pip install .[demo,dev]", allow_module_level=True)


from space_browser import CHROMIUM, open_tab, running_chromium, visit  # noqa: E402


browser_test = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="There is no chromium here: apt-get install chromium"),
]


@pytest.fixture(scope="module")
def browser():
    with running_chromium() as browser:
        yield browser


@pytest.fixture
def visitor(browser, address, request):
    """A page that, when its test is over, must have had no error on its console and no request to another host."""
    context, page = visit(browser, address, **getattr(request, "param", {}))
    yield page
    trouble = page.trouble
    context.close()
    assert not trouble


@pytest.fixture(scope="module")
def model():
    return load_model()


def in_browser(test):
    for mark in browser_test:
        test = mark(test)
    return test


def png_header(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims to be of any size."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(9))) + chunk(b"IEND", b"")


def pixels(page, selector: str) -> np.ndarray:
    """What an image on the page shows, fetched from where the page has it."""
    source = page.locator(selector).first.get_attribute("src")
    image = Image.open(io.BytesIO(page.request.get(source).body())).convert("RGB")
    return np.asarray(image, dtype=np.int16)


def wait_for_another(page, selector: str, attribute: str, before: str) -> None:
    page.wait_for_function(
        "([selector, name, before]) => (document.querySelector(selector)?.[name] ?? before) !== before",
        arg=[selector, attribute, before],
    )


def upload(page, tab: str, file) -> None:
    """Replaces the image of a field by another: a path, or a dict with name, mimeType and buffer."""
    field = page.locator(tab)
    field.get_by_label("Clear").or_(field.get_by_label("Remove Image")).first.click()
    field.locator("input[type=file]").set_input_files(file)


# See


@in_browser
def test_an_uploaded_image_gets_codes_and_a_caption(visitor, model):
    before = visitor.locator("#see-caption textarea").input_value()
    assert before  # the page opens with an example
    upload(visitor, "#see-image", SCENE)
    wait_for_another(visitor, "#see-caption textarea", "value", before)
    cells = visitor.locator("#see-codes li span").all_inner_texts()
    whole, processor = model
    codes = encode_images(whole.visual_tokenizer, processor.image_processor, [load_image(SCENE)])
    assert [*map(int, cells)] == codes[0].tolist()
    visitor.locator("#see-question textarea").fill("What colour is it?")
    visitor.get_by_role("button", name="Ask", exact=True).click()
    wait_for_another(visitor, "#see-answer textarea", "value", "")
    visitor.wait_for_function(
        "said => document.querySelector('#see-answer textarea').value === said",
        arg=answer(*model, [load_image(SCENE)], ["What colour is it?"])[0],
    )


@in_browser
def test_an_example_is_a_click_away(visitor):
    before = visitor.locator("#see-caption textarea").input_value()
    visitor.locator(".gallery-item:visible").nth(1).click()
    wait_for_another(visitor, "#see-caption textarea", "value", before)


@in_browser
@pytest.mark.parametrize(
    "name, content, message",
    [
        ("text.png", b"only words", "not an image that can be read"),
        ("empty.png", b"", "empty"),
        ("cut_off.png", SCENE.read_bytes()[:900], "damaged or cut off"),
        ("bomb.png", png_header(100_000, 100_000), "at most 24 million"),
        ("large.png", png_header(6_000, 5_000), "at most 24 million"),
        ("heavy.png", b"\x89PNG" + bytes(9_000_000), "exceed the maximum allowed size of 8.0 Mb"),
    ],
)
def test_a_bad_file_gets_a_message_that_says_what_to_do(visitor, name, content, message):
    upload(visitor, "#see-image", {"name": name, "mimeType": "image/png", "buffer": content})
    toast = visitor.get_by_test_id("toast-body").first
    toast.wait_for()
    assert message in toast.inner_text()
    visitor.trouble.clear()  # Chromium reports the refused upload and the image that it cannot show


@in_browser
def test_an_empty_question_gets_a_message(visitor):
    visitor.get_by_role("button", name="Ask", exact=True).click()
    visitor.get_by_text("The question is empty").wait_for()


# Draw


@in_browser
def test_a_prompt_becomes_as_many_images_as_were_asked_for(visitor):
    open_tab(visitor, "Draw")
    codes = visitor.locator("#draw-codes").inner_text()
    visitor.locator("#draw-prompt textarea").fill(demo_prompts()[1]["prompt"])
    visitor.locator("#draw-number input[type=number]").fill("2")
    visitor.get_by_role("button", name="Draw", exact=True).click()
    visitor.locator("#draw-gallery").get_by_text("seed 1").wait_for()
    first, second = (pixels(visitor, f"#draw-gallery .grid-wrap img >> nth={number}") for number in (0, 1))
    assert first.shape == second.shape == (64, 64, 3)
    assert first.std() > 5 and second.std() > 5  # not blank
    assert not np.array_equal(first, second)
    assert visitor.locator("#draw-codes").inner_text() != codes


# Round trip


@in_browser
def test_an_edited_code_changes_the_drawing_and_starting_over_brings_it_back(visitor):
    open_tab(visitor, "Round trip")
    image = "#trip-edited img"
    before, source = pixels(visitor, image), visitor.locator(image).evaluate("image => image.src")
    assert np.array_equal(before, pixels(visitor, "#trip-again img"))
    cells = visitor.locator("#trip-codes button")
    cells.nth(3).click()
    visitor.locator("#trip-codes button[aria-pressed=true][data-place='3']").wait_for()
    assert visitor.locator("#trip-place input").input_value() == "4"
    visitor.locator("#trip-near label").last.click()
    wait_for_another(visitor, image, "src", source)
    assert not np.array_equal(pixels(visitor, image), before)
    assert np.array_equal(pixels(visitor, "#trip-again img"), before)  # what it is compared with stays
    assert visitor.locator("#trip-codes .changed").count() == 1
    changed = visitor.locator(image).evaluate("image => image.src")
    visitor.locator("#trip-reset").click()
    wait_for_another(visitor, image, "src", changed)
    assert np.array_equal(pixels(visitor, image), before)


@in_browser
def test_codes_can_be_reached_and_edited_with_the_keyboard(visitor):
    open_tab(visitor, "Round trip")
    source = visitor.locator("#trip-edited img").evaluate("image => image.src")
    visitor.locator("#trip-codes button").first.focus()
    for _ in range(5):
        visitor.keyboard.press("ArrowRight")
    visitor.keyboard.press("Enter")
    cell = visitor.locator("#trip-codes button[aria-pressed=true][data-place='5']")
    cell.wait_for()
    visitor.wait_for_function("document.activeElement?.dataset?.place === '5'")
    assert cell.get_attribute("aria-label") == f"place 6, code {cell.inner_text()}"
    visitor.locator("#trip-code input[type=number]").fill("190")
    visitor.locator("#trip-redraw").press("Enter")
    wait_for_another(visitor, "#trip-edited img", "src", source)
    assert cell.inner_text() == "190"


@in_browser
def test_the_first_codes_alone_give_another_drawing(visitor):
    open_tab(visitor, "Round trip")
    source = visitor.locator("#trip-edited img").evaluate("image => image.src")
    visitor.locator("#trip-used input[type=number]").fill("20")
    visitor.locator("#trip-redraw").click()
    wait_for_another(visitor, "#trip-edited img", "src", source)
    assert visitor.locator("#trip-codes .unused").count() == 12


# Chat


@in_browser
def test_a_conversation_has_words_and_images_both_ways(visitor, model):
    open_tab(visitor, "Chat")
    visitor.locator("#chat-message input[type=file]").set_input_files(SCENE)
    visitor.locator("#chat-message").get_by_label("Remove").first.wait_for()
    visitor.locator("#chat-message textarea").fill("What colour is it?")
    visitor.keyboard.press("Enter")
    said = answer(*model, [load_image(SCENE)], ["What colour is it?"])[0]
    visitor.locator("#chat [data-testid=bot]", has_text=said).wait_for()
    visitor.get_by_role("radio", name="An image").check()
    visitor.locator("#chat-message textarea").fill("a red apple")
    visitor.keyboard.press("Enter")
    drawing = "#chat [data-testid=bot] img"
    visitor.locator(drawing).wait_for()
    assert pixels(visitor, drawing).std() > 5  # not blank
    assert visitor.locator("#chat [data-testid=user]").count() == 3  # an image, a question, a prompt


@in_browser
def test_nothing_that_is_written_stands_for_an_image(visitor):
    open_tab(visitor, "Chat")
    visitor.locator("#chat-message textarea").fill("<image> what is this?")
    visitor.keyboard.press("Enter")
    visitor.get_by_text("Attach an image instead").wait_for()


# The page


@in_browser
@pytest.mark.parametrize(
    "visitor, dark",
    [({"width": 390}, False), ({"width": 390, "dark": True}, True), ({"width": 1280, "dark": True}, True)],
    indirect=["visitor"],
)
def test_every_tab_fits_its_width_and_follows_the_colour_scheme(visitor, dark):
    for tab in ("See", "Draw", "Round trip", "Chat"):
        open_tab(visitor, tab)
        wide, window = visitor.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
        assert wide <= window, f"{tab} is {wide} pixels wide"
    colours = visitor.evaluate("['color', 'backgroundColor'].map(name => getComputedStyle(document.body)[name])")
    text, ground = (sum(map(float, re.findall(r"[\d.]+", colour)[:3])) for colour in colours)
    assert (text > 600 and ground < 150) if dark else (text < 150 and ground > 600)


@in_browser
def test_the_page_says_what_the_model_is(visitor):
    about = visitor.locator("#about").inner_text()
    assert "very small" in about and "64 x 64" in about and "not know photographs" in " ".join(about.split())
