"""What is known of a label: ignore labels, annotated.json, lists, and the question of absent classes."""

import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scanned_cases import dataset as made_dataset
from scanned_cases import scan, scanned

from pipeline.data.absences import question, questionable_absences, size_notes, with_absent_classes_unknown
from pipeline.data.annotation import COMPLETE, IGNORED_INDEX, Annotation, class_indices
from pipeline.data.datalists import read_dataset
from pipeline.data.folds import make_folds
from pipeline.data.inspection import inspect_scan
from pipeline.data.inspection_tables import inspection_tables
from pipeline.data.scan import scan_dataset
from pipeline.errors import ConfigError, DatasetError

CLASSES = {"background": 0, "liver": 1, "spleen": 2}
LABEL = np.zeros((6, 7, 5), np.uint8)
LABEL[1:3], LABEL[4] = 1, 2


def write(root, labels=None, names=("a", "b"), label=LABEL):
    """Write an nnU-Net folder of cases with the same label."""
    for folder in ("imagesTr", "labelsTr"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for index, name in enumerate(names):
        image = np.random.default_rng(index).standard_normal(LABEL.shape).astype(np.float32)
        nib.save(nib.Nifti1Image(image, np.eye(4)), root / "imagesTr" / f"{name}_0000.nii.gz")
        nib.save(nib.Nifti1Image(label, np.eye(4)), root / "labelsTr" / f"{name}.nii.gz")
    description = {"channel_names": {"0": "CT"}, "labels": labels or CLASSES, "file_ending": ".nii.gz"}
    (root / "dataset.json").write_text(json.dumps(description))
    return root


def with_ignored(value=3):
    label = LABEL.copy()
    label[:, 3:] = value
    return label


def annotations(root, **options):
    return {case.id: case.annotation for case in read_dataset(root, **options).cases}


def test_the_ignore_label_of_nnunet_is_no_class(tmp_path):
    dataset = read_dataset(write(tmp_path, CLASSES | {"ignore": 3}))
    assert dataset.foreground == {1: "liver", 2: "spleen"}
    assert dataset.ignore_label == 3
    assert {case.annotation for case in dataset.cases} == {Annotation(3)}


def test_an_ignore_label_can_be_given_for_any_layout(tmp_path):
    assert annotations(write(tmp_path), ignore_label=9) == {"a": Annotation(9), "b": Annotation(9)}
    (tmp_path / "list.csv").write_text("image,label,case\nimagesTr/a_0000.nii.gz,labelsTr/a.nii.gz,a\n")
    assert annotations(tmp_path / "list.csv", ignore_label=9) == {"a": Annotation(9)}
    assert annotations(tmp_path / "list.csv") == {"a": COMPLETE}


def test_ignored_voxels_are_not_measured(tmp_path):
    result = scan_dataset(read_dataset(write(tmp_path, CLASSES | {"ignore": 3}, label=with_ignored())))
    counts = {value: size.voxels for value, size in result.fingerprint.scans[0].classes.items()}
    known = LABEL[:, :3]
    assert counts == {value: np.count_nonzero(known == value) for value in (0, 1, 2)}
    assert not result.errors


def test_an_inspection_shows_what_was_annotated(tmp_path):
    write(tmp_path, CLASSES | {"ignore": 3}, label=with_ignored())
    (tmp_path / "annotated.json").write_text(json.dumps({"a": ["spleen"], "b": ["liver", "spleen"]}))
    source = read_dataset(tmp_path)
    inspection = inspect_scan(source, scan_dataset(source), None)
    assert inspection.ignored_share == pytest.approx(4 / 7)
    assert [item.annotated for item in inspection.classes] == [None, 1, None]
    (table,) = (table for table in inspection_tables(inspection) if table.title == "Classes")
    assert [row[1] for row in table.rows] == ["2", "1 of 1 annotated", "2"]
    assert "57.1 % of all voxels are ignored" in table.caption
    complete = read_dataset(write(tmp_path / "complete"))
    assert "ignored" not in inspection_tables(inspect_scan(complete, scan_dataset(complete), None))[2].caption


def test_a_label_without_any_annotated_voxel_is_refused(tmp_path):
    write(tmp_path, CLASSES | {"ignore": 3})
    empty = np.full_like(LABEL, 3)
    nib.save(nib.Nifti1Image(empty, np.eye(4)), tmp_path / "labelsTr" / "a.nii.gz")
    (error,) = scan_dataset(read_dataset(tmp_path)).errors
    assert error.problem == "has no annotated voxel"


@pytest.mark.parametrize(
    ("value", "words"),
    [(2, "--ignore-label 2: is also the class 'spleen'"), (0, "is also the class 'background'"), (-1, "above 0")],
)
def test_an_ignore_label_that_is_a_class_is_refused_in_one_line(tmp_path, value, words):
    with pytest.raises(ConfigError, match=words):
        read_dataset(write(tmp_path), ignore_label=value)


def test_an_ignore_label_that_contradicts_the_dataset_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="--ignore-label 4: differs from that of the dataset, 3"):
        read_dataset(write(tmp_path, CLASSES | {"ignore": 3}), ignore_label=4)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ({"background": 0, "liver": 1, "ignore": 1}, "gives value 1 to 'liver' and 'ignore'"),
        ({"background": 0, "ignore": 1, "liver": 2}, r"value 1, below that of 'liver' \(2\)"),
    ],
)
def test_an_ignore_label_in_the_wrong_place_of_dataset_json_is_refused(tmp_path, labels, words):
    with pytest.raises(DatasetError, match=words):
        read_dataset(write(tmp_path, labels))


def test_annotated_json_says_what_each_case_was_annotated_for(tmp_path):
    write(tmp_path)
    (tmp_path / "annotated.json").write_text(json.dumps({"a": ["spleen"], "b": ["liver", "spleen"]}))
    assert annotations(tmp_path) == {"a": Annotation(classes=(2,)), "b": COMPLETE}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"a": ["liver"], "b": ["kidney"]}, "case b names the unknown class 'kidney'"),
        ({"a": ["liver"], "b": ["liver"], "c": ["liver"]}, r"names 1 case\(s\) that the dataset lacks: c"),
        ({"a": ["liver"]}, "lacks 1 of 2 cases, e.g. b"),
        ({"a": [], "b": ["liver"]}, "case a is annotated for no class"),
        ({"a": 5, "b": ["liver"]}, "case a is annotated for no class"),
        (["a"], "is not an object of cases"),
    ],
)
def test_a_wrong_annotated_json_gives_one_line(tmp_path, content, words):
    write(tmp_path)
    (tmp_path / "annotated.json").write_text(json.dumps(content))
    with pytest.raises(DatasetError, match=words) as caught:
        read_dataset(tmp_path)
    assert "\n" not in str(caught.value)


def test_lists_have_a_column_of_annotated_classes(tmp_path):
    write(tmp_path)
    rows = [f"imagesTr/{name}_0000.nii.gz,labelsTr/{name}.nii.gz,{name}" for name in "ab"]
    (tmp_path / "list.csv").write_text(f"image,label,case,annotated\n{rows[0]},liver\n{rows[1]},\n")
    assert annotations(tmp_path / "list.csv") == {"a": Annotation(classes=(1,)), "b": COMPLETE}
    entry = {"image": "imagesTr/a_0000.nii.gz", "label": "labelsTr/a.nii.gz", "case": "a", "annotated": ["spleen"]}
    (tmp_path / "list.json").write_text(json.dumps({"cases": [entry], "classes": CLASSES | {"ignore": 3}}))
    assert annotations(tmp_path / "list.json") == {"a": Annotation(3, (2,))}
    (tmp_path / "annotated.json").write_text(json.dumps({"a": ["liver"], "b": ["liver"]}))
    with pytest.raises(DatasetError, match="is beside a list that has a column annotated"):
        read_dataset(tmp_path / "list.csv")


def test_voxels_of_a_class_that_was_not_annotated_are_unknown_and_noted(tmp_path):
    write(tmp_path)
    (tmp_path / "annotated.json").write_text(json.dumps({"a": ["spleen"], "b": ["liver", "spleen"]}))
    result = scan_dataset(read_dataset(tmp_path), cache_folder=tmp_path / "checked")
    first, second = ({value: size.voxels for value, size in one.classes.items()} for one in result.fingerprint.scans)
    assert second == {value: np.count_nonzero(value == LABEL) for value in (0, 1, 2)}
    assert first == second | {0: second[0] + second[1], 1: 0}
    assert "was not annotated: 1 (70 voxels)" in next(p.problem for p in result.problems if p.case == "a")
    (tmp_path / "annotated.json").unlink()
    again = scan_dataset(read_dataset(tmp_path), cache_folder=tmp_path / "checked")
    assert again.fingerprint.scans[0].classes[1].voxels == second[1]


@given(arrays(np.uint8, (4, 5), elements=st.integers(0, 3)), arrays(np.bool_, (4, 5)))
def test_labels_under_ignored_voxels_and_of_unknown_classes_do_not_matter(labels, ignored):
    annotation = Annotation(ignore=9, classes=(1, 3))
    shown = np.where(ignored, 9, labels)
    other = np.where(shown == 2, 0, shown)
    for function in (annotation.known_labels, lambda values: class_indices(values, (0, 1, 2, 3), annotation)):
        assert np.array_equal(function(shown), function(other))
    indices = class_indices(shown, (0, 1, 2, 3), annotation)
    assert np.array_equal(indices == IGNORED_INDEX, ignored)
    assert np.array_equal(indices[~ignored], np.where(labels == 2, 0, labels)[~ignored])


def test_nothing_is_copied_if_everything_is_known():
    assert COMPLETE.known_labels(LABEL) is LABEL
    assert COMPLETE.ignored_voxels(LABEL) is None


def organ(name, size):
    return scan(name, voxels=(900, 60, size))


def test_an_organ_that_many_cases_lack_is_questioned():
    scans = [organ(str(i), 40 + i) for i in range(7)] + [organ(f"x{i}", 0) for i in range(3)]
    found = questionable_absences(made_dataset(scans), scans)
    assert question(found) == "class 2 is absent from 3 of 10 cases. Absent, or not drawn?"


@pytest.mark.parametrize(
    "sizes",
    [
        [40, 41, 42, 43, 44, 45, 46, 47, 0, 0],  # too few cases to ask
        [40] * 30 + [0] * 4,  # too small a share
        [1, 4, 20, 300, 2000, 9, 70, 0, 0, 0],  # a lesion: volumes differ by orders of magnitude
        [40] * 10,
        [0] * 10,
    ],
)
def test_lesions_and_rare_absences_are_not_questioned(sizes):
    scans = [organ(str(index), size) for index, size in enumerate(sizes)]
    assert not questionable_absences(made_dataset(scans), scans)


def test_a_dataset_that_declares_what_was_drawn_is_not_questioned():
    scans = [organ(str(i), 40) for i in range(6)] + [organ(f"x{i}", 0) for i in range(6)]
    dataset, fingerprint = scanned(*scans)
    assert questionable_absences(dataset, scans)
    declared = with_absent_classes_unknown(dataset, fingerprint)
    assert not questionable_absences(declared, scans)
    assert [case.annotation.classes for case in declared.cases] == [None] * 6 + [(1,)] * 6


def test_a_label_of_fifty_times_the_median_is_noted():
    scans = [organ(str(i), 40) for i in range(8)] + [organ("faulty", 2200)]
    (note,) = size_notes(made_dataset(scans), scans)
    assert note.case == "faulty"
    assert note.severity == "note"
    assert note.problem == "has 2.2 mL of class 2, 55 times the median of 0.04 mL"


@given(st.lists(st.sets(st.integers(1, 4), min_size=1), min_size=8, max_size=30), st.integers(2, 4), st.integers(0, 3))
def test_folds_of_partly_annotated_cases_differ_by_one_patient_and_show_rare_classes(sets, count, seed):
    scans = [scan(f"c{i:02}", voxels=(900, *(30 * (v in own) for v in (1, 2, 3, 4)))) for i, own in enumerate(sets)]
    dataset, fingerprint = scanned(*scans)
    partial = with_absent_classes_unknown(dataset, fingerprint)
    folds = make_folds(partial, fingerprint, count, seed)
    if partial != dataset:
        turned = replace(partial, cases=partial.cases[::-1])
        assert make_folds(turned, fingerprint, count, seed) == folds
    sizes = [len(fold.patients) for fold in folds]
    assert sum(sizes) == len(sets)
    assert max(sizes) <= -(-len(sets) // count)
    frequency = {value: sum(value in own for own in sets) for value in (1, 2, 3, 4)}
    rarest = min((v for v in frequency if frequency[v]), key=lambda v: (frequency[v], v))
    shown = [any(rarest in sets[int(case[1:])] for case in fold.cases) for fold in folds]
    assert partial == dataset or sum(shown) == min(count, frequency[rarest])
