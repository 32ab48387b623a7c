"""Opens the folders and Hub ids that a recipe names; errors name its key."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from seed_hf.artifacts.loading import holds_words, load_pretrained


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


def load_words(source: str | None, key: str, rows: int | None = None) -> PreTrainedTokenizerBase:
    """A text tokenizer.

    Args:
        source: Folder, or Hub id, maybe followed by a folder of the repository.
        key: Of the recipe, such as "model.text_tokenizer".
        rows: Of the embedding that its ids index.

    Raises:
        FileNotFoundError: There is no such folder and no such repository.
        ValueError: It holds no text tokenizer, or that of another model.
    """
    words = load(AutoTokenizer, source, key)
    if source is not None and Path(source).is_dir() and not holds_words(source):
        raise ValueError(f"{key}: {source} holds no text tokenizer (tokenizer.json).")
    if rows is not None and words.vocab_size > rows:  # without added tokens: captions do not become visual tokens
        raise ValueError(
            f"{key}: the text tokenizer in {source} has {words.vocab_size} entries, but the model has {rows} rows. "
            "They do not belong together."
        )
    return words


@contextmanager
def naming_the_key(key: str) -> Iterator[None]:
    """Put the key of the recipe in front of the errors of `seed_hf.artifacts.loading`.

    Args:
        key: Such as "model.tokenizer".
    """
    try:
        yield
    except (FileNotFoundError, ValueError) as error:
        message = str(error)
        raise type(error)(message if message.startswith(f"{key}: ") else f"{key}: {message}") from error
