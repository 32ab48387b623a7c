"""What the commands share: options, errors in one line, progress messages."""

import logging
import os
import sys
from collections.abc import Iterable
from contextlib import contextmanager
from typing import Annotated

import typer

from seed_hf.extras import what_brings


DEBUG = "SEED_HF_DEBUG"

Model = Annotated[
    str | None,
    typer.Option("--model", help="Folder or Hub id of a model or a pipeline. Default: seed-tiny, which is built in."),
]
Pipeline = Annotated[
    str | None, typer.Option("--model", help="Folder or Hub id of a pipeline. Default: seed-tiny, which is built in.")
]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps ... Default: a GPU if there is one.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@contextmanager
def plain_errors():
    """Turn a user's mistake into one line and exit status 2. Code outside such a block keeps its traceback."""
    try:
        yield
    except (ValueError, TypeError, OSError, ImportError, FloatingPointError) as error:
        missing = error.name if isinstance(error, ImportError) else None
        if os.environ.get(DEBUG) or (missing or "").partition(".")[0] == "seed_hf":
            raise
        said = f"{error}{'' if missing is None else f'. {what_brings(missing)}'}"
        typer.echo(f"seed-hf: {' '.join(said.split())}", err=True)
        raise typer.Exit(2) from None


def say(text: object):
    """Print a line. What stdout cannot encode is an escape, as in "\\udce9": names of files may be no UTF-8."""
    line, encoding = str(text), getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        line.encode(encoding, getattr(sys.stdout, "errors", None) or "strict")
    except UnicodeEncodeError:
        line = line.encode(encoding, "backslashreplace").decode(encoding)
    typer.echo(line)


def show_messages():
    """Show the library's log messages, which report the progress of long work."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for name in ("httpx", "httpx2", "urllib3", "filelock", "fsspec"):
        logging.getLogger(name).setLevel(logging.WARNING)


def quiet_libraries(*, drawing: bool = True):
    """Turn off the loading bars of transformers and, for commands that draw, of diffusers."""
    import transformers

    transformers.utils.logging.disable_progress_bar()
    if drawing:
        import diffusers

        diffusers.utils.logging.disable_progress_bar()


def warn_of_unknown_words(source: str | None, kind: str, text: str):
    """Say on stderr which words of a text a small model has never read. Other models have no list of words."""
    from seed_hf.artifacts.known_words import read_known_words

    known = read_known_words(source, kind)
    if known and (note := known.note(text)):
        model = f" --model {source}" if source else ""
        typer.echo(f"seed-hf: {note} `seed-hf words{model}` lists them.", err=True)


def flags(names: Iterable[str]) -> str:
    """Options as a user writes them: "--image-size, --text-tower"."""
    return ", ".join(f"--{name.replace('_', '-')}" for name in names)


def check_characters(text: str, what: str):
    """Raises `ValueError` if a text of the command line is no UTF-8: Python has stray bytes as half characters."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"The {what} holds bytes that are no UTF-8: {text!r:.80}.") from None


def comma_separated(names: str | None) -> tuple[str, ...] | None:
    """The parts of `"a,b"`; none of `""`; `None` for an option that was not given."""
    return None if names is None else tuple(part.strip() for part in names.split(",") if part.strip())
