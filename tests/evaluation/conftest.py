"""A tiny model that all tests of the evaluation share."""

import pytest

from tiny_diffusion import tiny_model_and_processor


@pytest.fixture(scope="session")
def model_and_processor():
    return tiny_model_and_processor()
