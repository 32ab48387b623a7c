"""The commands of the documentation's bash blocks: run inside this process, or checked without running them."""

import argparse
import re
import runpy
import shlex
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import typer
from typer.testing import CliRunner

from docs_blocks import ROOT, Block
from docs_prepared import FOLDERS
from seed_hf.cli.app import app
from seed_hf.recipes.reading import read_recipe


_SHELL = ("cat", "cp", "ls", "mkdir")  # harmless, and everywhere
_OUTSIDE = ("cd", "git", "transformers")  # not ours: nothing of them can be checked here


def run_command(block: Block, words: list[str]) -> None:
    """Run one command in the working directory; `DocsError` if it fails."""
    program, *arguments = words
    if program == "seed-hf":
        result = CliRunner().invoke(app, arguments)
        if result.exit_code != 0:
            raise block.wrong(f"{shlex.join(words)} ends with {result.exit_code}: {result.stderr} {result.exception}")
    elif program == "python" and arguments:
        try:
            _script(block, arguments)
        except SystemExit as done:
            if done.code:
                raise block.wrong(f"{shlex.join(words)} ends with {done.code}.") from done
    elif program in _SHELL:
        done = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if done.returncode:
            raise block.wrong(f"{shlex.join(words)} ends with {done.returncode}: {done.stderr}")
    else:
        raise block.wrong(f"{program} cannot run in a test. Mark the block: <!-- in CI: the reason -->")


def check_command(block: Block, words: list[str]) -> None:
    """Whether a command that does not run here would be understood: its options, targets, extras and files."""
    program, *arguments = words
    for word in words:
        if word.split("/")[0] in FOLDERS and "/" in word and not (ROOT / word).exists():
            raise block.wrong(f"the repository has no {word}.")
    if program == "seed-hf":
        _check_seed_hf(block, arguments)
    elif program in ("torchrun", "accelerate"):
        if arguments[arguments.index("-m") + 1 :][:1] != ["seed_hf.cli"]:
            raise block.wrong(f"{program} starts -m seed_hf.cli, this starts something else.")
        _check_seed_hf(block, arguments[arguments.index("seed_hf.cli") + 1 :])
    elif program == "python":
        _check_script(block, arguments)
    elif program == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        if unknown := set(arguments) - set(targets):
            raise block.wrong(f"the Makefile has no target {', '.join(unknown)}.")
    elif program == "pip":
        _check_pip(block, arguments)
    elif program not in _OUTSIDE:
        raise block.wrong(f"{program}: nobody has said how to check this command.")


def _check_seed_hf(block: Block, arguments: list[str]) -> None:
    command = typer.main.get_command(app)
    try:
        context = command.make_context("seed-hf", list(arguments))
        while hasattr(command, "commands"):
            left = [*context._protected_args, *context.args]
            if not left and command.invoke_without_command:
                break
            name, command, arguments = command.resolve_command(context, left)
            context = command.make_context(name, list(arguments), parent=context)
    except Exception as error:  # click's errors, and those of the options' own checks
        raise block.wrong(f"seed-hf {shlex.join(arguments)}: {getattr(error, 'message', error)}") from error
    config = context.params.get("config")
    if command.name == "train" and config is not None:
        if not config.is_file() and not (ROOT / config).is_file():
            raise block.wrong(f"{config}: neither a YAML block of this page nor a file of the repository.")
        place = config if config.is_file() else ROOT / config
        changed = context.params["change"] or ()
        try:
            read_recipe(context.params["stage"].value, place, [*changed, "trainer.use_cpu=true"])
        except ValueError as error:
            raise block.wrong(str(error)) from error


class _Parsed(Exception):
    """The arguments of a script were understood, and that is enough."""


def _check_script(block: Block, arguments: list[str]) -> None:
    original = argparse.ArgumentParser.parse_args

    def parse_only(*given, **named):
        original(*given, **named)
        raise _Parsed

    argparse.ArgumentParser.parse_args = parse_only
    try:
        _script(block, arguments)
    except _Parsed:
        return
    except SystemExit as done:
        raise block.wrong(f"python {shlex.join(arguments)}: ends with {done.code}.") from done
    finally:
        argparse.ArgumentParser.parse_args = original
    raise block.wrong(f"python {shlex.join(arguments)}: reads no arguments, so nothing of it can be checked.")


def _script(block: Block, arguments: list[str]) -> None:
    """`python -m MODULE ...` or `python FILE ...`, inside this process."""
    module = arguments[0] == "-m"
    name, *rest = arguments[1:] if module else arguments
    if not module and not (ROOT / name).is_file():
        raise block.wrong(f"the repository has no {name}.")
    with _as_main(name if module else str(ROOT / name), rest):
        if module:
            sys.modules.pop(name, None)  # else runpy warns
            runpy.run_module(name, run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(str(ROOT / name), run_name="__main__")


@contextmanager
def _as_main(name: str, arguments: list[str]):
    """`sys` as a script finds it; afterwards as it was, without the modules that lie beside the script."""
    before, path, modules = sys.argv, list(sys.path), set(sys.modules)
    folder = str(Path(name).parent)
    sys.argv = [name, *arguments]
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.argv, sys.path[:] = before, path
        for added in set(sys.modules) - modules:
            if folder != "." and str(getattr(sys.modules[added], "__file__", None) or "").startswith(folder):
                del sys.modules[added]


def _check_pip(block: Block, arguments: list[str]) -> None:
    setup = (ROOT / "setup.py").read_text(encoding="utf-8")
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    for word in arguments:
        extras = re.search(r"^\.\[([\w,]+)\]$", word)  # of this package
        for extra in extras[1].split(",") if extras else ():
            if f'"{extra}": [' not in setup:
                raise block.wrong(f"setup.py has no extra {extra!r}.")
        if "==" in word and word not in pins:
            raise block.wrong(f"{word} is not what constraints.txt pins.")
