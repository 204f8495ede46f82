"""Evaluation of two folders by a call, and that a study has the same tolerance."""

import nibabel as nib
import numpy as np
import pytest

from pipeline.data.datalists import read_dataset
from pipeline.data.planning import make_plan
from pipeline.data.scan import scan_dataset
from pipeline.errors import ConfigError, DatasetError
from pipeline.metrics.case_evaluation import Failure
from pipeline.metrics.evaluation import evaluate_folders
from pipeline.records.tolerance import Tolerance, ToleranceRequest


def write(path, labels, spacing=(1.5, 1.5, 10.0)):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(labels, np.diag([*spacing, 1.0])), path)


def cube(value=1):
    labels = np.zeros((12, 12, 12), np.uint8)
    labels[4:8, 4:8, 4:8] = value
    return labels


@pytest.fixture
def dataset(tmp_path):
    """Write a dataset of two cases with slices 10 mm apart, and one with finer ones."""
    random = np.random.default_rng(0)
    for case, spacing in (("a", (1.5, 1.5, 10.0)), ("b", (1.5, 1.5, 10.0)), ("c", (1.0, 1.0, 3.0))):
        write(
            tmp_path / "imagesTr" / f"{case}_0000.nii.gz", random.normal(size=(12, 12, 12)).astype(np.float32), spacing
        )
        write(tmp_path / "labelsTr" / f"{case}.nii.gz", cube(), spacing)
    (tmp_path / "dataset.json").write_text(
        '{"channel_names": {"0": "MRI"}, "labels": {"background": 0, "heart": 1}, "file_ending": ".nii.gz"}'
    )
    return tmp_path


def test_a_study_and_an_evaluation_of_its_cases_have_the_same_tolerance(dataset):
    result = scan_dataset(read_dataset(dataset))
    plan = make_plan(result.dataset, result.fingerprint)
    found = evaluate_folders(dataset / "labelsTr", dataset / "labelsTr")
    assert found.tolerance == plan.tolerance == Tolerance(1.5)
    assert found.classes == {1: "heart"}


def test_an_error_of_one_slice_is_not_within_the_default_tolerance(dataset):
    for case in "abc":
        write(
            dataset / "net" / f"{case}.nii.gz",
            np.roll(cube(), 1, 2),
            (1.0, 1.0, 3.0) if case == "c" else (1.5, 1.5, 10),
        )
    found = evaluate_folders(dataset / "labelsTr", dataset / "net")
    nsd = {score.case: score.value for score in found.scores() if score.metric == "nsd"}
    assert all(value < 0.9 for value in nsd.values())


def test_only_the_selected_cases_are_evaluated(dataset):
    labels = dataset / "labelsTr"
    found = evaluate_folders(labels, labels, cases=["b"])
    assert [case.case for case in found.cases] == ["b"]
    assert [path.name for path in found.left_out] == ["a.nii.gz", "c.nii.gz"]
    with pytest.raises(DatasetError, match="has no reference of 1 of 2 cases"):
        evaluate_folders(labels, labels, cases=["b", "z"])


def test_a_case_that_cannot_be_evaluated_is_a_failure_and_does_not_stop_the_others(dataset):
    write(dataset / "net" / "a.nii.gz", cube())
    write(dataset / "net" / "b.nii.gz", cube()[:6])
    found = evaluate_folders(dataset / "labelsTr", dataset / "net")
    assert [case.case for case in found.cases] == ["a"]
    assert [(failure.case, failure.problem) for failure in found.failures] == [
        ("c", "does not exist"),
        ("b", "is not on the grid of its reference b.nii.gz: it has shape 6×12×12, not 12×12×12"),
    ]
    assert all(isinstance(failure, Failure) for failure in found.failures)


def test_a_tolerance_of_a_class_that_is_not_there_is_refused(dataset):
    with pytest.raises(ConfigError, match="the classes are heart"):
        evaluate_folders(dataset / "labelsTr", dataset / "labelsTr", tolerance=ToleranceRequest.parse("liver=1"))


def test_progress_is_reported_after_each_case(dataset):
    reports = []
    evaluate_folders(
        dataset / "labelsTr", dataset / "labelsTr", on_case=lambda done, total: reports.append((done, total))
    )
    assert reports == [(1, 3), (2, 3), (3, 3)]
