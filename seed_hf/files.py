"""Whole files: everything is written under a temporary name and then renamed."""

import errno
import hashlib
import json
import os
import re
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


_HOST = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]  # a folder may be shared by several
_TORCH_WRITES = ("PytorchStreamWriter", "inline_container", "unexpected pos")  # torch.save has no exception of its own


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` to write to. It is renamed to `path` at the end, or removed if writing fails.

    Args:
        path: The file to write; an existing one is replaced.
    """
    temporary = path.with_name(_unfinished(path.name, str(os.getpid())))
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
    """An empty temporary folder. It becomes `path` at the end, or is removed if writing fails.

    It lies beside `path`, and the folders around it are made if need be, and removed with it. Where `path` is an empty
    folder, it lies in it and its content is moved out at the end, `config.json` last: a mount, a link's target or the
    working directory cannot be replaced. What killed writers of the same folder left is removed.

    Args:
        path: The folder to write.

    Raises:
        ValueError: As in [`check_new_folder`].
    """
    check_new_folder(path)
    path = path.resolve()
    for left in _left_over(path):
        shutil.rmtree(left, ignore_errors=True)
    name, is_there = _unfinished(path.name, _HOST, str(os.getpid())), path.is_dir()
    temporary = path / name if is_there else path.with_name(name)
    new = [parent for parent in path.parents if not parent.exists()]
    temporary.mkdir(parents=True)
    try:
        yield temporary
        if is_there:
            if len(os.listdir(path)) > 1:
                raise ValueError(f"{path}: something else was written into this folder meanwhile. Give a new one.")
            for file in sorted(temporary.iterdir(), key=lambda file: (file.name == "config.json", file.name)):
                os.replace(file, path / file.name)
        else:
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
        folder = path.resolve()  # "." has no name
        if set(folder.iterdir()) - set(_left_over(folder)):
            raise ValueError(f"{path}: this folder is not empty. Give a new one.")
    elif path.exists():
        raise ValueError(f"{path}: there is a file of that name. Give a new folder.")


@contextmanager
def disk_errors(path: Path, stays: str = "") -> Iterator[None]:
    """Turn what is raised where a file cannot be written, such as on a full disk, into an `OSError` with advice.

    Args:
        path: What is written into.
        stays: A sentence about what there is already.
    """
    try:
        yield
    except Exception as error:
        # Rust, in safetensors and tokenizers, has an exception of its own with the number in its text.
        named = re.search(r"\(os error (\d+)\)", str(error))
        number = error.errno if isinstance(error, OSError) else int(named[1]) if named else None
        if isinstance(error, OSError):
            what = error.strerror or str(error)
        elif number is not None:
            what = os.strerror(number)
        elif isinstance(error, RuntimeError) and any(word in str(error) for word in _TORCH_WRITES):
            number, what = errno.EIO, "A file could not be written whole"
        else:
            raise
        raise OSError(
            number,
            f"{what} while writing into {path}. {stays + ' ' if stays else ''}Free some room or repair the folder, "
            "then run the same command again to go on",
        ) from error


def _unfinished(name: str, *owner: str) -> str:
    """The temporary name of a file or folder; short for a long name, as that may be as long as the system allows."""
    stored = os.fsencode(name)
    name = name if len(stored) <= 100 else hashlib.sha256(stored).hexdigest()[:16]
    return ".".join(["", name, *owner, "unfinished"])


def _left_over(path: Path) -> list[Path]:
    """The temporary folders in and beside a folder whose processes, of this machine, are no more."""
    own = re.compile(re.escape(_unfinished(path.name, _HOST, "PID")).replace("PID", r"(\d{1,9})"))
    found = []
    for place in (path, path.parent):
        with suppress(OSError):  # not there, or not to be listed
            named = [(child, own.fullmatch(child.name)) for child in place.iterdir()]
            found += [child for child, match in named if match and _is_gone(int(match[1]))]
    return found


def _is_gone(pid: int) -> bool:
    if pid == os.getpid():  # left by a process of the same number, such as that of a container
        return True
    if os.name != "posix":  # elsewhere asking would end the process
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


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
