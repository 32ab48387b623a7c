"""Opens the folders and Hub ids that a recipe names; errors name its key."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from seed_hf.artifacts.loading import load_pretrained


def load(cls: type, source: str | None, key: str) -> Any:
    """`cls.from_pretrained(source)`, in the number type in which it was saved.

    Args:
        cls: Of transformers or of this package.
        source: Folder, or Hub id, maybe followed by a folder of the repository.
        key: Of the recipe, such as "model.tokenizer".

    Raises:
        FileNotFoundError: There is no such folder and no such repository.
        ValueError: It cannot be loaded, or the recipe does not name it.
    """
    if source is None:
        raise ValueError(f"{key} is missing: give a folder, or the id of a Hub repository (owner/name).")
    with naming_the_key(key):
        return load_pretrained(cls, source)


@contextmanager
def naming_the_key(key: str) -> Iterator[None]:
    """Put the key of the recipe in front of the errors of `seed_hf.artifacts.loading`.

    Args:
        key: Such as "model.tokenizer".
    """
    try:
        yield
    except (FileNotFoundError, ValueError) as error:
        raise type(error)(f"{key}: {error}") from error
