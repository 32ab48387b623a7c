"""What the website needs beyond the pages of `docs/`: pages that lie elsewhere in the repository, and names as links.

Links are written as they work in the repository; here they are turned to where the pages lie on the site.
"""

import re
from pathlib import Path

from mkdocs.structure.files import File


ROOT = Path(__file__).parents[2]
ELSEWHERE = (
    "SECURITY.md",
    "CONTRIBUTING.md",
    "RELEASE.md",
    "CHANGELOG.md",
    "examples/seed_tiny/README.md",
    "examples/seed_tiny/history.md",
    "examples/seed_opt_2.7b/README.md",
    "examples/seed_llama_8b/README.md",
    "examples/fine_tune/README.md",
    "examples/fine_tune/pictures.png",
    "examples/fine_tune/fine_tune.ipynb",
    "examples/experiments/README.md",
    "examples/other_suites/README.md",
    "examples/smollm2/README.md",
    "examples/smollm2/lm.yaml",
)
_LINK = re.compile(r"\]\((?![a-z]+:|#)([^)#\s]+)([^)\s]*)\)")
_TYPE = re.compile(r"<code>([^<]*(?:`|\*optional\*)[^<]*)</code>")
_MARKS = re.compile(r"[`*]|(?<=`)\]|\[(?=`)")
_NAME = re.compile(r"\[<code>([\w.]+)</code>\]")


def on_files(files, config):
    for name in ELSEWHERE:
        files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
    return files


def on_page_markdown(markdown, page, config, files):
    """`../SECURITY.md` in docs/, `docs/parity.md` in SECURITY.md: both mean a page of the site."""
    name = page.file.src_uri
    place = ROOT / name if name in ELSEWHERE else Path(config.docs_dir) / name

    def turned(link):
        target = (place.parent / link[1]).resolve()
        inside = target.is_relative_to(config.docs_dir)
        wanted = target.relative_to(config.docs_dir if inside else ROOT).as_posix()
        depth = name.count("/")
        return f"]({'../' * depth}{wanted}{link[2]})"

    return _LINK.sub(turned, markdown)


def on_page_content(html, page, config, files):
    """[`Name`] in a docstring, as transformers writes it, becomes a link where the reference has that name.

    The type of an argument (`int`, *optional*) comes as code, with its own marks in it; they are taken out.
    """
    html = _TYPE.sub(lambda found: "<code>" + _MARKS.sub("", found[1]) + "</code>", html)
    return _NAME.sub(_link, html)


def _link(name) -> str:
    known = NAMES.get(name[1].partition(".")[0])
    if known is None:
        return f"<code>{name[1]}</code>"
    rest = name[1].partition(".")[2]
    identifier = f"{known}.{rest}" if rest else known
    return f'<autoref optional identifier="{identifier}"><code>{name[1]}</code></autoref>'


def _names() -> dict[str, str]:
    """Every object of the reference by its short name."""
    pages = (ROOT / "docs" / "api").glob("*.md")
    found = [name for page in pages for name in re.findall(r"^::: (\S+)", page.read_text(), re.MULTILINE)]
    return {name.rpartition(".")[2]: name for name in found}


NAMES = _names()
