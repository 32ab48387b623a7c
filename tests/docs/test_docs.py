"""Every code block of the documentation runs, here or in `make pages`; files and links that pages name are there."""

import re

import pytest

from docs_blocks import PAGES, ROOT, DocsError, read_blocks
from docs_pages import run_page
from seed_hf.modeling.modeling_seed_text import LANGUAGE_MODELS


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_code_of_the_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    families = dict(LANGUAGE_MODELS)  # a page adds one
    try:
        run_page(page, tmp_path)
    finally:
        LANGUAGE_MODELS.clear()
        LANGUAGE_MODELS.update(families)


def test_no_block_is_left_out():
    """What does not run here runs in `make pages`, which `.ci/run` calls; no marker is misspelt or misplaced."""
    assert "make pages" in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    for page in PAGES:
        markers = re.findall(r"^ *<!-- (?!starts with: |on a stand-in Hub).*", page.read_text(encoding="utf-8"), re.M)
        marked = [block for block in read_blocks(page) if block.reason is not None]
        assert len(markers) == len(marked), f"{page.name}: {markers}"


# The runner itself: each of these pages is wrong in one way.

WRONG = {
    "broken Python": ("```python\n1 / 0\n```", "page.md:1: ZeroDivisionError"),
    "no Python at all": ("<!-- in CI: no reason -->\n```python\nfor\n```", "page.md:2: SyntaxError"),
    "a name that is gone": ("<!-- in CI: x -->\n```python\nfrom seed_hf import Gone\n```", "seed_hf has no Gone"),
    "a command that fails": (
        "```bash\nseed-hf see nothing.png\n```",
        "page.md:1: seed-hf see nothing.png ends with 2",
    ),
    "no such option": ("```bash\nseed-hf see a.png --no-such\n```", "--no-such"),
    "marked, no such command": ("<!-- in CI: x -->\n```bash\nseed-hf gone\n```", "No such command"),
    "marked, no such option": ("<!-- in CI: x -->\n```bash\nseed-hf data pictograms --no\n```", "--no"),
    "marked, no such target": ("<!-- in CI: x -->\n```bash\nmake gone\n```", "no target gone"),
    "marked, no such extra": ("<!-- in CI: x -->\n```bash\npip install '.[gone]'\n```", "no extra 'gone'"),
    "marked, other pin": ("<!-- in CI: x -->\n```bash\npip install peft==0.0.1\n```", "not what constraints.txt"),
    "marked, no such file": ("<!-- in CI: x -->\n```bash\ncd examples/gone\n```", "has no examples/gone"),
    "marked, script's option": (
        "<!-- in CI: x -->\n```bash\npython examples/seed_tiny/recipe.py --gone\n```",
        "examples/seed_tiny/recipe.py --gone: ends with 2",
    ),
    "marked, recipe": (
        "```yaml\n# a.yaml\nmodel: {gone: 1}\n```\n<!-- in CI: x -->\n```bash\nseed-hf train lm --config a.yaml\n```",
        "model has unknown keys: gone",
    ),
    "marked, no recipe": (
        "<!-- in CI: x -->\n```bash\nseed-hf train lm --config a.yaml\n```",
        "neither a YAML block",
    ),
    "not ours, not marked": ("```bash\ngit clone x\n```", "git cannot run in a test. Mark the block"),
    "marked, nothing to replace": (
        "<!-- in CI: x; with gone => b -->\n```bash\nmake demo\n```",
        "replaces 'gone', which is not",
    ),
    "marked, replaced wrongly": ("<!-- in CI: x; with demo => gone -->\n```bash\nmake demo\n```", "no target gone"),
    "marked, unclear": (
        "<!-- in CI: x; until it answers soon -->\n```bash\nmake demo\n```",
        "is neither `with A => B`",
    ),
    "marked, .ci/run does not": (
        "<!-- in CI: .ci/run calls these -->\n```bash\nmake space\n```",
        "no line 'make space'",
    ),
    "unknown, marked": ("<!-- in CI: x -->\n```bash\nrm -rf x\n```", "rm: nobody has said"),
    "a marker without a reason": ("<!-- in CI: -->\n```bash\nmake demo\n```", "make cannot run in a test"),
    "a nameless recipe": ("```yaml\nmodel: {}\n```", "begins with the name of its file"),
    "no YAML": ("```yaml\n# a.yaml\nmodel: {\n```", "not valid YAML"),
    "an idle recipe": ("```yaml\n# a.yaml\nmodel: {}\n```", "no command of the page uses a.yaml"),
    "another language": ("```console\nls\n```", "language 'console'"),
    "no language": ("```\nls\n```", "language ''"),
    "on the Hub, broken": ("<!-- on a stand-in Hub -->\n```python\n1 / 0\n```", "ZeroDivisionError"),
    "on the Hub, no such command": ("<!-- on a stand-in Hub -->\n```bash\nls\n```", "only seed-hf and Python"),
    "on the Hub, blocked": (
        "<!-- on a stand-in Hub, without seed_hf -->\n```python\nimport seed_hf\n```",
        "import of seed_hf halted",
    ),
    "an open block": ("```bash\nls", "never closed"),
}


@pytest.mark.parametrize(("page", "words"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_block_fails(page, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "page.md").write_text(page)
    with pytest.raises(DocsError) as caught:
        run_page(tmp_path / "page.md", tmp_path)
    assert words in str(caught.value)


def test_blocks_of_a_page_share_a_namespace_and_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "page.md").write_text(
        "<!-- starts with: pictures/ -->\n```bash\nmkdir made   # a comment\n```\n"
        "```python\nfrom pathlib import Path\n"
        "there = Path('made').is_dir() and Path('pictures').is_dir()\n```\n```python\nassert there\n```\n"
    )
    run_page(tmp_path / "page.md", tmp_path)


# The website


def test_the_site_builds_and_asks_nothing_of_other_hosts(tmp_path):
    """A link that leads nowhere ends the build: `strict` in `mkdocs.yml`."""
    pytest.importorskip("mkdocstrings", reason="needs the extra `docs`")
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path)))
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        html = page.read_text(encoding="utf-8")
        assert not re.search(r"""<(script|img|iframe|link)\b[^>]*(src|href)=["']?(https?:)?//""", html), page.name
        assert "[<code>" not in html and "*optional*" not in html, f"{page.name}: marks of a docstring are left"
    for style in tmp_path.rglob("*.css"):
        assert not re.search(r"""(url\(|@import)\s*["']?(https?:)?//""", style.read_text(encoding="utf-8")), style.name


def test_the_picture_of_the_architecture_shows_the_codes_that_seed_tiny_says():
    """`python docs/_site/architecture.py` draws it again; needed when the weights change."""
    from PIL import Image

    from seed_hf import SeedProcessor, SeedTokenizer, bundled

    picture = Image.open(bundled("seed-tiny", "demo") / "scene-4.png").convert("RGB")
    pixels = SeedProcessor.from_pretrained(bundled("seed-tiny", "model"))(images=picture).pixel_values
    codes = SeedTokenizer.from_pretrained(bundled("seed-tiny", "tokenizer")).encode(pixels)[0].tolist()
    drawing = (ROOT / "docs" / "architecture.svg").read_text(encoding="utf-8")
    assert [int(code) for code in re.findall(r">(\d+)</text>", drawing)] == codes


# What pages say of the repository


def test_links_between_pages_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)\s]+)\)", _prose(page)):
            if re.match(r"[a-z]+:", target) or target.startswith("#"):
                continue
            assert (page.parent / target.partition("#")[0]).exists(), f"{page.name}: {target}"


def test_files_and_tests_that_pages_name_exist():
    tests = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    for page in PAGES:
        for name in re.findall(r"`([^`\n]+)`", _prose(page)):
            path = name.partition("::")[0]
            if re.match(r"(docs|examples|modeling|pipelines|seed_hf|tests|model_cards)/[\w./-]+$", path):
                assert (ROOT / path).exists(), f"{page.name}: {name}"
            if found := re.search(r"\btest_\w+$", name):
                where = (ROOT / path).read_text(encoding="utf-8") if "::" in name else tests
                there = f"def {found[0]}(" in where or any((ROOT / "tests").rglob(f"{found[0]}.py"))
                assert there, f"{page.name}: {name}"


def test_the_tree_of_the_readme_is_the_one_there_is():
    tree = next(block.text for block in read_blocks(ROOT / "README.md") if block.text.startswith("modeling/"))
    folder, shown = None, set()
    for line in tree.splitlines():
        entry = re.match(r"( *)(\S+(?: {1,2}\S+\.(?:py|txt))*)", line)
        if len(entry[1]) > 2:  # the explanation goes on, or more files of the same folder
            names = [name for name in line.split() if name.endswith(".py")]
        else:
            names = entry[2].split()
        for name in names:
            place = (folder if entry[1] else ROOT) / name.rstrip(",;")
            assert list(place.parent.glob(place.name)), f"{name} is not there"
            shown.add(place)
        if not entry[1] and entry[2].endswith("/"):
            folder = ROOT / entry[2]
    rooms = [path for path in (ROOT / "seed_hf").iterdir() if (path / "__init__.py").is_file() and path.name != "data"]
    top = [ROOT / name for name in ("docs", "tests", "modeling", "pipelines", "model_cards", "seed_hf")]
    assert {*rooms, *top} <= shown, "the tree of the README lacks a folder"


def _prose(page) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
