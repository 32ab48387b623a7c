"""What the commands share: options, errors in one line, progress messages, device and number type."""

import logging
import os
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer


DEBUG = "SEED_HF_DEBUG"

Model = Annotated[
    Path | None, typer.Option("--model", help="Folder of a saved pipeline or model. Default: the built-in seed-tiny.")
]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps ... Default: a GPU if there is one.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@contextmanager
def plain_errors():
    """Turn a user's mistake into one line and exit status 2. Code outside such a block keeps its traceback."""
    try:
        yield
    except (ValueError, TypeError, OSError) as error:
        if os.environ.get(DEBUG):
            raise
        typer.echo(f"seed-hf: {' '.join(str(error).split())}", err=True)
        raise typer.Exit(2) from None


def show_messages():
    """Show the library's log messages, which report the progress of long work."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for name in ("httpx", "httpx2", "urllib3", "filelock", "fsspec"):
        logging.getLogger(name).setLevel(logging.WARNING)


@contextmanager
def loading(folder: Path):
    """Name the folder in the error if its files are damaged or of another kind."""
    from safetensors import SafetensorError

    try:
        yield
    except (SafetensorError, RuntimeError, ValueError, OSError) as error:
        raise ValueError(f"{folder}: cannot be loaded. {error}") from error


def quiet_and_where(device: str | None):
    """The device and its number type; also turns off the loading bars of the libraries."""
    import diffusers
    import transformers

    from seed_hf.devices import number_type, usable_device

    transformers.utils.logging.disable_progress_bar()
    diffusers.utils.logging.disable_progress_bar()
    where = usable_device(device)
    return where, number_type(where)


def comma_separated(names: str | None) -> tuple[str, ...] | None:
    """The parts of `"a,b"`; none of `""`; `None` for an option that was not given."""
    return None if names is None else tuple(part.strip() for part in names.split(",") if part.strip())
