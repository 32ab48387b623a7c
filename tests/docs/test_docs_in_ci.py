"""`make pages`: what fails, what is printed, and that nothing goes on running. On made-up pages, without a network."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import docs_in_ci
from docs_blocks import ROOT, DocsError
from docs_in_ci import copy_repository, main, pages_for_ci, run_page, scratch_environment


SERVER = "until {url} answers -->\n```bash\npython -m http.server --bind 127.0.0.1 {port} & echo $! > pid; wait\n```\n"


@pytest.fixture
def url():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/"


def run(folder: Path, text: str, **options) -> None:
    (folder / "page.md").write_text(text)
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    run_page(folder / "page.md", folder, environment, **options)


def server(url: str, marker: str = "<!-- in CI: x; ") -> str:
    return marker + SERVER.format(url=url, port=url.rstrip("/").rpartition(":")[2])


def is_running(pid: int) -> bool:
    """Whether the process does anything still; one that has ended may wait for its parent to notice."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_page_runs_in_its_order_and_tells_of_each_block(tmp_path, capsys):
    run(
        tmp_path,
        "<!-- starts with: pictures/ clone -->\n```yaml\n# a.yaml\nx: 1\n```\n```text\nnot this\n```\n"
        "<!-- in CI: x; with SMALL => 1; large => small -->\n```bash\ncp a.yaml b.yaml\necho SMALL > large\n```\n"
        "<!-- in CI: .ci/run calls these -->\n```bash\nmake no-such-target\n```\n"
        "```python\nx = open('small').read()\n```\n```python\nassert x == '1\\n'\nprint('not shown')\n```\n",
    )
    assert {"b.yaml", "small", "pictures"} <= set(os.listdir(tmp_path)) and not (tmp_path / "docs").exists()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["page.md:10", "page.md:18", "page.md:21"]


WRONG = {
    "bash": ("```bash\necho before\nfalse\necho after\n```", "page.md:1: ends with 1:\nbefore\n"),
    "a pipe": ("```bash\nfalse | cat\n```", "page.md:1: ends with 1"),
    "a variable that is not set": ("```bash\necho $gone\n```", "unbound variable"),
    "Python": ("```python\nprint('before')\n1 / 0\n```", "ZeroDivisionError: division by zero\nbefore\nTraceback"),
    "nothing to replace": ("<!-- in CI: x; with gone => b -->\n```bash\ntrue\n```", "replaces 'gone'"),
    "too slow": ("```bash\necho before\nsleep 60\n```", "is still running after 1 s:\nbefore"),
}


@pytest.mark.parametrize(("page", "words"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_block_fails_with_its_output(page, words, tmp_path):
    with pytest.raises(DocsError) as caught:
        run(tmp_path, page, limit=1 if "sleep" in page else 60)
    assert words in str(caught.value) and "\nafter" not in str(caught.value)


def test_a_server_answers_until_the_end_of_the_page(tmp_path, url):
    asks = f"```python\nfrom urllib.request import urlopen\nassert urlopen({url!r}).status == 200\n```\n"
    run(tmp_path, server(url) + asks)
    assert not docs_in_ci._answers(url) and not is_running(int((tmp_path / "pid").read_text()))


def test_a_server_is_stopped_where_the_page_fails(tmp_path, url):
    with pytest.raises(DocsError, match="page.md:5: ends with 1"):
        run(tmp_path, server(url) + "```bash\nfalse\n```\n")
    assert not is_running(int((tmp_path / "pid").read_text()))


def test_servers_that_do_not_answer(tmp_path, url):
    with pytest.raises(DocsError, match="page.md:2: ends with 3 before http.* answers:\nno room"):
        run(tmp_path, f"<!-- in CI: x; until {url} answers -->\n```bash\necho no room; exit 3\n```\n")
    with pytest.raises(DocsError, match="does not answer within 1 s"):
        run(tmp_path, f"<!-- in CI: x; until {url} answers -->\n```bash\nsleep 60\n```\n", limit=1)
    with pytest.raises(DocsError, match="page.md:6: something else answers"):
        run(tmp_path, server(url) * 2)


def test_nothing_goes_on_running_that_a_block_left_behind(tmp_path):
    begin = time.monotonic()
    run(tmp_path, "```bash\ntrap '' TERM\nsleep 600 & echo $! > pid\n```\n```bash\nsleep 600 & echo $! > pid2\n```\n")
    assert not any(is_running(int((tmp_path / name).read_text())) for name in ("pid", "pid2"))
    assert time.monotonic() - begin < 500  # it has not waited for them


# The whole


def test_the_program_names_what_failed_and_goes_on(tmp_path, monkeypatch, capsys):
    """In a copy of the repository, with an environment of which `python` and the console scripts come first."""
    (tmp_path / "bad.md").write_text("```bash\necho why; false\n```\n")
    (tmp_path / "good.md").write_text(
        "```bash\nls setup.py docs\npython -c 'import sys, torch, seed_hf; assert sys.prefix == sys.argv[1]' $VENV\n"
        "python -m pip --version\n```\n"
    )
    assert main([str(tmp_path / "bad.md"), str(tmp_path / "good.md")]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["FAILED bad.md:1: ends with 1:", "why"] and lines[-2].startswith("good.md:1  ")
    assert lines[-1].startswith("Failed: bad.md:1: ends with 1")
    assert main([str(tmp_path / "good.md")]) == 0


def test_the_scripts_of_the_scratch_environment_use_its_python(tmp_path):
    environment = scratch_environment(tmp_path / "venv")
    scripts = [path for path in (tmp_path / "venv" / "bin").iterdir() if path.name in ("torchrun", "seed-hf", "pip")]
    assert scripts
    for script in scripts:
        assert script.read_text().startswith(f"#!{tmp_path}/venv/bin/python") and os.access(script, os.X_OK)
    told = "import sysconfig, torch; print(sysconfig.get_path('purelib'), torch.__file__)"
    done = subprocess.run(["python", "-c", told], env=environment, capture_output=True, text=True, check=True)
    mine, torch = done.stdout.split()
    assert mine.startswith(str(tmp_path)) and not torch.startswith(str(tmp_path))


def test_the_copy_is_what_git_knows_as_it_is_now(tmp_path):
    copy_repository(tmp_path / "clone")
    for name in ("README.md", ".ci/run", "tests/support/docs_blocks.py"):
        assert (tmp_path / "clone" / name).read_bytes() == (ROOT / name).read_bytes()
    assert os.access(tmp_path / "clone" / ".ci" / "run", os.X_OK) and not (tmp_path / "clone" / ".git").exists()


def test_the_pages_are_those_with_marked_blocks():
    names = {str(page.relative_to(ROOT)) for page in pages_for_ci()}
    assert "README.md" in names and "docs/serving.md" in names and "docs/concepts.md" not in names
    assert "CONTRIBUTING.md" not in names  # all of it is called by `.ci/run`
