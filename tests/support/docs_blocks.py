"""The code blocks of the documentation, and the markers above them.

A page is a Markdown file. A `bash` or `python` block runs in the test suite (`docs_pages.py`), unless the line above
hands it to continuous integration (`docs_in_ci.py`):

    <!-- in CI: the reason -->                          as it stands
    <!-- in CI: the reason; with A => B; C => D -->     made small: each A in the block is replaced by its B
    <!-- in CI: the reason; until URL answers -->       a server: waited for, and stopped at the end of the page
    <!-- in CI: .ci/run calls these -->                 `make` targets that `.ci/run` itself calls

`<!-- on a stand-in Hub -->` is for blocks that ask the Hub; see `docs_pages.py`. A `yaml` block begins with its name,
`# recipe.yaml`, and becomes that file. `text` is for what is only looked at.
"""

import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path


ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "RELEASE.md", "SECURITY.md")]
    + list((ROOT / "docs").rglob("*.md"))
    + list((ROOT / "examples").glob("*/README.md"))
)
CALLED = ".ci/run calls these"
_FENCE = re.compile(r"^\s*```(\w*)\s*$")
_IN_CI = re.compile(r"<!-- in CI: (\S.*) -->")
_ON_HUB = re.compile(r"<!-- on a stand-in Hub(, without seed_hf)? -->")


class DocsError(AssertionError):
    """A block that is wrong; the message begins with page and line."""


@dataclass
class Block:
    """A fenced block.

    Attributes:
        page, line, language, text: Where it is, and what.
        reason: Why the test suite does not run it; `None` if it does.
        swaps: What makes it small: (old, new), one after the other.
        url: What answers as soon as the server runs that it starts; `None` if it ends by itself.
        hub: Whether it runs on a stand-in Hub; `installed` is `False` if it cannot import the package there.
    """

    page: str
    line: int
    language: str
    text: str = ""
    reason: str | None = None
    swaps: list[tuple[str, str]] = field(default_factory=list)
    url: str | None = None
    hub: bool = False
    installed: bool = True

    def wrong(self, message: str) -> DocsError:
        return DocsError(f"{self.page}:{self.line}: {message}")

    def small(self) -> str:
        """The text with what the marker replaces."""
        text = self.text
        for old, new in self.swaps:
            if old not in text:
                raise self.wrong(f"the marker replaces {old!r}, which is not there.")
            text = text.replace(old, new)
        return text


def read_blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page in their order."""
    name = str(page.relative_to(ROOT)) if page.is_relative_to(ROOT) else page.name
    blocks, opened, before = [], None, ""
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        fence = _FENCE.match(line)
        if opened is None and line.lstrip().startswith("```"):
            opened = Block(name, number, fence[1] if fence else line)
            _read_marker(opened, before)
        elif opened is not None and fence and not fence[1]:
            blocks.append(opened)
            opened = None
        elif opened is not None:
            opened.text += line + "\n"
        before = line if line.strip() else before
    if opened is not None:
        raise opened.wrong("this block is never closed.")
    return blocks


def _read_marker(block: Block, line: str) -> None:
    if on_hub := _ON_HUB.search(line):
        block.hub, block.installed = True, on_hub[1] is None
    if in_ci := _IN_CI.search(line):
        block.reason, *parts = in_ci[1].split("; ")
        for part in parts:
            if until := re.fullmatch(r"until (\S+) answers", part):
                block.url = until[1]
            elif swap := re.fullmatch(r"(?:with )?(.+) => (.*)", part):
                block.swaps.append((swap[1], swap[2]))
            else:
                raise block.wrong(f"{part!r} of the marker is neither `with A => B` nor `until URL answers`.")


def commands(text: str) -> list[list[str]]:
    """The commands of a bash block as lists of words, without comments."""
    lines = text.replace("\\\n", " ").splitlines()
    split = [shlex.split(line, comments=True) for line in lines]
    return [part for words in split for part in _parts(words)]


def _parts(words: list[str]) -> list[list[str]]:
    """`a && b` is two commands; settings of the environment before a command are left out."""
    parts = [[]]
    for word in words:
        if word == "&&":
            parts.append([])
        elif parts[-1] or not re.match(r"[A-Z_]+=", word):
            parts[-1].append(word)
    return [part for part in parts if part]
