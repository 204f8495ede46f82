"""Voxels of classes and regions, counted once for each reference."""

import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import DatasetError
from pipeline.trainers.nnunet.class_voxels import CACHE, class_voxels, count_labels


class Reader:
    """Reads arrays and remembers what it was asked for."""

    def __init__(self) -> None:
        self.read: list[str] = []

    def __call__(self, path: str) -> tuple[np.ndarray, None]:
        self.read.append(Path(path).stem)
        return np.load(path)[None], None


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    references = tmp_path / "gt_segmentations"
    references.mkdir()
    np.save(references / "a.npy", np.array([0, 0, 0, 1], np.float32))
    np.save(references / "b.npy", np.array([0, 2, 2, 3], np.int16))
    return tmp_path


def test_voxels_of_the_named_cases_are_added(folder: Path) -> None:
    reader = Reader()
    assert count_labels(folder, ["a", "b"], ".npy", reader) == {0: 4, 1: 1, 2: 2, 3: 1}
    assert count_labels(folder, ["b"], ".npy", reader) == {0: 1, 2: 2, 3: 1}
    assert sorted(reader.read) == ["a", "b"]


def test_a_changed_reference_is_counted_again(folder: Path) -> None:
    reader = Reader()
    count_labels(folder, ["a", "b"], ".npy", reader)
    np.save(folder / "gt_segmentations" / "a.npy", np.array([1, 1, 1, 1, 1], np.float32))
    assert count_labels(folder, ["a"], ".npy", reader) == {1: 5}
    assert reader.read[2:] == ["a"]


@pytest.mark.parametrize("content", ["", "[1]", '{"a": {"state": [0, 0], "voxels": {"7": 9}}}'])
def test_a_cache_that_cannot_be_used_is_replaced(folder: Path, content: str) -> None:
    (folder / CACHE).write_text(content)
    assert count_labels(folder, ["a"], ".npy", Reader()) == {0: 3, 1: 1}
    assert json.loads((folder / CACHE).read_text())["a"]["voxels"] == {"0": 3, "1": 1}


def test_a_missing_reference_is_named(folder: Path) -> None:
    with pytest.raises(DatasetError, match=r"gt_segmentations/c.npy: cannot be read"):
        count_labels(folder, ["a", "c"], ".npy", Reader())


def test_absent_classes_and_regions_have_no_voxels() -> None:
    assert class_voxels({0: 5}, 3, None, None) == ((5, 0, 0),)
    assert class_voxels({0: 5, 4: 9}, 2, [(1, 2), (3,)], 4) == ((5, 0), (5, 0))
