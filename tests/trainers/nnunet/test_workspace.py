"""A dataset in nnU-Net's layout: links where nnU-Net can read a file as it is, and converted files elsewhere."""

import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from pipeline.data.annotation import Annotation
from pipeline.data.dataset import Case, Dataset
from pipeline.data.folds import Fold
from pipeline.trainers.nnunet.budget import EpochBudget
from pipeline.trainers.nnunet.workspace import splits, workspace_of, write_raw_dataset

AFFINE = np.array([[-1.5, 0, 0, 3], [0, 0, 2, 4], [0, 1, 0, 5], [0, 0, 0, 1.0]])


def save(path, voxels):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(voxels, AFFINE), path)
    return path


def dataset_of(root, images, label, classes, channels=("T1",)):
    case = Case("a", tuple(images), label, "patient")
    return Dataset("My heart!", root, "list", channels, classes, (case,))


def written(dataset, plan, tmp_path):
    workspace = workspace_of(tmp_path / "work", dataset)
    counted = []
    write_raw_dataset(dataset, plan, workspace, lambda: counted.append(1))
    assert len(counted) == len(dataset.cases)
    return workspace


@pytest.fixture
def image():
    return np.random.default_rng(0).standard_normal((6, 5, 4)).astype(np.float32)


@pytest.fixture
def label():
    return np.random.default_rng(1).integers(0, 3, (6, 5, 4)).astype(np.uint8)


def test_compressed_volumes_with_values_without_gaps_become_links(tmp_path, plan, image, label):
    classes = {0: "background", 1: "left", 2: "right"}
    source = dataset_of(tmp_path, [save(tmp_path / "i.nii.gz", image)], save(tmp_path / "l.nii.gz", label), classes)
    workspace = written(source, plan, tmp_path)
    assert workspace.dataset == "Dataset001_My_heart"
    assert (workspace.raw / "imagesTr" / "a_0000.nii.gz").resolve() == tmp_path / "i.nii.gz"
    assert (workspace.raw / "labelsTr" / "a.nii.gz").resolve() == tmp_path / "l.nii.gz"
    described = json.loads((workspace.raw / "dataset.json").read_text())
    assert described["labels"] == {"background": 0, "left": 1, "right": 2}
    assert described["channel_names"] == {"0": "T1"}


def test_label_values_with_gaps_become_indices_on_the_same_grid(tmp_path, plan, image, label):
    classes = {0: "background", 4: "left", 300: "right"}
    stored = np.asarray([0, 4, 300])[label].astype(np.float32)
    source = dataset_of(tmp_path, [save(tmp_path / "i.nii", image)], save(tmp_path / "l.nii", stored), classes)
    workspace = written(source, plan, tmp_path)
    found = nib.load(workspace.raw / "labelsTr" / "a.nii.gz")
    assert np.array_equal(np.asarray(found.dataobj), label)
    assert np.allclose(found.affine, AFFINE)
    assert np.array_equal(nib.load(workspace.raw / "imagesTr" / "a_0000.nii.gz").get_fdata(dtype=np.float32), image)
    assert json.loads((workspace.raw / "dataset.json").read_text())["labels"] == {
        "background": 0,
        "left": 1,
        "right": 2,
    }


@pytest.mark.parametrize("ignore", [3, 9])
def test_ignored_voxels_get_the_highest_label_which_is_named_ignore(tmp_path, plan, image, label, ignore):
    label[3:] = ignore
    classes = {0: "background", 1: "left", 2: "right"}
    source = dataset_of(tmp_path, [save(tmp_path / "i.nii.gz", image)], save(tmp_path / "l.nii.gz", label), classes)
    case = replace(source.cases[0], annotation=Annotation(ignore))
    workspace = written(replace(source, cases=(case,), ignore_label=ignore), plan, tmp_path)
    stored = workspace.raw / "labelsTr" / "a.nii.gz"
    assert stored.is_symlink() == (ignore == 3)
    expected = np.where(label == ignore, 3, label)
    assert np.array_equal(np.asarray(nib.load(stored).dataobj), expected)
    described = json.loads((workspace.raw / "dataset.json").read_text())
    assert described["labels"] == {"background": 0, "left": 1, "right": 2, "ignore": 3}


def test_channels_of_a_file_become_files(tmp_path, plan, image, label):
    channels = np.stack([image, image + 1], -1)
    plan = replace(plan, normalisation=("zscore", "ct"))
    classes = {0: "background", 1: "left", 2: "right"}
    source = dataset_of(
        tmp_path, [save(tmp_path / "i.nii.gz", channels)], save(tmp_path / "l.nii.gz", label), classes, ("a", "b")
    )
    workspace = written(source, plan, tmp_path)
    for index in (0, 1):
        stored = nib.load(workspace.raw / "imagesTr" / f"a_{index:04d}.nii.gz")
        assert stored.shape == (6, 5, 4)
        assert np.allclose(stored.get_fdata(), image + index, atol=1e-6)
        assert np.allclose(stored.affine, AFFINE)
    described = json.loads((workspace.raw / "dataset.json").read_text())
    assert described["channel_names"] == {"0": "a", "1": "CT"}


def test_folds_are_splits_by_position(tmp_path):
    cases = tuple(Case(name, (), None, name) for name in "abc")
    dataset = Dataset("d", tmp_path, "list", ("T1",), {0: "background", 1: "x"}, cases)
    folds = (Fold(1, ("b",), ("b",)), Fold(2, ("a", "c"), ("a", "c")))
    assert splits(dataset, folds) == [{"train": ["a", "c"], "val": ["b"]}, {"train": ["b"], "val": ["a", "c"]}]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", EpochBudget(1000, 250)),
        ("1epoch", EpochBudget(1, 250)),
        ("8steps", EpochBudget(2, 4)),
        ("5000steps", EpochBudget(20, 250)),
        ("12500 steps", EpochBudget(50, 250)),
    ],
)
def test_budgets(text, expected):
    assert EpochBudget.parse(text) == expected


@pytest.mark.parametrize("text", ["300s", "0epochs", "3steps", "2.5epochs", "epochs"])
def test_other_budgets_are_refused_in_one_line(text):
    from pipeline.errors import ConfigError

    with pytest.raises(ConfigError, match=r"must be epochs, or at least 4 steps, for nnU-Net; use e.g. 50epochs"):
        EpochBudget.parse(text)
