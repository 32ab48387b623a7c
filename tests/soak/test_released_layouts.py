"""Sixty variants of the released layout of SEED-LLaMA; `tests/conversion/test_seed_llama_variants.py` has a sample."""

import pytest

from seed_llama_variants import check_variant


pytestmark = pytest.mark.soak


@pytest.mark.parametrize("seed", range(60))
def test_a_variant(seed, tmp_path):
    check_variant(tmp_path, seed)
