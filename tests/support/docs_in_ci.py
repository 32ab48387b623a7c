"""Runs the pages of the documentation that the test suite alone cannot run: `make pages`, a part of `.ci/run`.

These are the pages with blocks that are marked `<!-- in CI: ... -->` (`docs_blocks.py`), because they install
packages, start several processes or a server, or take long. All blocks of such a page run in their order, in a fresh
copy of the repository's files: Python in this process, `bash` as it stands and with a fresh virtual environment that
sees the packages of this one behind its own. What a page installs is really installed, and touches nothing else. It
needs a package registry.

    python tests/support/docs_in_ci.py [PAGE ...]      all such pages, or these
"""

import contextlib
import http.client
import io
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
import traceback
import urllib.request
import venv
from pathlib import Path

from docs_blocks import CALLED, PAGES, ROOT, Block, DocsError, read_blocks
from docs_pages import run_python, write_yaml
from docs_prepared import prepare
from seed_hf.threads import prepare_threads


LIMIT = 1800.0  # seconds that a block may take, or a server until it answers
SHOWN = 6000  # characters of a failed block's output
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # servers are on this machine


def main(pages: list[str]) -> int:
    prepare_threads()
    begin, failed = time.monotonic(), []
    for page in [Path(name).resolve() for name in pages] or pages_for_ci():
        with tempfile.TemporaryDirectory(prefix="docs-in-ci-") as scratch:
            copy_repository(Path(scratch, "clone"))
            environment = scratch_environment(Path(scratch, "venv"))
            try:
                run_page(page, Path(scratch, "clone"), environment)
            except DocsError as error:  # the other pages run all the same
                failed.append(str(error).splitlines()[0])
                print(f"FAILED {error}", flush=True)
    print(f"{'Failed: ' + ', '.join(failed) if failed else 'All pages ran'}, {time.monotonic() - begin:.0f} s")
    return 1 if failed else 0


def pages_for_ci() -> list[Path]:
    """The pages with blocks that only run here."""
    return [page for page in PAGES if any(block.reason not in (None, CALLED) for block in read_blocks(page))]


def run_page(page: Path, folder: Path, environment: dict[str, str], limit: float = LIMIT) -> None:
    """Run the blocks of a page in `folder`, with one line of output for each.

    Args:
        page: A Markdown file.
        folder: A copy of the repository, for the page alone.
        environment: Of the programs that its bash blocks start.
        limit: Seconds that a block may take.

    Raises:
        DocsError: A block failed. Those after it have not run. Whatever the page started is stopped.
    """
    with contextlib.redirect_stderr(io.StringIO()):  # progress bars
        prepare(page, folder, clone=True)
    namespace = {"__name__": "docs"}
    with contextlib.chdir(folder), contextlib.ExitStack() as servers:
        for block in read_blocks(page):
            begin = time.monotonic()
            if block.language == "yaml":
                write_yaml(block, folder)
                continue
            if block.language == "text" or block.hub or block.reason == CALLED:
                continue
            if block.language == "python":
                _python(block, namespace)
            elif block.url is None:
                with Program(block, environment) as program:
                    program.finish(limit)
            else:
                if _answers(block.url):
                    raise block.wrong(f"something else answers at {block.url} already.")
                servers.enter_context(Program(block, environment)).wait_for_answer(limit)
            print(f"{block.page}:{block.line}  {time.monotonic() - begin:.1f} s", flush=True)


def _python(block: Block, namespace: dict) -> None:
    output = io.StringIO()
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            run_python(block, namespace)
    except DocsError as error:
        told = "".join(traceback.format_exception(error.__cause__))
        raise DocsError(f"{error}\n{(output.getvalue() + told)[-SHOWN:]}") from error


class Program:
    """The bash of a block in a process group of its own, so that `with` stops whatever it starts."""

    def __init__(self, block: Block, environment: dict[str, str]):
        self.block = block
        self._output = tempfile.NamedTemporaryFile()  # a pipe would wait for all that holds its other end
        self._process = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", block.small()],
            env=environment, stdin=subprocess.DEVNULL, stdout=self._output, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip

    def __enter__(self):
        return self

    def finish(self, limit: float) -> None:
        try:
            status = self._process.wait(limit)
        except subprocess.TimeoutExpired:
            raise self._wrong(f"is still running after {limit:.0f} s") from None
        if status:
            raise self._wrong(f"ends with {status}")

    def wait_for_answer(self, limit: float) -> None:
        end = time.monotonic() + limit
        while not _answers(self.block.url):
            if self._process.poll() is not None:
                raise self._wrong(f"ends with {self._process.returncode} before {self.block.url} answers")
            if time.monotonic() > end:
                raise self._wrong(f"{self.block.url} does not answer within {limit:.0f} s")
            time.sleep(0.2)

    def _wrong(self, message: str) -> DocsError:
        output = Path(self._output.name).read_text(encoding="utf-8", errors="replace")
        return self.block.wrong(f"{message}:\n{output[-SHOWN:]}")

    def __exit__(self, *_):
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):  # the group has ended
                os.killpg(self._process.pid, number)
                self._wait_for_the_group(5)
        self._process.wait()
        self._output.close()

    def _wait_for_the_group(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._process.poll()  # takes away the first process as soon as it has ended
            os.killpg(self._process.pid, 0)
            time.sleep(0.05)


def _answers(url: str) -> bool:
    try:
        with _OPENER.open(url, timeout=5):
            return True
    except (OSError, http.client.HTTPException):
        return False


# What a page runs in


def copy_repository(folder: Path) -> None:
    """Copy the files that git knows, as they are now."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in listed.split("\0"):
        if name and (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)


def scratch_environment(folder: Path) -> dict[str, str]:
    """Make a virtual environment; returns the variables of programs that shall use it, `make` included."""
    venv.create(folder, symlinks=True)
    packages = sysconfig.get_path("purelib", vars={"base": str(folder)})
    # `addsitedir`, and not a bare path: it also follows this environment's own .pth files, such as that of `pip -e`.
    code = f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n"
    Path(packages, "behind.pth").write_text(code, encoding="utf-8")
    for script in Path(sys.prefix, "bin").iterdir():  # pip, torchrun, ...: the same with the new Python
        content = script.read_bytes() if script.is_file() else b""
        if content.startswith(b"#!") and not (folder / "bin" / script.name).exists():
            shutil.copy(script, folder / "bin" / script.name)
            content = content.replace(f"{sys.prefix}/bin/python".encode(), f"{folder}/bin/python".encode())
            (folder / "bin" / script.name).write_bytes(content)
    # What `make pages` tells its own children is not for a page's `make`.
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS")) and k != "PYTHONPATH"}
    return kept | {
        "PATH": f"{folder}/bin{os.pathsep}{os.environ['PATH']}",
        "VIRTUAL_ENV": str(folder),
        "VENV": str(folder),
        "PIP_CONSTRAINT": str(ROOT / "constraints.txt"),
    }


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))  # not at once, but with all that was started
    sys.exit(main(sys.argv[1:]))
