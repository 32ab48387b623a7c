"""The words of a caption as COCO's evaluation counts them: Penn Treebank tokens in lower case, without punctuation.

COCO uses Stanford's PTBTokenizer 3.4.1 in Java. These rules give the same words for captions as people write them; the
tests compare them with words that the Java program gave. Left out are rarities such as emoticons.
"""

from __future__ import annotations

import html
import re


_ABBREVIATIONS = (
    "jan feb mar apr jun jul aug sep sept oct nov dec mon tue tues wed thu thurs fri mr mrs ms dr drs prof st ste ave "
    "mt ft lt col gen gov adm rev maj sgt capt sen rep pres hon inc co corp ltd bros jr sr etc vs al ph blvd rd dept"
).split()
_JOINED = {
    "cannot": ("can", "not"),
    "gonna": ("gon", "na"),
    "gotta": ("got", "ta"),
    "wanna": ("wan", "na"),
    "lemme": ("lem", "me"),
    "gimme": ("gim", "me"),
    "'tis": ("'t", "is"),
    "'twas": ("'t", "was"),
}
_SPELLED = str.maketrans(
    {
        "“": '"',
        "”": '"',
        "‘": "`",
        "’": "'",
        "…": " ... ",
        "—": " -- ",
        "–": " -- ",
        "€": "$",
        "£": "#",
        "¢": " cents ",
    }
)
_BRACKETS = {"(": "-lrb-", ")": "-rrb-", "{": "-lcb-", "}": "-rcb-", "[": "-lsb-", "]": "-rsb-"}
_WORD = re.compile(
    rf"""
      (?:https?://|www\.)\S+                                   # addresses
    | [\w.+-]+@\w[\w-]*(?:\.\w[\w-]*)+
    | [\#@][A-Za-z_]\w*
    | </?[A-Za-z][^>]*>
    | (?i:\b(?:{"|".join(_ABBREVIATIONS)})\.(?![\w.]))         # Mr., Dec.
    | (?i:\bno\.(?=\s*\d))                                     # No. 5
    | \b[A-Za-z](?:\.[A-Za-z])+\b\.?                           # U.S., p.m.
    | \b[A-Z]\.(?=\s+\S)                                       # J. Smith, plan B. and
    | \bPh\.D\.
    | \b[A-Z]+(?:&[A-Z]+)+\b                                   # R&B
    | \bC(?:\+\+|\#)
    | \d{{1,2}}:\d\d(?=[ap]m\b)                                # 9:00am
    | '\d\d(?:s\b|(?!\w))                                      # '90s
    | (?i:'n')                                                 # rock 'n' roll
    | (?i:'twas|'tis)\b
    | (?i:\w+?(?=n't\b)|n't\b)                                 # do n't
    | (?i:'(?:s|m|d|re|ve|ll)\b)                               # he 's
    | (?i:\b(?:[dol]'\w\w+|ma'am|y'(?=all\b)))                 # o'clock
    | (?:(?<!\S)[-+])?(?:\.(?=\d))?\w+(?:(?:[-./]|(?<=\d)[,:](?=\d))\w+)*  # words and numbers, well-dressed, 1,000
    | [?!]{{2,}}
    | [^\w\s]
    """,
    re.VERBOSE,
)
_DROPPED = frozenset("'\"`.?!,:;-")


def caption_words(text: str) -> list[str]:
    """The words of a caption.

    Args:
        text: As it is written, or generated.
    """
    words: list[str] = []
    for found in _WORD.findall(html.unescape(text).translate(_SPELLED)):
        if found in _DROPPED:
            continue
        word = _BRACKETS.get(found, found.lower())
        words += _JOINED.get(word, (word,))
    return words


def normalize_text(text: str) -> str:
    """The form in which texts are compared: lower case, single spaces, no final full stop."""
    return " ".join(text.lower().split()).rstrip(".").rstrip()
