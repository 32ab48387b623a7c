"""The code blocks of the documentation: found, run, or checked as far as they can be without running them.

A page is a Markdown file. Its blocks run in their order, Python in one namespace, in a folder that holds what the page
says it starts with: `<!-- starts with: cherries.png pictures/ -->` (see `PREPARED`). `bash` blocks run command by
command, `seed-hf` and Python modules inside this process. A `yaml` block begins with its name, `# recipe.yaml`,
becomes that file, and some command of the page must use it. `text` is for what is only looked at. A block that cannot
run has `<!-- not run: the reason -->` on the line above it; then its commands, options, imports and files are checked.
One with `<!-- on a stand-in Hub -->` runs in processes that take `StandInHub` for the Hub; with `, without seed_hf`
they cannot import the package.
"""

import argparse
import ast
import importlib
import json
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import typer
import yaml
from typer.testing import CliRunner

from seed_hf import bundled
from seed_hf.cli import app
from stand_in_hub import StandInHub
from tiny import tiny_text_encoder, tiny_text_tokenizer, tiny_tokenizer
from tiny_sources import rows, write_parquet, write_tar


ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")]
    + list((ROOT / "docs").rglob("*.md"))
    + list((ROOT / "examples").glob("*/README.md"))
)
_FENCE = re.compile(r"^\s*```(\w*)\s*$")
_NOT_RUN = re.compile(r"<!-- not run: (\S.*) -->")
_ON_HUB = re.compile(r"<!-- on a stand-in Hub(, without seed_hf)? -->")
_STARTS = re.compile(r"<!-- starts with: (.+?) -->")
_FOLDERS = ("benchmarks", "docs", "examples", "modeling", "pipelines", "seed_hf", "tests")
_SHELL = ("cat", "cp", "ls", "mkdir")  # harmless, and everywhere
_OUTSIDE = ("cd", "curl", "git", "transformers", "vllm")  # not ours: nothing of them can be checked here


class DocsError(AssertionError):
    """A block that is wrong; the message begins with page and line."""


@dataclass
class Block:
    """A fenced block: where it is, its language, its text, and why it does not run (`None` if it does).

    `hub` is the code that goes before its Python on a stand-in Hub, `None` elsewhere.
    """

    page: str
    line: int
    language: str
    text: str
    reason: str | None
    hub: str | None = None

    def wrong(self, message: str) -> DocsError:
        return DocsError(f"{self.page}:{self.line}: {message}")


def read_blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page in their order."""
    blocks, opened, before = [], None, ""
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        fence = _FENCE.match(line)
        if opened is None and line.lstrip().startswith("```"):
            marker, on_hub = _NOT_RUN.search(before), _ON_HUB.search(before)
            hub = (_BLOCKED if on_hub[1] else "") if on_hub else None
            opened = Block(page.name, number, fence[1] if fence else line, "", marker[1] if marker else None, hub)
        elif opened is not None and fence and not fence[1]:
            blocks.append(opened)
            opened = None
        elif opened is not None:
            opened.text += line + "\n"
        before = line if line.strip() else before
    if opened is not None:
        raise opened.wrong("this block is never closed.")
    return blocks


_BLOCKED = 'import sys; sys.modules["seed_hf"] = None\n'


def run_page(page: Path, folder: Path) -> None:
    """Run the blocks of a page in `folder`, which must be the working directory; `DocsError` if one is wrong."""
    with StandInHub() as hub:
        _run_blocks(page, folder, hub)
        if hub.unknown:
            raise DocsError(f"{page.name}: the stand-in Hub does not know {hub.unknown}.")


def _run_blocks(page: Path, folder: Path, hub: StandInHub) -> None:
    for names in _STARTS.findall(page.read_text(encoding="utf-8")):
        for name in names.split():
            PREPARED[name](folder)
    namespace, used, files = {"__name__": "docs"}, set(), {}
    for block in read_blocks(page):
        if block.hub is not None:
            _on_hub(block, hub.environment(folder / ".hub-home"))
        elif block.language == "python":
            _python(block, namespace)
        elif block.language == "bash":
            for words in commands(block):
                used.update(words)
                (_run if block.reason is None else _check)(block, words)
        elif block.language == "yaml":
            files[_yaml(block, folder)] = block
        elif block.language != "text":
            raise block.wrong(f"language {block.language!r}: use python, bash, yaml, or text for what never runs.")
    for name, block in files.items():
        if name not in used:
            raise block.wrong(f"no command of the page uses {name}.")


# On a stand-in Hub


def _on_hub(block: Block, environment: dict[str, str]) -> None:
    if block.language == "python":
        programs = [["-c", block.hub + block.text]]
    else:
        programs = [["-m", "seed_hf.cli", *words[1:]] for words in commands(block) if words[0] == "seed-hf"]
        if len(programs) != len(commands(block)):
            raise block.wrong("only seed-hf and Python run on a stand-in Hub.")
    for program in programs:
        done = subprocess.run(
            [sys.executable, *program], env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
        if done.returncode:
            raise block.wrong(f"ends with {done.returncode}: {done.stderr[-2000:]}")


# Python and YAML


def _python(block: Block, namespace: dict) -> None:
    try:
        code = compile("\n" * block.line + block.text, block.page, "exec")
        if block.reason is None:
            exec(code, namespace)
        else:
            _check_imports(block)
    except DocsError:
        raise
    except Exception as error:
        raise block.wrong(f"{type(error).__name__}: {error}") from error


def _check_imports(block: Block) -> None:
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "seed_hf":
            module = importlib.import_module(node.module)
            for alias in node.names:
                if not hasattr(module, alias.name):
                    raise block.wrong(f"{node.module} has no {alias.name}.")


def _yaml(block: Block, folder: Path) -> str:
    name = re.match(r"# ([\w.-]+\.yaml)\b", block.text)
    if name is None:
        raise block.wrong("a YAML block begins with the name of its file, `# recipe.yaml`.")
    try:
        yaml.safe_load(block.text)
    except yaml.YAMLError as error:
        raise block.wrong(f"not valid YAML: {error}") from error
    (folder / name[1]).write_text(block.text, encoding="utf-8")
    return name[1]


# Commands


def commands(block: Block) -> list[list[str]]:
    """The commands of a bash block as lists of words, without comments."""
    lines = block.text.replace("\\\n", " ").splitlines()
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


def _run(block: Block, words: list[str]) -> None:
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
        raise block.wrong(f"{program} cannot run in a test. Mark the block: <!-- not run: the reason -->")


def _check(block: Block, words: list[str]) -> None:
    """Whether a command that does not run would be understood: its options, targets, extras and files."""
    program, *arguments = words
    for word in words:
        if word.split("/")[0] in _FOLDERS and "/" in word and not (ROOT / word).exists():
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
            name, command, arguments = command.resolve_command(context, [*context._protected_args, *context.args])
            context = command.make_context(name, list(arguments), parent=context)
    except Exception as error:  # click's errors, and those of the options' own checks
        raise block.wrong(f"seed-hf {shlex.join(arguments)}: {getattr(error, 'message', error)}") from error
    config = context.params.get("config")
    if command.name == "train" and config is not None:
        if not config.is_file() and not (ROOT / config).is_file():
            raise block.wrong(f"{config}: neither a YAML block of this page nor a file of the repository.")
        place = config if config.is_file() else ROOT / config
        changed = [part for change in context.params["change"] or () for part in ("--set", change)]
        checked = ["train", context.params["stage"].value, "--config", str(place), *changed, "--check"]
        result = CliRunner().invoke(app, [*checked, "--set", "trainer.use_cpu=true"])
        if result.exit_code != 0:
            raise block.wrong(result.stderr)


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


# What pages start with


def _demo_pictures() -> list[dict]:
    folder = bundled("seed-tiny", "demo")
    return [
        {**row, "image": (folder / row["file"]).read_bytes()}
        for row in json.loads((folder / "pictures.json").read_text(encoding="utf-8"))
    ]


def _picture(folder: Path) -> None:
    shutil.copy(bundled("seed-tiny", "demo") / "noto_1F352.png", folder / "cherries.png")


def _pictures(folder: Path) -> None:
    (folder / "pictures").mkdir()
    with open(folder / "pictures" / "metadata.jsonl", "w", encoding="utf-8") as file:
        for row in _demo_pictures():
            (folder / "pictures" / row["file"]).write_bytes(row["image"])
            file.write(json.dumps({"file_name": row["file"], "caption": row["caption"]}) + "\n")


def _shards(folder: Path) -> None:
    (folder / "shards").mkdir()
    for number in range(2):
        made = [{**row, "id": f"{number}{i}"} for i, row in enumerate(_demo_pictures())]
        write_tar(folder / "shards" / f"00{number}.tar", made)


def _parquet(folder: Path) -> None:
    (folder / "parquet").mkdir()
    write_parquet(folder / "parquet" / "train-0.parquet", rows(6))


def _stage1(folder: Path) -> None:
    from seed_hf import SeedImageProcessor

    tiny_tokenizer().save_pretrained(folder / "stage1")
    SeedImageProcessor(size={"height": 28, "width": 28}).save_pretrained(folder / "stage1")


def _stable_diffusion(folder: Path) -> None:
    tiny_text_encoder().save_pretrained(folder / "sd" / "text_encoder")
    tiny_text_tokenizer().save_pretrained(folder / "sd" / "tokenizer")


def _language_model(folder: Path) -> None:
    from tiny_language import tiny_language_model, tiny_processor

    tiny_language_model().save_pretrained(folder / "opt")
    tiny_processor().tokenizer.save_pretrained(folder / "opt")


def _codes(folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    codes = [[(row * 7 + place) % 64 for place in range(32)] for row in range(8)]
    captions = ["a red apple", "the blue fire engine"] * 4
    pq.write_table(pa.table({"codes": codes, "caption": captions}), folder / "codes.parquet")


def _pictograms(folder: Path) -> None:
    import datasets

    told = {"style_phrase": "noto emoji", "category": "food-drink", "subcategory": "food-fruit", "colours": ["red"]}
    made = [{**told, **row, "image": {"bytes": row["image"], "path": None}} for row in _demo_pictures()]
    rows = datasets.Dataset.from_list(made).cast_column("image", datasets.Image())
    for split in ("train", "validation", "test_concept", "test_style"):
        rows.to_parquet(folder / "data" / "pictograms" / f"{split}.parquet")


def _clone(folder: Path) -> None:
    for name in _FOLDERS:
        (folder / name).symlink_to(ROOT / name)


PREPARED = {
    "cherries.png": _picture,
    "pictures/": _pictures,
    "shards/": _shards,
    "parquet/": _parquet,
    "stage1/": _stage1,
    "sd/": _stable_diffusion,
    "opt/": _language_model,
    "codes.parquet": _codes,
    "data/pictograms/": _pictograms,
    "clone": _clone,
}
