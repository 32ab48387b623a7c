"""Three hundred visitors of the Space, twelve at once, with large images: its memory is as before."""

import importlib.util
import io
import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image


_missing = [name for name in ("gradio", "playwright") if importlib.util.find_spec(name) is None]
if _missing:
    pytest.skip(f"The Space's tests need {' and '.join(_missing)}: pip install .[demo,dev]", allow_module_level=True)

import httpx  # noqa: E402
import psutil  # noqa: E402

from space_browser import running_space  # noqa: E402


pytestmark = pytest.mark.soak
VISITORS, AT_ONCE, GROWTH = 300, 12, 50e6  # bytes


def memory_of_the_space() -> int:
    (process,) = [child for child in psutil.Process().children() if "app.py" in " ".join(child.cmdline())]
    return process.memory_info().rss


def visit(address: str, functions: dict[str, int], number: int) -> None:
    """A visitor who looks at the page, shows a large image, draws and chats."""

    def ask(name, *data):
        event = {"data": data, "fn_index": functions[name], "session_hash": f"visitor{number}"}
        client.post("/queue/join", json=event).raise_for_status()
        with client.stream("GET", "/queue/data", params={"session_hash": f"visitor{number}"}) as lines:
            messages = (json.loads(line[5:]) for line in lines.iter_lines() if line.startswith("data:"))
            done = next(message for message in messages if message["msg"] == "process_completed")
            assert done["success"], done

    photo = io.BytesIO()
    Image.effect_noise((3000, 2000), 20 + number % 50).convert("RGB").save(photo, "JPEG", quality=50)
    with httpx.Client(base_url=f"{address}/gradio_api", timeout=1200, trust_env=False) as client:
        client.get(address).raise_for_status()
        path = client.post("/upload", files={"files": ("photo.jpg", photo.getvalue())}).json()[0]
        file = {"path": path, "meta": {"_type": "gradio.FileData"}}
        ask("see", file)
        ask("draw", "a red apple", 1, 2, number, False)
        ask("chat", {"text": "What is it?", "files": [file]}, "Words", None, None)


def test_three_hundred_visitors_leave_the_memory_as_it_was(tmp_path):
    with running_space(tmp_path) as address:
        config = httpx.get(f"{address}/config", trust_env=False).json()
        functions = {entry["api_name"]: entry["id"] for entry in config["dependencies"]}
        before = memory_of_the_space()
        with ThreadPoolExecutor(AT_ONCE) as visitors:
            list(visitors.map(lambda number: visit(address, functions, number), range(VISITORS)))
        assert memory_of_the_space() - before < GROWTH
