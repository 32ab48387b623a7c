"""The Space, driven in a real headless Chromium, and by twenty visitors at once."""

import importlib.util
import io
import re
import struct
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import version
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import yaml
from PIL import Image

from seed_hf.demo.see_and_draw import PICTURES


SPACE = Path(__file__).parents[2] / "spaces" / "see-and-draw"
_missing = [name for name in ("gradio", "playwright") if importlib.util.find_spec(name) is None]
if _missing:
    pytest.skip(f"The Space's tests need {' and '.join(_missing)}: pip install .[demo,dev]", allow_module_level=True)

import httpx  # noqa: E402
from gradio_client import Client, handle_file  # noqa: E402
from huggingface_hub import SpaceCard  # noqa: E402

from space_browser import CHROMIUM, open_tab, running_chromium, running_space, visit  # noqa: E402


browser_test = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="There is no chromium here: apt-get install chromium"),
]
COLOURS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("space")


@pytest.fixture(scope="module")
def address(folder):
    with running_space(folder) as address:
        yield address


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
def test_an_uploaded_image_gets_codes_and_a_caption(visitor):
    before = visitor.locator("#see-caption textarea").input_value()
    assert before  # the page opens with an example
    upload(visitor, "#see-image", PICTURES / "noto_1F352.png")
    wait_for_another(visitor, "#see-caption textarea", "value", before)
    cells = visitor.locator("#see-codes li span").all_inner_texts()
    assert len(cells) == 32 and cells[0] == "27"
    visitor.locator("#see-question textarea").fill("What is its main colour?")
    visitor.get_by_role("button", name="Ask", exact=True).click()
    wait_for_another(visitor, "#see-answer textarea", "value", "")
    assert visitor.locator("#see-answer textarea").input_value() == "red"


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
        ("cut_off.png", (PICTURES / "noto_1F352.png").read_bytes()[:900], "damaged or cut off"),
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
    visitor.locator("#draw-prompt textarea").fill("a blue hamburger")
    visitor.locator("#draw-number input[type=number]").fill("2")
    visitor.get_by_role("button", name="Draw", exact=True).click()
    visitor.locator("#draw-gallery").get_by_text("seed 1").wait_for()
    first, second = (pixels(visitor, f"#draw-gallery .grid-wrap img >> nth={number}") for number in (0, 1))
    assert first.shape == second.shape == (64, 64, 3)
    assert first.std() > 20 and second.std() > 20  # not blank
    assert np.abs(first - second).mean() > 1
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
    assert np.abs(pixels(visitor, image) - before).mean() > 1
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
def test_a_conversation_has_words_and_images_both_ways(visitor):
    open_tab(visitor, "Chat")
    visitor.locator("#chat-message input[type=file]").set_input_files(PICTURES / "noto_1F352.png")
    visitor.locator("#chat-message").get_by_label("Remove").first.wait_for()
    visitor.locator("#chat-message textarea").fill("What is its main colour?")
    visitor.keyboard.press("Enter")
    visitor.locator("#chat [data-testid=bot]", has_text="red").wait_for()
    visitor.get_by_role("radio", name="An image").check()
    visitor.locator("#chat-message textarea").fill("a red apple")
    visitor.keyboard.press("Enter")
    drawing = "#chat [data-testid=bot] img"
    visitor.locator(drawing).wait_for()
    assert pixels(visitor, drawing).std() > 20
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
    assert (
        "very small" in about and "64 x 64" in about and "not\nphotographs" in about.replace("not photo", "not\nphoto")
    )


# Without a browser


def test_twenty_visitors_at_once_are_all_served(address):
    def draw(number):
        try:
            images, codes = Client(address, verbose=False).predict(
                f"a red apple {number}", 1, 4, number, False, api_name="/draw"
            )
            return len(images)
        except Exception as error:
            return str(error)

    with ThreadPoolExecutor(20) as visitors:
        assert list(visitors.map(draw, range(20))) == [1] * 20


def test_a_full_queue_says_so(address):
    client = Client(address, verbose=False)
    jobs = [client.submit("a cat face", 1, 4, 0, False, api_name="/draw") for _ in range(40)]
    messages = []
    for job in jobs:
        try:
            job.result()
        except Exception as error:
            messages.append(str(error))
    assert len(messages) >= 1 and all("ueue is full" in message for message in messages)


@pytest.mark.parametrize(
    "settings, message",
    [
        (("x" * 201, 1, 4, 0, False), "at most 200"),
        (("  ", 1, 4, 0, False), "empty"),
        (("a cat", 5, 4, 0, False), "maximum"),
        (("a cat", 1, 1000, 0, False), "maximum"),
        (("a cat", 1, 4, -1, False), "minimum"),
    ],
)
def test_limits_hold_without_the_page_too(address, settings, message):
    with pytest.raises(Exception, match=message):
        Client(address, verbose=False).predict(*settings, api_name="/draw")


def test_the_same_seed_draws_the_same_image(address):
    def draw(seed):
        images, _ = Client(address, verbose=False).predict("a red apple", 1, 4, seed, False, api_name="/draw")
        return Path(images[0]["image"]).read_bytes()

    assert draw(1) == draw(1) != draw(2)


def call(address: str, name: str, *data) -> tuple[str, str]:
    """What a client other than Gradio's own gets for whatever it sends: the last event's name and its content."""
    api = f"{address}/gradio_api/call/{name}"
    event = httpx.post(api, json={"data": data}).raise_for_status().json()["event_id"]
    lines = httpx.get(f"{api}/{event}", timeout=600).raise_for_status().text.strip().splitlines()
    return lines[-2].removeprefix("event: "), lines[-1].removeprefix("data: ")


def marked(path) -> dict:
    return {"path": str(path), "meta": {"_type": "gradio.FileData"}}


def files_in(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


def ways_in(file: dict) -> list[tuple]:
    """Every endpoint that takes a file, and one that takes none but is sent one."""
    return [
        ("see", file),
        ("ask", file, "What is its main colour?"),
        ("round_trip", file, 4, 0),
        ("chat", {"text": "What is it?", "files": [file]}, "Words"),
        ("draw", file, 1, 4, 0, False),
    ]


@pytest.fixture
def private(folder):
    """An image of the server that no visitor has uploaded."""
    path = folder / "private.png"
    Image.effect_noise((40, 40), 90).save(path)
    return path


def test_only_what_was_uploaded_can_be_named(address, folder, private):
    uploads = folder / "uploads"
    link = uploads / "link.png"
    link.symlink_to(private)
    foreign = [private, uploads / ".." / private.name, link, folder / "space.log", folder, uploads, "/etc/passwd"]
    missing = [folder / "missing.png", uploads / "missing.png", "missing.png", "a\0.png", "x" * 5000]
    answers = set()
    for path in [*foreign, *missing]:
        answers |= {call(address, *way) for way in ways_in(marked(path))}
        answers |= {call(address, *way) for way in ways_in({"path": str(path)})[:3]}  # other fields demand the mark
    link.unlink()
    (event, content), *others = answers
    assert event == "error" and "The image is gone" in content and not others
    assert private.read_bytes() not in [path.read_bytes() for path in files_in(uploads)]


@pytest.mark.parametrize("path", ["private", "missing"])
def test_a_file_without_its_mark_is_no_file_of_a_message(address, private, path):
    file = {"path": str(private.with_stem(path))}
    event, content = call(address, "chat", {"text": "What is it?", "files": [file]}, "Words")
    assert event == "error" and content == '{"error": null}'  # whether it is there or not


def test_a_history_that_a_client_sends_is_not_looked_at(address, folder, private):
    def history(path):
        image = {"component": "image", "value": marked(path), "constructor_args": {}, "props": {}}
        return [
            {"role": "user", "content": [{"type": "file", "file": marked(path)}]},
            {"role": "assistant", "content": [{"type": "component", **image}]},
            {"role": "assistant", "content": [{"type": "component", **image, "value": {"path": str(path)}}]},
        ]

    message = {"text": "a red apple", "files": []}
    answers = [call(address, "chat", message, "Words", *sent) for sent in ([], [None, history(private)])]
    for path in (private, "missing.png"):
        answers.append(call(address, "chat", message, "Words", history(path), history(path)))
    assert answers[0][0] == "complete" and answers == answers[:1] * 4
    assert private.read_bytes() not in [path.read_bytes() for path in files_in(folder / "uploads")]


def test_uploads_and_examples_can_be_named(address, folder):
    image = PICTURES / "noto_1F352.png"
    with open(image, "rb") as content:
        uploaded = httpx.post(f"{address}/gradio_api/upload", files={"files": content}).json()[0]
    example = next(path for path in files_in(folder / "uploads") if path.name == image.name)
    for way in ways_in(marked(uploaded))[:-1] + ways_in(marked(example))[:-1] + ways_in({"path": uploaded})[:3]:
        assert call(address, *way)[0] == "complete"


def test_no_address_is_fetched(address):
    requests = []

    class Host(BaseHTTPRequestHandler):
        def do_GET(self):
            requests.append(self.path)
            self.send_error(404)

        do_HEAD = do_GET

    with HTTPServer(("127.0.0.1", 0), Host) as host:
        thread = Thread(target=host.serve_forever)
        thread.start()
        try:
            url = f"http://127.0.0.1:{host.server_port}/a.png"
            httpx.get(url)
            assert requests == ["/a.png"]  # it counts
            # Gradio refuses private addresses by itself, without a message: the message tells that it is not asked.
            for way in ways_in(marked(url)) + ways_in(marked("https://huggingface.co/front/assets/logo.png")):
                event, content = call(address, *way)
                assert event == "error" and "Addresses are not fetched" in content
            for way in ways_in({"path": url})[:3]:
                assert "The image is gone" in call(address, *way)[1]
            answer = httpx.get(f"{address}/gradio_api/file={url}")
            assert answer.status_code == 403 and "Addresses are not fetched" in answer.text
        finally:
            host.shutdown()
            thread.join()
    assert requests == ["/a.png"]


def test_files_of_visitors_are_swept(tmp_path):
    uploads = tmp_path / "uploads"

    def visit_with(*request):
        before = files_in(uploads)
        client.predict(*request[1:], api_name=f"/{request[0]}")
        return files_in(uploads) - before

    with running_space(tmp_path, SEED_SPACE_KEPT="5") as address:
        kept = files_in(uploads)  # the examples
        assert len([path for path in kept if path.suffix == ".png"]) >= 8
        client = Client(address, verbose=False)
        image = tmp_path / "mine.png"
        Image.effect_noise((64, 64), 90).save(image)
        assert visit_with("see", handle_file(image))
        assert visit_with("draw", "a red apple", 1, 4, 7, False)
        assert visit_with("chat", {"text": "a red pear", "files": []}, "An image")
        # Gradio stops deleting at what cannot be deleted, and deletes an example that goes by another name.
        example = next(path for path in kept if path.suffix == ".png")
        for path in (
            example.parent,
            uploads / ("x" * 300),
            example.parent / ".." / example.parent.name / example.name,
        ):
            call(address, "draw", marked(path), 1, 4, 0, False)
        deadline = time.monotonic() + 600
        while files_in(uploads) - kept and time.monotonic() < deadline:
            time.sleep(0.2)
        assert files_in(uploads) == kept
        # It has not stopped, and the examples outlive it.
        assert visit_with("see", handle_file(image))
        while files_in(uploads) - kept and time.monotonic() < deadline:
            time.sleep(0.2)
        assert files_in(uploads) == kept
        assert call(address, "see", marked(example))[0] == "complete"


def test_nothing_of_visitors_is_logged(address, folder):
    client = Client(address, verbose=False)
    client.predict(handle_file(PICTURES / "noto_1F352.png"), "what is my secret?", api_name="/ask")
    log = (folder / "space.log").read_text()
    assert "secret" not in log and "noto" not in log
    assert httpx.get(f"{address}/gradio_api/runs").status_code == 404 and not client.config["analytics_enabled"]


def test_the_folder_can_be_pushed_as_it_is():
    card = SpaceCard.load(SPACE / "README.md").data.to_dict()
    assert card["sdk"] == "gradio" and card["sdk_version"] == version("gradio")
    assert (SPACE / card["app_file"]).is_file() and len(card["title"]) <= 30
    assert {card["colorFrom"], card["colorTo"]} <= COLOURS
    assert len(card["short_description"]) <= 60 and card["license"] == "apache-2.0"
    assert card["python_version"] in ("3.11", "3.12")
    wanted = [line for line in (SPACE / "requirements.txt").read_text().splitlines() if line and line[0] != "#"]
    assert wanted == ["seed_hf"]
    pins = Path(__file__).parents[2].joinpath("constraints.txt").read_text()
    assert f"gradio=={card['sdk_version']}\n" in pins
    assert yaml.safe_load((SPACE / "README.md").read_text().split("---")[1])["tags"]
