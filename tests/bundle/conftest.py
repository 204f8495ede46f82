"""A bundle with random weights for tests that need no trained network."""

import shutil
from pathlib import Path

import pytest
from untrained import write_untrained


@pytest.fixture(scope="session")
def untrained(tmp_path_factory):
    return write_untrained(tmp_path_factory.mktemp("untrained") / "bundle")


@pytest.fixture
def edited(untrained, tmp_path):
    """A copy of the untrained bundle to edit."""
    return Path(shutil.copytree(untrained, tmp_path / "bundle"))
