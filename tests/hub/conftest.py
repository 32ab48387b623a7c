"""Folders of all kinds of artifacts, for the tests of this room."""

import shutil

import pytest

from seed_hf.artifacts.kinds import KINDS
from tiny_artifacts import save_artifact


@pytest.fixture(scope="session")
def saved(tmp_path_factory):
    """One folder of each kind; tests copy what they change."""
    place = tmp_path_factory.mktemp("artifacts")
    return {kind: save_artifact(kind, place / kind) for kind in KINDS}


@pytest.fixture
def artifact(saved, tmp_path):
    def copy(kind, name="thing"):
        return shutil.copytree(saved[kind], tmp_path / name)

    return copy
