"""WordNet from the Debian package `wordnet-base`: which words exist, and the definitions of nouns."""

from __future__ import annotations

from pathlib import Path


WORDNET_FOLDER = "usr/share/wordnet"

# The lexicographer files of the nouns, numbered 3 to 28 in the data file.
NOUN_FILES = (
    "Tops act animal artifact attribute body cognition communication event feeling food group location motive object "
    "person phenomenon plant possession process quantity relation shape state substance time"
).split()
FIRST_NOUN_FILE = 3

# Category to the files that define its things; other senses of a word are passed over.
CATEGORY_FILES: dict[str, set[str]] = {
    "smileys-emotion": {"artifact", "body", "person"},
    "people-body": {"body", "person"},
    "animals-nature": {"animal", "object", "plant", "substance"},
    "food-drink": {"animal", "artifact", "food", "plant"},
    "travel-places": {"artifact", "event", "location", "object", "phenomenon", "time"},
    "activities": {"act", "artifact", "communication", "event", "object"},
    "objects": {"artifact", "body", "communication", "object", "possession", "substance"},
    "symbols": {"artifact", "cognition", "communication", "object", "shape"},
    "flags": set(),
}


class WordNet:
    """Nouns with their senses, and the words of all parts of speech.

    Args:
        folder: The unpacked `wordnet-base` package.
    """

    def __init__(self, folder: Path) -> None:
        base = folder / WORDNET_FOLDER
        self._senses: dict[str, tuple[str, str]] = {}  # synset -> (lexicographer file, gloss)
        for fields, gloss in _lines(base / "data.noun"):
            self._senses[fields[0]] = (NOUN_FILES[int(fields[1]) - FIRST_NOUN_FILE], gloss)
        self._nouns: dict[str, list[str]] = {}  # lemma -> synsets, most usual first
        for fields, _ in _lines(base / "index.noun"):
            self._nouns[fields[0]] = fields[-int(fields[2]) :]
        self._words = set(self._nouns)
        for part in ("adj", "adv", "verb"):
            self._words.update(fields[0] for fields, _ in _lines(base / f"index.{part}"))

    def knows(self, word: str) -> bool:
        """Whether WordNet has a word (in lower case), as it is or without a plural s."""
        return word in self._words or (word.endswith("s") and word[:-1] in self._words)

    def define(self, name: str, category: str) -> str:
        """The gloss of the first sense that fits the category, without examples; "" if there is none."""
        name = name.lower().replace("-", " ")
        names = [name]
        if category == "animals-nature" and name.endswith(" face"):
            names.append(name.removesuffix(" face"))
        names += [singular.removesuffix("s") for singular in names if singular.endswith("s")]
        for candidate in names:
            for synset in self._nouns.get(candidate.replace(" ", "_"), ()):
                file, gloss = self._senses[synset]
                if file in CATEGORY_FILES[category]:
                    return gloss.split('; "')[0]
        return ""


def _lines(path: Path) -> list[tuple[list[str], str]]:
    """Fields and gloss of the lines of a WordNet file, without the licence at the top."""
    lines = []
    for line in path.read_text(encoding="latin-1").splitlines():
        if not line.startswith(" "):
            fields, _, gloss = line.partition(" | ")
            lines.append((fields.split(), gloss.strip()))
    return lines
