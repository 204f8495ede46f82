from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scanned_cases import scan, scanned

from pipeline.data.folds import make_folds
from pipeline.errors import ConfigError, DatasetError


@st.composite
def datasets(draw):
    """A dataset of up to 30 cases of at least two patients, with volumes and absent classes, and a number of folds."""
    patients = draw(st.lists(st.integers(0, 12), min_size=2, max_size=30).filter(lambda found: len(set(found)) > 1))
    sizes = [(900, draw(st.integers(0, 99)), draw(st.integers(0, 3))) for _ in patients]
    scans = [scan(f"case{i}", voxels=size) for i, size in enumerate(sizes)]
    found = scanned(*scans, patients=[f"p{patient}" for patient in patients])
    return *found, draw(st.integers(2, len(set(patients)))), draw(st.integers(0, 5))


@settings(deadline=None)
@given(datasets())
def test_folds_partition_the_cases_and_never_split_a_patient(drawn):
    dataset, fingerprint, count, seed = drawn
    folds = make_folds(dataset, fingerprint, count, seed)
    assert [fold.index for fold in folds] == list(range(count))
    assert sorted(case for fold in folds for case in fold.cases) == sorted(case.id for case in dataset.cases)
    patients = [patient for fold in folds for patient in fold.patients]
    assert len(patients) == len(set(patients))
    for fold in folds:
        assert {case.patient for case in dataset.cases if case.id in fold.cases} == set(fold.patients)


@settings(deadline=None)
@given(datasets())
def test_folds_differ_by_one_patient_at_most(drawn):
    sizes = [len(fold.patients) for fold in make_folds(*drawn)]
    assert max(sizes) - min(sizes) <= 1


@settings(deadline=None)
@given(datasets())
def test_the_order_of_cases_changes_nothing(drawn):
    dataset, fingerprint, count, seed = drawn
    turned = replace(dataset, cases=dataset.cases[::-1])
    assert make_folds(turned, fingerprint, count, seed) == make_folds(dataset, fingerprint, count, seed)


def test_another_seed_gives_other_folds():
    found = scanned(*(scan(f"c{i:02}", voxels=(900, i, 5)) for i in range(20)))
    assert make_folds(*found, 5, 0) == make_folds(*found, 5, 0)
    assert make_folds(*found, 5, 0) != make_folds(*found, 5, 1)


def test_every_fold_has_its_share_of_a_rare_class_and_of_large_structures():
    found = scanned(*(scan(f"c{i:02}", voxels=(900, 100 + i * (i % 3 + 1), 7 if i < 5 else 0)) for i in range(25)))
    sizes = {item.case: item.classes[1].voxels for item in found[1].scans}
    middle = sorted(sizes.values())[12]
    for fold in make_folds(*found, 5, 3):
        assert sum(int(case[1:]) < 5 for case in fold.cases) == 1
        assert 1 <= sum(sizes[case] >= middle for case in fold.cases) <= 4


def test_folds_given_by_the_user_are_used_whatever_the_number_of_folds():
    found = scanned(*(scan(name) for name in "abcd"), folds=[1, 0, 2, 1])
    assert [fold.cases for fold in make_folds(*found, 5, 0)] == [("b",), ("a", "d"), ("c",)]


@pytest.mark.parametrize(
    ("folds", "patients", "words"),
    [
        ([0, 1, None], None, "1 cases have no fold"),
        ([0, 1, 1], ["p", "p", "q"], "patient p is in folds 0 and 1"),
        ([0, 0, 0], None, "all cases are in one fold"),
        ([1, 2, 3], None, "numbered 1, 2, 3"),
        ([0, 2, 2], None, "numbered 0, 2"),
    ],
)
def test_invalid_given_folds_are_refused(folds, patients, words):
    found = scanned(*(scan(name) for name in "abc"), folds=folds, patients=patients)
    with pytest.raises(DatasetError, match=words):
        make_folds(*found, 5, 0)


@pytest.mark.parametrize(
    ("patients", "folds", "words"),
    [
        (["p", "p", "q"], 3, "only 2 patients; give --folds 2$"),
        (["p", "q", "r"], 5, "only 3 patients; give --folds 3 or fewer"),
        (["p", "p", "p"], 2, "only 1 patient; add patients"),
        (["p", "q", "r"], 1, "give --folds 2 or more"),
        (["p", "q", "r"], 0, "give --folds 2 or more"),
    ],
)
def test_too_many_folds_are_refused_with_a_possible_number(patients, folds, words):
    found = scanned(*(scan(name) for name in "abc"), patients=patients)
    with pytest.raises(ConfigError, match=words):
        make_folds(*found, folds, 0)
