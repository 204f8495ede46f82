from pathlib import Path

import pytest


@pytest.fixture
def quick_pictures(monkeypatch):
    """Write a few bytes instead of pictures, which take most of the time of a small case."""

    def write(path: Path, *_: object) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"picture")

    monkeypatch.setattr("pipeline.inference.case_steps.write_picture", write)
