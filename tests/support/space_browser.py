"""The Space as a process of its own, and a headless Chromium to visit it with."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright


SPACE = Path(__file__).parents[2] / "spaces" / "see-and-draw"
CHROMIUM = shutil.which("chromium")
PATIENCE = 600  # seconds; starting takes less than ten on a quiet machine
WIDTHS = {"desktop": 1280, "phone": 390}
_SWITCHES = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
_SWITCHES += ["--disable-component-update", "--disable-sync"]


@contextmanager
def running_space(folder: Path, **variables: str) -> Iterator[str]:
    """The Space's address. What it writes lands in `folder`: `space.log` and Gradio's temporary files.

    `variables` are further ones of its environment.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {
        "GRADIO_SERVER_NAME": "127.0.0.1",
        "GRADIO_SERVER_PORT": str(port),
        "GRADIO_TEMP_DIR": str(folder / "uploads"),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "NO_PROXY": "127.0.0.1",
    }
    with open(folder / "space.log", "wb") as log:
        app = subprocess.Popen(
            [sys.executable, SPACE / "app.py"],
            env=os.environ | settings | variables,
            cwd=folder,
            stdout=log,
            stderr=log,
        )
    try:
        address = f"http://127.0.0.1:{port}"
        _wait(app, address, folder / "space.log")
        yield address
    finally:
        app.terminate()
        app.wait(PATIENCE)


def _wait(app: subprocess.Popen, address: str, log: Path) -> None:
    patience = time.monotonic() + PATIENCE
    while time.monotonic() < patience:
        assert app.poll() is None, f"The Space ended:\n{log.read_text()}"
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except urllib.error.URLError:
            time.sleep(0.2)
    raise AssertionError(f"The Space does not answer:\n{log.read_text()}")


@contextmanager
def running_chromium() -> Iterator[Browser]:
    """Debian's Chromium with a new, empty profile."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=_SWITCHES)
        yield browser
        browser.close()


def visit(browser: Browser, address: str, *, width: int = 1280, dark: bool = False) -> tuple[BrowserContext, Page]:
    """A visitor with a page that has loaded. The context belongs to the caller, who closes it."""
    context = browser.new_context(
        viewport={"width": width, "height": 844 if width < 600 else 900},
        color_scheme="dark" if dark else "light",
        has_touch=width < 600,
    )
    page = context.new_page()
    page.set_default_timeout(300_000)
    page.trouble = []  # what the tests look at: errors on the console, and requests to other hosts
    page.on("console", lambda message: message.type == "error" and page.trouble.append(message.text))
    page.on("pageerror", lambda error: page.trouble.append(str(error)))
    page.on("request", lambda request: _note_foreign(page, request.url, address))
    page.goto(address)
    page.locator("#see-codes li span").first.wait_for()
    return context, page


def _note_foreign(page: Page, url: str, address: str) -> None:
    if not url.startswith((address, "data:", "blob:", address.replace("http", "ws"))):
        page.trouble.append(f"asked for {url}")


def open_tab(page: Page, name: str) -> None:
    page.get_by_role("tab", name=name, exact=True).click()
    # Only the open tab is visible; its first line says that it is there.
    page.locator("[role=tabpanel]:visible").first.wait_for()
