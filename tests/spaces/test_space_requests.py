"""Requests to the Space without its page: twenty visitors at once, limits, files of the server, addresses."""

import importlib.util
import json
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import version
from pathlib import Path
from threading import Thread

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

from space_browser import running_space  # noqa: E402


COLOURS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}


def test_twenty_visitors_at_once_are_all_served(address):
    def draw(number):
        try:
            images, *_ = Client(address, verbose=False).predict(
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


def test_what_is_no_number_gets_a_message(address):
    assert "The number of steps is nan" in call(address, "draw", "a cat", 1, float("nan"), 0, False)[1]


def test_the_same_seed_draws_the_same_image(address):
    def draw(seed):
        images, *_ = Client(address, verbose=False).predict("a red apple", 1, 4, seed, False, api_name="/draw")
        return Path(images[0]["image"]).read_bytes()

    assert draw(1) == draw(1) != draw(2)


def call(address: str, name: str, *data) -> tuple[str, str]:
    """What a client other than Gradio's own gets for whatever it sends: the last event's name and its content."""
    api = f"{address}/gradio_api/call/{name}"
    body, kind = json.dumps({"data": data}), {"Content-Type": "application/json"}  # NaN and half a character, too
    event = httpx.post(api, content=body, headers=kind).raise_for_status().json()["event_id"]
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
        ("ask", file, "What colour is it?"),
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
    image = PICTURES / "scene-4.png"
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
    client.predict(handle_file(PICTURES / "scene-4.png"), "what is my secret?", api_name="/ask")
    half = "my secret \ud800"
    for request in (("draw", half, 1, 4, 0, False), ("chat", {"text": half, "files": []}, "Words")):
        assert "half a character" in call(address, *request)[1]
    log = (folder / "space.log").read_text()
    assert "secret" not in log and "scene" not in log
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
