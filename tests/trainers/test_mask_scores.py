"""All metrics of nnU-Net's masks are computed once, and read again while masks and references are unchanged."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from fake_results import write_arm

from pipeline.errors import RecordError
from pipeline.metrics.evaluation import evaluate_folders
from pipeline.trainers.nnunet import mask_scores
from pipeline.trainers.nnunet.mask_scores import MaskOptions
from pipeline.trainers.nnunet.records import read_results
from pipeline.trainers.nnunet.results import find_arms
from pipeline.trainers.trainings import Source

CASES = 6


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return write_results(tmp_path)


def write_results(root: Path, **options: object) -> Path:
    """Write one arm with masks of two concentric balls, and references; return the folder of the results."""
    dataset = root / "results" / "Dataset001_Livers"
    arm = write_arm(dataset, "nnUNetTrainer", cases=CASES, **options)
    for case in range(CASES):
        save(root / "labelsTr" / f"case_{case}.nii.gz", 6, 3)
        save(arm / f"fold_{case % 2}" / "validation" / f"case_{case}.nii.gz", 5, 2 + case % 2)
    return dataset


def save(path: Path, radius: float, inner: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    grid = np.stack(np.meshgrid(*[np.arange(16)] * 3, indexing="ij"), -1)
    distance = np.linalg.norm(grid - 7.5, axis=-1)
    mask = (distance < radius).astype(np.uint8) + (distance < inner)
    nib.save(nib.Nifti1Image(mask, np.diag([1.0, 2.0, 3.0, 1.0])), path)


def read(dataset: Path, skip_bad: bool = False) -> tuple[Source, list[int]]:
    """Return the results, and the number of all cases to measure as reported after each of them."""
    measured: list[int] = []
    root = dataset.parents[1]
    options = MaskOptions(root / "labelsTr", root / "out" / "scores.json", 1, lambda _, total: measured.append(total))
    return read_results(find_arms([dataset]), skip_bad, options), measured


def table(source: Source) -> pd.DataFrame:
    frame = pd.concat([training.table for training in source.trainings])
    return frame.sort_values(["case", "class", "metric"], ignore_index=True)


def test_scores_of_masks_are_those_of_evaluate(results: Path) -> None:
    source, measured = read(results)
    assert measured == [CASES] * CASES
    for training in source.trainings:
        masks = results / "nnUNetTrainer__nnUNetPlans__3d_fullres" / f"fold_{training.key.fold}" / "validation"
        references = results.parents[1] / "labelsTr"
        other = evaluate_folders(references, masks, {1: "liver", 2: "tumor"}, cases=training.cases, workers=1)
        expected = other.table("nnUNetTrainer", training.key.fold)
        pd.testing.assert_frame_equal(training.table, expected)


def test_unchanged_masks_are_not_measured_again(results: Path) -> None:
    first, _ = read(results)
    again, measured = read(results)
    assert measured == []
    pd.testing.assert_frame_equal(table(again), table(first))


def test_several_processes_give_the_same_scores(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, _ = read(results)
    monkeypatch.setattr(mask_scores, "MINIMUM_POOL_CASES", 2)
    options = MaskOptions(results.parents[1] / "labelsTr", workers=2)
    pd.testing.assert_frame_equal(table(read_results(find_arms([results]), masks=options)), table(one))


def test_only_the_case_of_a_changed_mask_is_measured_again(results: Path) -> None:
    first, _ = read(results)
    save(results / "nnUNetTrainer__nnUNetPlans__3d_fullres" / "fold_1" / "validation" / "case_3.nii.gz", 6, 3)
    again, measured = read(results)
    assert measured == [1]
    before, after = dice_of(first), dice_of(again)
    assert (after["case_3"] == 1).all()
    pd.testing.assert_series_equal(after.drop("case_3"), before.drop("case_3"))


def dice_of(source: Source) -> pd.Series:
    return table(source).query("metric == 'dice'").set_index(["case", "class"])["value"]


def test_a_changed_reference_or_class_is_measured_again(results: Path) -> None:
    read(results)
    save(results.parents[1] / "labelsTr" / "case_0.nii.gz", 5, 3)
    assert read(results)[1] == [1]
    path = results / "nnUNetTrainer__nnUNetPlans__3d_fullres" / "dataset.json"
    path.write_text(path.read_text().replace("tumor", "lesion"))
    source, measured = read(results)
    assert measured == [CASES] * CASES
    assert set(table(source)["class"]) == {"liver", "lesion"}


@pytest.mark.parametrize("content", ["", '{"cases": {"a": {"finger', '{"cases": {"a": 1}}', "[]"])
def test_a_store_that_cannot_be_read_is_written_anew(results: Path, content: str) -> None:
    first, _ = read(results)
    store = results.parents[1] / "out" / "scores.json"
    store.write_text(content)
    again, measured = read(results)
    assert measured == [CASES] * CASES
    pd.testing.assert_frame_equal(table(again), table(first))
    assert len(json.loads(store.read_text())["cases"]) == CASES


def test_regions_are_unions_of_labels(tmp_path: Path) -> None:
    labels = {"background": 0, "whole": [1, 2], "core": [2]}
    dataset = write_results(tmp_path, labels=labels, classes=("(1, 2)", "2"))
    source, _ = read(dataset)
    values = table(source).query("metric == 'dice' and case == 'case_0'").set_index("class")["value"]
    balls = {radius: count(radius) for radius in (2, 3, 5, 6)}
    assert values["whole"] == pytest.approx(2 * balls[5] / (balls[5] + balls[6]))
    assert values["core"] == pytest.approx(2 * balls[2] / (balls[2] + balls[3]))
    assert (table(source).query("metric == 'hausdorff_mm' and `class` == 'whole'")["value"] > 0).all()


def count(radius: float) -> int:
    """Return the voxels of a ball in the middle of the grid."""
    grid = np.stack(np.meshgrid(*[np.arange(16)] * 3, indexing="ij"), -1)
    return int((np.linalg.norm(grid - 7.5, axis=-1) < radius).sum())


def test_voxels_with_the_ignore_label_count_in_no_metric(tmp_path: Path) -> None:
    labels = {"background": 0, "liver": 1, "tumor": 2}
    plain = table(read(write_results(tmp_path / "plain", labels=labels))[0])
    dataset = write_results(tmp_path / "ignoring", labels=labels | {"ignore": 3})
    assert table(read(dataset)[0]).equals(plain)  # no voxel is ignored yet
    for path in (tmp_path / "ignoring" / "labelsTr").iterdir():
        reference = nib.load(path)
        values = np.asarray(reference.dataobj).astype(np.uint8)
        values[8:] = 3
        nib.save(nib.Nifti1Image(values, reference.affine), path)
    ignoring, _ = read(dataset)
    scores = table(ignoring)
    assert ignoring.dataset.classes == {"0": "background", "1": "liver", "2": "tumor"}
    assert set(scores["class"]) == {"liver", "tumor"}
    assert not scores["value"].equals(plain["value"])


@pytest.mark.parametrize("change", ["missing", "broken"])
def test_a_mask_that_cannot_be_used_is_one_line_or_a_gap(results: Path, change: str) -> None:
    mask = results / "nnUNetTrainer__nnUNetPlans__3d_fullres" / "fold_1" / "validation" / "case_3.nii.gz"
    mask.unlink() if change == "missing" else mask.write_bytes(mask.read_bytes()[:40])
    with pytest.raises(RecordError) as refused:
        read(results)
    problem = (
        f"{mask.parent}: lacks the mask or reference of 1 cases, e.g. case_3" if change == "missing" else str(mask)
    )
    assert str(refused.value).startswith(problem)
    assert "\n" not in str(refused.value)
    source, _ = read(results, skip_bad=True)
    assert [gap.name for gap in source.gaps] == ["nnUNetTrainer, fold 1"]
    assert [training.key.fold for training in source.trainings] == [0]


def test_references_of_nnunet_are_used_if_all_masks_are_there(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = results.parents[1]
    (root / "preprocessed" / results.name).mkdir(parents=True)
    (root / "labelsTr").rename(root / "preprocessed" / results.name / "gt_segmentations")
    monkeypatch.delenv("nnUNet_preprocessed", raising=False)
    without = read_results(find_arms([results]))
    assert without.measured == "counts of voxels in summary.json"
    assert "nsd" not in set(table(without)["metric"])
    monkeypatch.setenv("nnUNet_preprocessed", str(root / "preprocessed"))
    source = read_results(find_arms([results]))
    assert source.measured == f"masks, against {root / 'preprocessed' / results.name / 'gt_segmentations'}"
    assert "nsd" in set(table(source)["metric"])
    (results / "nnUNetTrainer__nnUNetPlans__3d_fullres" / "fold_1" / "validation" / "case_3.nii.gz").unlink()
    assert read_results(find_arms([results])).measured == without.measured
