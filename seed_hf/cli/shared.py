"""What all commands share: errors in one line, messages, device and number type."""

import logging
import os
from contextlib import contextmanager
from pathlib import Path

import typer


DEBUG = "SEED_HF_DEBUG"


@contextmanager
def plain_errors():
    """What a user can get wrong becomes one line and exit status 2. Code outside such a block keeps its traceback."""
    try:
        yield
    except (ValueError, TypeError, OSError) as error:
        if os.environ.get(DEBUG):
            raise
        typer.echo(f"seed-hf: {' '.join(str(error).split())}", err=True)
        raise typer.Exit(2) from None


def show_messages():
    """The library logs how far long work has come; a command shows it."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    # What the libraries below us fetch and open is not the user's concern.
    for name in ("httpx", "httpx2", "urllib3", "filelock", "fsspec"):
        logging.getLogger(name).setLevel(logging.WARNING)


@contextmanager
def loading(folder: Path):
    """A folder with damaged or foreign files is the user's to mend; say which folder it is."""
    from safetensors import SafetensorError

    try:
        yield
    except (SafetensorError, RuntimeError, ValueError, OSError) as error:
        raise ValueError(f"{folder}: cannot be loaded. {error}") from error


def quiet_and_where(device: str | None):
    """The device and the number type that goes with it; turns off the libraries' loading bars."""
    import diffusers
    import transformers

    from seed_hf.devices import number_type, usable_device

    transformers.utils.logging.disable_progress_bar()
    diffusers.utils.logging.disable_progress_bar()
    where = usable_device(device)
    return where, number_type(where)
