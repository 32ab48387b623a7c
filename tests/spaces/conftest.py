"""A running Space, for the tests of its page and of its requests."""

import pytest


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Where the Space writes its log and its temporary files."""
    return tmp_path_factory.mktemp("space")


@pytest.fixture(scope="session")
def address(folder):
    from space_browser import (
        running_space,  # needs what the extras demo and dev install; tests without them are skipped
    )

    with running_space(folder) as address:
        yield address
