"""What the tests of the command line share."""

import pytest

from tiny_diffusion import tiny_model_and_processor, tiny_pipeline


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A saved pipeline with a language model, for --model."""
    path = tmp_path_factory.mktemp("pipeline")
    model, processor = tiny_model_and_processor()
    tiny_pipeline(model, processor=processor, guidance_scale=2.0).save_pretrained(path)
    return path
