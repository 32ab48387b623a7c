"""Thousands of hostile captions through every format; `tests/data/test_texts.py` takes one seed of them."""

import pytest

from hostile_sweep import sweep


@pytest.mark.soak
def test_no_caption_takes_another_row_with_it(tmp_path):
    bad = 0
    for seed in range(100):
        folder = tmp_path / str(seed)
        folder.mkdir()
        bad += sweep(folder, seed, 60)
    assert bad > 3000
