"""Captions made of names, and rich captions with style, colours, definition and keywords."""

from __future__ import annotations

import re
from collections.abc import Sequence


# Nouns without an article: as names of emoji they are a mass or a pair.
MASS_NOUNS = frozenset(
    """rice bread bacon honey popcorn butter salt fog fire milk sake tea garlic ginger curry oden dango electricity
    lightning broccoli spaghetti sushi confetti cheese candy custard coffee yarn thread soap wood scissors glasses
    goggles jeans shorts chopsticks fireworks luggage ice meat clover wind water wine""".split()
)
SINGULAR_IN_S = frozenset(("compass", "canvas", "gas", "atlas", "flags"))
HAS_DETERMINER = re.compile(r"(a|an|the|two|three|four|no|men|women|people)\b(?!-)", re.IGNORECASE)
PLURAL = re.compile(r"[^sui]s$")
VOWEL_SOUND = re.compile(r"[aeio]|u(?!ni|se|r[iu]|k|s)|hour")
CONSONANT_SOUND = re.compile(r"one|eu")
FLAGS_WITH_THE = re.compile(
    r"United|European|Czech|Dominican|Philip|Nether|Bahamas|Maldives|Comoros|Gambia|Central African|.*Islands"
)
ACTIONS = {
    "getting haircut": "getting a haircut",
    "getting massage": "getting a massage",
    "rowing boat": "rowing a boat",
    "tipping hand": "tipping a hand",
    "wearing turban": "wearing a turban",
}
GROUPS = {"kiss: ": "a kiss between ", "couple with heart: ": "a couple with a heart, ", "family: ": "a family of "}
RICH_KEYWORDS = 6


def join_words(words: list[str]) -> str:
    """Join words: `["red", "grey", "tan"]` gives "red, grey and tan"."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} and {words[-1]}"


def with_article(name: str) -> str:
    """Put "a" or "an" before a name: "a fire engine". Plurals and mass nouns stay as they are."""
    head = name.split()[-1].lower()
    if HAS_DETERMINER.match(name) or head in MASS_NOUNS or (PLURAL.search(head) and head not in SINGULAR_IN_S):
        return name
    lower = name.lower()
    vowel = VOWEL_SOUND.match(lower) and not CONSONANT_SOUND.match(lower)
    return f"{'an' if vowel else 'a'} {name}"


def emoji_caption(name: str, subcategory: str) -> str:
    """The noun phrase for an emoji's name: "flag: Fiji" -> "the flag of Fiji", "man: bald" -> "a bald man"."""
    if name.startswith("flag: "):
        country = name.removeprefix("flag: ")
        return f"the flag of {'the ' if FLAGS_WITH_THE.match(country) else ''}{country}"
    if name.startswith("keycap: "):
        return f"a keycap with {name.removeprefix('keycap: ')}"
    for prefix, phrase in GROUPS.items():
        if name.startswith(prefix):
            return phrase + join_words([with_article(part.strip()) for part in name.removeprefix(prefix).split(",")])
    if match := re.fullmatch(r"(man|woman|person): (.+)", name):
        who, look = match.groups()
        if look == "bald":
            return f"a bald {who}"
        return f"a {who} with a beard" if look == "beard" else f"a {who} with {look}"
    for action, phrase in ACTIONS.items():
        name = name.replace(action, phrase)
    name = name.replace(": facing right", " facing right")
    plain = name.replace("’", "'")
    if subcategory == "time" and re.search(r"o'clock$|-thirty$", plain):
        return f"a clock face showing {plain}"
    if subcategory == "lock" and name in ("locked", "unlocked"):
        return with_article(f"{name} padlock")
    if subcategory == "zodiac":
        return f"the zodiac sign {name}"
    if subcategory == "alphanum":
        return f"the symbol {name}"
    if subcategory in ("math", "warning", "transport-sign") and "sign" not in name:
        return f"a {plain} sign" if subcategory == "math" else with_article(f"{plain} sign")
    return with_article(name)


def rich_caption(
    style_phrase: str, caption: str, colours: Sequence[str], definition: str, keywords: Sequence[str]
) -> str:
    """Style, caption, colours, definition and the first six keywords, as sentences; missing parts are left out."""
    text = f"{_sentence(style_phrase)} of {caption}"
    if colours:
        text += f", mainly {join_words(list(colours))}"
    text += "."
    if definition:
        text += f" {_sentence(caption)}: {definition}."
    if keywords:
        text += f" Related words: {', '.join(keywords[:RICH_KEYWORDS])}."
    return text


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
