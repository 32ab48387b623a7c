"""Screenshots of each tab of the Space: `python tests/support/make_space_screenshots.py docs/space`."""

import argparse
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page

from space_browser import WIDTHS, open_tab, running_chromium, running_space, visit


TABS = ("See", "Draw", "Round trip", "Chat")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--address", help="of a Space that runs; by default one is started")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, running_chromium() as browser:
        if arguments.address:
            take_all(browser, arguments.address, arguments.out)
        else:
            with running_space(Path(folder)) as address:
                take_all(browser, address, arguments.out)


def take_all(browser, address: str, out: Path) -> None:
    for name, width in WIDTHS.items():
        for dark in (False, True):
            context, page = visit(browser, address, width=width, dark=dark)
            use(page)
            for tab in TABS:
                open_tab(page, tab)
                page.wait_for_timeout(700)
                file = out / f"{tab.lower().replace(' ', '_')}_{name}{'_dark' if dark else ''}.png"
                page.screenshot(path=file, full_page=True)
                # Few colours are enough for a page, and make a file a third as large.
                Image.open(file).convert("RGB").quantize(128, dither=Image.Dither.NONE).save(file, optimize=True)
            context.close()


def use(page: Page) -> None:
    """What a visitor does first on each tab."""
    page.locator("#see-question textarea").fill("What colour is it?")
    page.get_by_role("button", name="Ask", exact=True).click()
    page.wait_for_function("document.querySelector('#see-answer textarea')?.value")
    open_tab(page, "Draw")
    page.locator("#draw-number input[type=number]").fill("4")
    page.get_by_role("button", name="Draw", exact=True).click()
    page.get_by_text("seed 3").first.wait_for()
    open_tab(page, "Round trip")
    page.locator("#trip-codes button").nth(8).click()
    page.locator("#trip-codes button").nth(8).and_(page.locator("[aria-pressed=true]")).wait_for()
    page.locator("#trip-near label").nth(7).click()
    page.locator("#trip-codes .changed").wait_for()
    open_tab(page, "Chat")
    page.get_by_role("radio", name="An image").check()
    page.locator("#chat-message textarea").fill("a red apple")
    page.keyboard.press("Enter")
    page.locator("#chat img").first.wait_for()


if __name__ == "__main__":
    main()
