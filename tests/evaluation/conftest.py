"""A tiny model that all tests of the evaluation share."""

import pytest

from tiny_diffusion import tiny_model_and_processor


@pytest.fixture(scope="session")
def model_and_processor():
    return tiny_model_and_processor()


@pytest.fixture(scope="session")
def saved_model(model_and_processor, tmp_path_factory):
    """The folder of the tiny model, for --model."""
    path = tmp_path_factory.mktemp("model")
    for part in model_and_processor:
        part.save_pretrained(path)
    return path
