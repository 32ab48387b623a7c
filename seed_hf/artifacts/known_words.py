"""What a small model has read: the things and words of its training texts, in a file beside its weights."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from seed_hf.files import read_json, write_text

from .loading import locate


if TYPE_CHECKING:
    from seed_hf.texts import LikelyText

    from .loading import Source

KNOWN_WORDS = "known_words.json"


@dataclass(frozen=True)
class KnownWords:
    """The words of a model that was trained on few of them. A model that has read much has no such file.

    Attributes:
        things: Nouns of what it can show, such as `"fire engine"`.
        words: Every word of its training texts, in lower case.
        sure: A caption that the model finds less likely than this, from 0 to 1, is a guess.
    """

    things: tuple[str, ...]
    words: frozenset[str]
    sure: float

    @property
    def other_words(self) -> list[str]:
        """The words that no name of a thing has, in order."""
        return sorted(self.words - {word for thing in self.things for word in thing.split()})

    def unknown(self, text: str) -> list[str]:
        """The words of a text that the model has never read, in their order, each once.

        Args:
            text: A prompt, or a question. Numbers and words may be joined by anything but letters and digits.
        """
        return [word for word in dict.fromkeys(_words(text)) if word not in self.words]

    def note(self, text: str) -> str | None:
        """What to tell a person whose text has unknown words; `None` if it has none.

        Args:
            text: A prompt, or a question.
        """
        if not (strange := self.unknown(text)):
            return None
        named = ", ".join(f"{word!r}" for word in strange)
        be = "is not one of them" if len(strange) == 1 else "are not among them"
        return f"This model knows {len(self.things)} things and {len(self.words)} words; {named} {be}."

    def guess(self, likely: Sequence[LikelyText]) -> str | None:
        """What to show in place of a caption that the model is not sure of; `None` if it is.

        Args:
            likely: The likeliest captions, likeliest first.
        """
        if likely[0].probability >= self.sure:
            return None
        return "not sure: " + ", ".join(f"{one.text} ({one.probability:.0%})" for one in likely)

    @classmethod
    def of(cls, things: Iterable[str], texts: Iterable[str], sure: float) -> KnownWords:
        """From what a model was trained on.

        Args:
            things: Nouns.
            texts: Its training texts, or enough of them to hold every word.
            sure: As the attribute.
        """
        return cls(tuple(sorted(things)), frozenset(word for text in texts for word in _words(text)), sure)

    def save(self, folder: str | Path) -> None:
        """Write the file into a folder.

        Args:
            folder: Of a model or a pipeline.
        """
        text = json.dumps(
            {"things": list(self.things), "words": sorted(self.words), "sure": self.sure}, ensure_ascii=False
        )
        write_text(Path(folder) / KNOWN_WORDS, text + "\n")


def read_known_words(source: Source, kind: str) -> KnownWords | None:
    """The known words of an artifact; `None` if it has no such file.

    Args:
        source: Folder, Hub id or bundled checkpoint.
        kind: "model" or "pipeline".

    Raises:
        FileNotFoundError: There is no such folder and no such repository.
        ValueError: It holds something else, or the file is damaged.
    """
    path = locate(source, kind).processor / KNOWN_WORDS
    if not path.is_file():
        return None
    content = read_json(path)
    lists = [content.get(name) for name in ("things", "words")]
    sure = content.get("sure")
    strings = all(isinstance(each, list) and all(isinstance(word, str) for word in each) for each in lists)
    if not strings or not isinstance(sure, (int, float)) or not 0 <= sure <= 1:
        raise ValueError(
            f'{path}: must hold {{"things": [...], "words": [...]}} with strings, and "sure" from 0 to 1.'
        )
    return KnownWords(tuple(content["things"]), frozenset(content["words"]), float(sure))


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+(?:['’-][^\W_]+)*", text.lower())
