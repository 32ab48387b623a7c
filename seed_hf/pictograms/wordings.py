"""The wordings for an image that follow from its row's metadata."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def join_words(words: list[str]) -> str:
    """Join words: `["red", "grey", "tan"]` gives "red, grey and tan"."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} and {words[-1]}"


def full_description(row: Mapping[str, Any]) -> str:
    """Style, noun phrase and colours of one row, in lower case.

    Such as "a flat twemoji drawing of a fire engine, mainly red and grey"; without colours the last part is left out.
    """
    text = f"{row['style_phrase']} of {row['caption']}"
    if row["colours"]:
        text += f", mainly {join_words(list(row['colours']))}"
    return text.lower()


def caption_variants(row: Mapping[str, Any]) -> list[str]:
    """The wordings of one row in lower case, from the shortest to the fullest, without repetitions.

    For a fire engine: "a fire engine"; "a red and grey fire engine"; "a fire engine, mainly red and grey";
    "a flat twemoji drawing of a fire engine"; "a flat twemoji drawing of a fire engine, mainly red and grey".
    The first is always the plain caption and the last is always `full_description(row)`.
    """
    caption = row["caption"].lower()
    colours = list(row["colours"])
    variants = [caption]
    if colours:
        if coloured := _with_adjectives(caption, colours):
            variants.append(coloured)
        variants.append(f"{caption}, mainly {join_words(colours)}")
    variants.append(f"{row['style_phrase'].lower()} of {caption}")
    variants.append(full_description(row))
    return list(dict.fromkeys(variants))


def _with_adjectives(caption: str, colours: list[str]) -> str | None:
    """Put the colours before the noun; `None` if the caption has no article or names a colour itself."""
    article, _, noun = caption.partition(" ")
    words = set(noun.replace("-", " ").split())
    if article not in ("a", "an") or any(colour.split()[-1] in words for colour in (*colours, *_COLOUR_WORDS)):
        return None
    adjectives = join_words(colours)
    return f"{'an' if adjectives[0] in 'aeiou' else 'a'} {adjectives} {noun}"


_COLOUR_WORDS = (
    "red",
    "orange",
    "yellow",
    "green",
    "blue",
    "purple",
    "pink",
    "brown",
    "black",
    "grey",
    "gray",
    "white",
    "gold",
    "golden",
    "silver",
)
