"""seed-tiny, loaded once for the tests of the server."""

import pytest

from seed_hf.serving.served import ServedModel


@pytest.fixture(scope="package")
def served():
    return ServedModel.load()
