"""Hundreds of damaged tars: no row is lost without a word. `tests/data/test_tars.py` takes a sample."""

import tarfile

import pytest

from damaged_tars import check_damage, cut, flipped, headers, read
from tiny_sources import rows, write_tar


pytestmark = pytest.mark.soak
FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


@pytest.mark.parametrize("name", FORMATS)
def test_three_hundred_flips_and_a_hundred_cuts(name, tmp_path):
    path = write_tar(tmp_path / "a.tar", rows(12), format=FORMATS[name])
    data, (expected, _, _) = path.read_bytes(), read(path)
    places = [place for header in headers(path) for place in header]
    end = headers(path)[-1].stop + 1024 + 512  # the last caption and the blocks of zeros
    found = []
    for what, damaged in [*flipped(data, places, 300, seed=0), *cut(data[:end], 100, seed=1)]:
        path.write_bytes(damaged)
        found.append((check_damage(path, expected), what))
    # A flip in the two bytes that end the checksum may leave it as it is.
    assert sum(outcome == "whole" for outcome, _ in found[:300]) <= 2
    assert not [what for outcome, what in found[300:] if outcome == "whole"]


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
def test_compressed(mode, tmp_path):
    path = write_tar(tmp_path / "a.tar", rows(12), mode=mode)
    data, (expected, _, _) = path.read_bytes(), read(path)
    for what, damaged in [*flipped(data, list(range(len(data))), 300, seed=0), *cut(data, 100, seed=1)]:
        path.write_bytes(damaged)
        try:
            check_damage(path, expected)
        except AssertionError:
            used, bad, _ = read(path)
            # No format has a checksum for a single file: what follows a flip may be read as other pixels, until the
            # checksum of the whole is compared at the end.
            assert bad and "at byte" in bad[-1]["reason"], what
