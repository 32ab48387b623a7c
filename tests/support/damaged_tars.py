"""Tars with flipped bits and cuts, and what becomes of their rows."""

import random
import tarfile
from collections.abc import Iterator
from pathlib import Path

from seed_hf.data.sources.filters import RowFilters
from seed_hf.data.sources.row_checks import judge_caption
from seed_hf.data.sources.source import open_source


Row = tuple[str, object, bytes]


def read(path, **columns) -> tuple[list[Row], list[dict], int]:
    """(id, caption, image) of the rows that are used, the bad ones, and how many the filter drops."""
    source = open_source(path, **columns)
    used, bad, dropped = [], [], 0
    for part in range(len(source)):
        for number, row in enumerate(source.rows(part)):
            assert row.row == number
            rejection = judge_caption(row, RowFilters(empty_captions=not source.captions), source.captions)
            if rejection is None:
                image = Path(row.image).read_bytes() if isinstance(row.image, str) else row.image
                used.append((row.id, row.caption, image))
            elif rejection.bad:
                bad.append({"file": row.file, "id": row.id, "reason": rejection.reason})
            else:
                dropped += 1
    return used, bad, dropped


def check_damage(path: Path, expected: list[Row]) -> str:
    """No row of a damaged tar may be lost or changed without a word. What became of it: whole, named or refused."""
    try:
        used, bad, _ = read(path)
    except ValueError as error:
        assert path.name in str(error) and "at byte" in str(error), error
        return "refused"
    if used == expected and not bad:
        return "whole"
    assert used == expected[: len(used)]
    assert bad[-1]["file"] == path.name and "at byte" in bad[-1]["reason"], bad
    return "named"


def headers(path: Path) -> list[range]:
    """The bytes of each header of a plain tar, without the names and pax fields that may come before it."""
    with tarfile.open(path) as tar:
        return [range(member.offset_data - 512, member.offset_data) for member in tar]


def flipped(data: bytes, places: list[int], count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Copies with one flipped bit, and what was flipped."""
    drawn = random.Random(seed)
    for _ in range(count):
        place, bit = drawn.choice(places), drawn.randrange(8)
        yield f"bit {bit} of byte {place}", data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :]


def cut(data: bytes, count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Copies that are cut off somewhere."""
    drawn = random.Random(seed)
    for _ in range(count):
        length = drawn.randrange(len(data))
        yield f"cut to {length} bytes", data[:length]
