"""Whole files: everything is written under a temporary name and then renamed."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` to write to. It is renamed to `path` at the end, or removed if writing fails.

    Args:
        path: The file to write; an existing one is replaced.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a whole file of text.

    Args:
        path: The file; an existing one is replaced.
        text: Its content.
    """
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """An empty temporary folder beside `path`. It is renamed to `path` at the end, or removed if writing fails.

    The folders around it are made if need be, and removed with it.

    Args:
        path: The folder to write.

    Raises:
        ValueError: As in [`check_new_folder`].
    """
    check_new_folder(path)
    path = path.absolute()
    temporary = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    new = [parent for parent in path.parents if not parent.exists()]
    temporary.mkdir(parents=True)
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        with suppress(OSError):  # not empty: it is whole, or someone else's
            for parent in new:
                parent.rmdir()


def check_new_folder(path: Path) -> None:
    """Check that nothing would be overwritten.

    Args:
        path: A folder to write.

    Raises:
        ValueError: It is a file, or a folder that is not empty.
    """
    if path.is_dir():
        if any(path.iterdir()):
            raise ValueError(f"{path}: this folder is not empty. Give a new one.")
    elif path.exists():
        raise ValueError(f"{path}: there is a file of that name. Give a new folder.")


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal.

    Args:
        path: The file.
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: Path) -> dict:
    """A JSON object.

    Args:
        path: File to read.

    Raises:
        ValueError: The file is damaged, or holds something else.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # other text, other characters, numbers of 5,000 digits, too deep
        raise ValueError(f"{path}: not readable as JSON. {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path}: expected a JSON object, got {type(value).__name__}.")
    return value
