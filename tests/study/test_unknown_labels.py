"""Whole small studies on labels with ignored voxels, and on cases that were annotated for some classes only."""

import json
import shutil
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from pipeline.bundle.source import _dataset
from pipeline.data.datalists import read_dataset
from pipeline.errors import ConfigError, RecordError
from pipeline.records.study import read_study, run_folders
from pipeline.records.table import read_table
from pipeline.report.build import build_report
from pipeline.study.request import StudyRequest
from pipeline.study.run import run_study

CASES = 6
IGNORE = 3
PARTIAL = {f"case{i}": ["ball"] if i % 2 else ["ball", "cube"] for i in range(CASES)}


def make(root, change=lambda index, label: label, labels=None):
    """Write cases of a ball (1) and a cube (2) in noise."""
    (root / "imagesTr").mkdir(parents=True)
    (root / "labelsTr").mkdir()
    for index in range(CASES):
        random = np.random.default_rng(index)
        shape = (16, 18, 16 + index % 3)
        grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
        label = (np.linalg.norm(grid - np.array([5, 8, 8]), axis=-1) < 4).astype(np.uint8)
        label[11:14, 6:12, 5:10] = 2
        image = (label + 0.3 * random.standard_normal(shape)).astype(np.float32)
        nib.save(nib.Nifti1Image(image, np.eye(4)), root / "imagesTr" / f"case{index}_0000.nii.gz")
        nib.save(nib.Nifti1Image(change(index, label), np.eye(4)), root / "labelsTr" / f"case{index}.nii.gz")
    description = {"channel_names": {"0": "MRI"}, "labels": labels or {"background": 0, "ball": 1, "cube": 2}}
    (root / "dataset.json").write_text(json.dumps(description | {"file_ending": ".nii.gz"}))
    return root


def scribbles(index, label):
    ignored = np.random.default_rng(index).random(label.shape) < 0.7
    return np.where(ignored, IGNORE, label).astype(np.uint8)


def request(dataset, out, **options):
    settings = {"losses": "ce,dice", "folds": 2, "budget": "10steps", "learning_rates": (0.01,), "precision": "float32"}
    return StudyRequest(dataset=dataset, out=out, **(settings | {"jobs": 1, "track": False} | options))


def carry_out(dataset, out, **options):
    return run_study(request(dataset, out, **options), in_process=True)


@pytest.fixture(scope="module")
def ignoring(tmp_path_factory):
    root = tmp_path_factory.mktemp("ignoring")
    dataset = make(root / "data", scribbles, {"background": 0, "ball": 1, "cube": 2, "ignore": IGNORE})
    return carry_out(dataset, root / "out")


@pytest.fixture(scope="module")
def partial(tmp_path_factory):
    """Two studies that differ in the labels of a class in the cases that were not annotated for it."""
    root = tmp_path_factory.mktemp("partial")
    studies = []
    for name, value in (("undrawn", 0), ("halfway", 2)):

        def change(index, label, value=value):
            half = label.copy()
            if index % 2:
                half[:13][label[:13] == 2] = value
                half[13:][label[13:] == 2] = 0
            return half

        dataset = make(root / name, change)
        (dataset / "annotated.json").write_text(json.dumps(PARTIAL))
        studies.append(carry_out(dataset, root / f"{name}_study"))
    return studies


def test_ignored_voxels_leave_a_study_with_finite_losses_and_scores(ignoring):
    table = read_table(ignoring.cases)
    assert set(table["state"]) <= {"ok", "missed", "collapsed"}
    record = read_study(ignoring)
    assert record.dataset.ignore_label == IGNORE
    assert record.notes[0].startswith("voxels with the ignore label (3) count in no loss and no metric")
    assert any("ignore label (3)" in caveat for caveat in build_report(ignoring).caveats)


def test_the_labels_of_a_class_that_was_not_annotated_change_no_training_score_or_verdict(partial):
    one, other = partial
    assert one.cases.read_bytes() == other.cases.read_bytes()
    for run, again in zip(run_folders(one), run_folders(other), strict=True):
        first, second = (json.loads(folder.record.read_text()) for folder in (run, again))
        for name in ("weights_hash", "feed_hash", "mean_dice"):
            assert first[name] == second[name]
        assert run.thresholds.read_bytes() == again.thresholds.read_bytes()
    verdicts = [build_report(study).to_json() for study in partial]
    for verdict in verdicts:
        for name in ("study", "name", "created", "id"):
            verdict.pop(name, None)
    assert verdicts[0]["pairs"] == verdicts[1]["pairs"]
    assert verdicts[0]["verdict"] == verdicts[1]["verdict"]


def test_a_class_has_no_value_in_a_case_that_was_not_annotated_for_it(partial):
    table = read_table(partial[0].cases)
    unknown = table[table["state"] == "not_annotated"]
    assert set(unknown["class"]) == {"cube"}
    assert sorted(set(unknown["case"])) == ["case1", "case3", "case5"]
    assert unknown["value"].isna().all()
    known = table[(table["class"] == "cube") & (table["state"] != "not_annotated")]
    assert sorted(set(known["case"])) == ["case0", "case2", "case4"]


def test_an_export_knows_what_was_annotated(partial, ignoring):
    for study in (partial[0], ignoring):
        record = read_study(study)
        again = _dataset(record)
        original = read_dataset(study.root.parent / ("undrawn" if study is partial[0] else "data"))
        assert {c.id: c.annotation for c in again.cases} == {c.id: c.annotation for c in original.cases}
    assert "cube in 3" in read_study(partial[0]).notes[0]


def test_a_study_is_not_continued_with_other_annotated_classes(partial, tmp_path):
    study = tmp_path / "study"
    shutil.copytree(partial[0].root, study)
    dataset = partial[0].root.parent / "undrawn"
    carry_out(dataset, study)  # nothing has changed
    annotated = dataset / "annotated.json"
    before = annotated.read_text()
    annotated.write_text(json.dumps(PARTIAL | {"case1": ["ball", "cube"]}))
    try:
        with pytest.raises(RecordError, match=r"other annotated classes of 1 case\(s\), e.g. case1"):
            carry_out(dataset, study)
    finally:
        annotated.write_text(before)


def test_an_ignore_label_without_ignored_voxels_and_full_lists_change_nothing(tmp_path):
    plain = carry_out(make(tmp_path / "plain"), tmp_path / "plain_study")
    assert "notes" not in json.loads(plain.settings.read_text())
    dataset = make(tmp_path / "full", labels={"background": 0, "ball": 1, "cube": 2, "ignore": IGNORE})
    (dataset / "annotated.json").write_text(json.dumps({case: ["cube", "ball"] for case in PARTIAL}))
    full = carry_out(dataset, tmp_path / "full_study")
    assert plain.cases.read_bytes() == full.cases.read_bytes()


def test_a_loss_on_distances_and_other_trainers_are_refused_before_training(tmp_path):
    dataset = make(tmp_path / "data", scribbles)
    with pytest.raises(ConfigError, match="--losses boundary: needs the label of every voxel"):
        carry_out(dataset, tmp_path / "out", losses="ce,boundary", ignore_label=IGNORE)
    assert not (tmp_path / "out" / "study.json").exists()


def absent_in_most(index, label):
    return np.where(label == 2, 0, label).astype(np.uint8) if index < 4 else label


def test_a_class_that_most_cases_lack_needs_an_answer(tmp_path):
    dataset = make(tmp_path / "data", absent_in_most)
    with pytest.raises(ConfigError, match=r"cube is absent from 4 of 6 cases. Absent, or not drawn\? Give"):
        carry_out(dataset, tmp_path / "out")
    study = carry_out(dataset, tmp_path / "absent", losses="ce", absent_means="absent")
    assert "not_annotated" not in set(read_table(study.cases)["state"])
    assert "absent_means" not in json.loads(study.settings.read_text())["request"]
    study = carry_out(dataset, tmp_path / "unknown", losses="ce", absent_means="unknown")
    table = read_table(study.cases)
    assert len(set(table[table["state"] == "not_annotated"]["case"])) == 4
    assert json.loads(study.settings.read_text())["request"]["absent_means"] == "unknown"
    (dataset / "annotated.json").write_text(json.dumps(PARTIAL))
    with pytest.raises(ConfigError, match="--absent-means unknown: contradicts the dataset"):
        carry_out(dataset, tmp_path / "both", absent_means="unknown")


def test_an_answer_is_one_of_two_words(tmp_path):
    with pytest.raises(ConfigError, match="--absent-means maybe: must be absent or unknown"):
        replace(request(tmp_path, tmp_path), absent_means="maybe")
