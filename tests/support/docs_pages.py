"""Runs the pages of the documentation inside the test suite, offline.

The blocks of a page (`docs_blocks.py`) run in their order, Python in one namespace, in a folder that holds what the
page says it starts with (`docs_prepared.py`). `bash` blocks run command by command, `seed-hf` and Python modules
inside this process. Some command of the page must use each `yaml` block. What only continuous integration runs is
checked: its commands, options, imports and files. A block with `<!-- on a stand-in Hub -->` runs in processes that
take `StandInHub` for the Hub; with `, without seed_hf` they cannot import the package.
"""

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import yaml

from docs_blocks import CALLED, ROOT, Block, DocsError, commands, read_blocks
from docs_commands import check_command, run_command
from docs_prepared import prepare
from stand_in_hub import StandInHub


_BLOCKED = 'import sys; sys.modules["seed_hf"] = None\n'


def run_page(page: Path, folder: Path) -> None:
    """Run the blocks of a page in `folder`, which must be the working directory; `DocsError` if one is wrong."""
    prepare(page, folder, clone=False)
    with StandInHub() as hub:
        _run_blocks(page, folder, hub)
        if hub.unknown:
            raise DocsError(f"{page.name}: the stand-in Hub does not know {hub.unknown}.")


def _run_blocks(page: Path, folder: Path, hub: StandInHub) -> None:
    namespace, used, files = {"__name__": "docs"}, set(), {}
    for block in read_blocks(page):
        if block.hub:
            _on_hub(block, hub.environment(folder / ".hub-home"))
        elif block.language == "python":
            (run_python if block.reason is None else _check_python)(block, namespace)
        elif block.language == "bash":
            used.update(word for words in commands(block.text) for word in words)
            (_run_bash if block.reason is None else _check_bash)(block)
        elif block.language == "yaml":
            files[write_yaml(block, folder)] = block
        elif block.language != "text":
            raise block.wrong(f"language {block.language!r}: use python, bash, yaml, or text for what never runs.")
    for name, block in files.items():
        if name not in used:
            raise block.wrong(f"no command of the page uses {name}.")


def _on_hub(block: Block, environment: dict[str, str]) -> None:
    if block.language == "python":
        programs = [["-c", ("" if block.installed else _BLOCKED) + block.text]]
    else:
        programs = [["-m", "seed_hf.cli", *words[1:]] for words in commands(block.text) if words[0] == "seed-hf"]
        if len(programs) != len(commands(block.text)):
            raise block.wrong("only seed-hf and Python run on a stand-in Hub.")
    for program in programs:
        done = subprocess.run(
            [sys.executable, *program], env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
        if done.returncode:
            raise block.wrong(f"ends with {done.returncode}: {done.stderr[-2000:]}")


# Bash


def _run_bash(block: Block) -> None:
    for words in commands(block.text):
        run_command(block, words)


def _check_bash(block: Block) -> None:
    for text in dict.fromkeys((block.text, block.small())):
        for words in commands(text):
            check_command(block, words)
    if block.reason == CALLED:
        called = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
        for words in commands(block.text):
            if " ".join(words) not in called:
                raise block.wrong(f".ci/run has no line {' '.join(words)!r}.")


# Python and YAML


def run_python(block: Block, namespace: dict) -> None:
    try:
        exec(_compiled(block), namespace)
    except (Exception, SystemExit) as error:
        raise block.wrong(f"{type(error).__name__}: {error}") from error


def _compiled(block: Block):
    return compile("\n" * block.line + block.small(), block.page, "exec")


def _check_python(block: Block, namespace: dict) -> None:
    try:
        _compiled(block)
    except SyntaxError as error:
        raise block.wrong(f"{type(error).__name__}: {error}") from error
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "seed_hf":
            module = importlib.import_module(node.module)
            for alias in node.names:
                if not hasattr(module, alias.name):
                    raise block.wrong(f"{node.module} has no {alias.name}.")


def write_yaml(block: Block, folder: Path) -> str:
    """Write the block as the file whose name it begins with; returns the name."""
    name = re.match(r"# ([\w.-]+\.yaml)\b", block.text)
    if name is None:
        raise block.wrong("a YAML block begins with the name of its file, `# recipe.yaml`.")
    try:
        yaml.safe_load(block.text)
    except yaml.YAMLError as error:
        raise block.wrong(f"not valid YAML: {error}") from error
    (folder / name[1]).write_text(block.text, encoding="utf-8")
    return name[1]
