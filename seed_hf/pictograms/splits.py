"""The split of a row. It depends only on subject, id and licence, so that every rebuild agrees."""

from __future__ import annotations

import hashlib
import re


TEST_CONCEPTS_PER_MILLE = 80
VALIDATION_PER_MILLE = 30
TEST_STYLE_LICENCE = "CC-BY-SA-4.0"  # share-alike: never trained on

_WHO = re.compile(r"\b(man|woman|person|men|women|people|boy|girl|older|old|facing right)\b")


def base_subject(name: str) -> str:
    """The subject of a name without the person: "woman nurse" and "man nurse" both give "nurse"."""
    lower = name.lower()
    base = re.sub(r"[^a-z0-9 ]", " ", _WHO.sub(" ", lower))
    return re.sub(r" +", " ", base).strip() or lower


def split_of(row_id: str, name: str, licence: str) -> str:
    """The split of one row.

    Args:
        row_id: Such as "noto/emoji:1F692".
        name: The concept's name, which gives the subject. Either all rows of a subject are test_concept or none is.
        licence: Rows under the share-alike licence are test_style.
    """
    if licence == TEST_STYLE_LICENCE:
        return "test_style"
    if _per_mille(f"seed:{base_subject(name)}") < TEST_CONCEPTS_PER_MILLE:
        return "test_concept"
    return "validation" if _per_mille(f"val:{row_id}") < VALIDATION_PER_MILLE else "train"


def _per_mille(text: str) -> int:
    return int(hashlib.sha256(text.encode()).hexdigest(), 16) % 1000
