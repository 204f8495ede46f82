import json

import nibabel as nib
import numpy as np
import pytest
from fake_study import SPACING_MM, write_fake_study

from pipeline.records.reference_check import ReferenceCheck
from pipeline.records.table import read_table, write_table
from pipeline.references import check as references
from pipeline.references.changes import Change
from pipeline.report.build import build_report


def moved(labels, shift):
    return Change("moved", shift).applied_to(labels)


def study_with(folder, change, *, case="case_03", **changes):
    """A small study in which the label of one case was changed."""
    study = write_fake_study(
        folder, **{"folds": 2, "seeds": 1, "cases": 8, "size": 24, "noise": (0.4, 0.4, 0.4), **changes}
    )
    path = folder / "data" / f"{case}_label.nii.gz"
    image = nib.load(path)
    nib.save(nib.Nifti1Image(change(np.asarray(image.dataobj)), image.affine), path)
    return study


def page_of(study):
    return study.report.read_text(encoding="utf-8")


@pytest.mark.parametrize(("case", "towards"), [("case_03", 1), ("case_04", -1)])
def test_a_displaced_reference_is_named_with_the_shift_back(tmp_path, case, towards):
    """Arrays of every other case run from right to left: the way is said in the patient's directions."""
    study = study_with(tmp_path, lambda labels: moved(labels, (2, -3, 0)), case=case)
    verdict = build_report(study)
    (entry,) = verdict.references.doubtful
    assert verdict.references.checked == 8
    assert (entry.case, entry.kind) == (case, "moved")
    assert entry.shift_mm_ras == pytest.approx([-2 * towards * SPACING_MM[0], 3 * SPACING_MM[1], 0])
    assert entry.dice < entry.dice_changed
    words = f"moved 2.0 mm {'left' if towards > 0 else 'right'}, 3.6 mm anterior"
    assert entry.words == words
    assert any(f"after a change: {case} ({words}). Look at them" in caveat for caveat in verdict.caveats)
    assert json.loads(study.verdict.read_text(encoding="utf-8")) == verdict.to_json()
    page = page_of(study)
    assert "References to look at" in page
    assert words in page


def test_exchanged_classes_have_their_names(tmp_path):
    study = study_with(tmp_path, lambda labels: np.array([0, 2, 1], labels.dtype)[labels])
    (entry,) = build_report(study).references.doubtful
    assert entry.kind == "exchanged"
    assert entry.words == "Anterior and Posterior exchanged"


def test_pictures_show_the_doubtful_reference_before_and_after(tmp_path):
    plain, displaced = (
        study_with(tmp_path / name, lambda labels, by=by: moved(labels, (by, 0, 0)))
        for name, by in (("plain", 0), ("displaced", 3))
    )
    for study in (plain, displaced):
        build_report(study)
    assert page_of(displaced).count('class="overlay"') == page_of(plain).count('class="overlay"') + 2 * 3


def test_references_in_place_are_reported_as_checked(tmp_path):
    study = study_with(tmp_path, lambda labels: labels)
    verdict = build_report(study)
    assert verdict.references == ReferenceCheck(checked=8)
    assert not any("after a change" in caveat for caveat in verdict.caveats)
    page = page_of(study)
    assert "The references of the 8 cases with the lowest Dice" in page
    assert "References to look at" not in page


def test_many_doubtful_references_are_counted(tmp_path):
    study = write_fake_study(tmp_path, folds=2, seeds=1, cases=8, size=24, noise=(0.4, 0.4, 0.4))
    for path in (tmp_path / "data").glob("*_label.nii.gz"):
        image = nib.load(path)
        nib.save(nib.Nifti1Image(moved(np.asarray(image.dataobj), (0, 3, 0)), image.affine), path)
    verdict = build_report(study)
    assert len(verdict.references.doubtful) == 8
    assert verdict.references.without == ""
    assert any(" and 3 more. Look at them" in caveat for caveat in verdict.caveats)


def test_references_with_missing_files_are_not_checked(tmp_path):
    study = study_with(tmp_path, lambda labels: moved(labels, (3, 0, 0)))
    (tmp_path / "data" / "case_03_label.nii.gz").unlink()
    for path in study.root.glob("runs/*/*/predictions/case_02.nii.gz"):
        path.write_bytes(b"not an image")
    assert build_report(study).references == ReferenceCheck(checked=6)


def test_no_case_is_started_after_enough_voxels_were_read(tmp_path, monkeypatch):
    of_a_case = 4 * 24**3  # a reference and three predictions
    monkeypatch.setattr(references, "MOST_VOXELS", 2 * of_a_case + 1)
    study = study_with(tmp_path, lambda labels: labels)
    assert build_report(study).references.checked == 3


def test_a_single_loss_checks_no_reference(tmp_path):
    study = study_with(tmp_path, lambda labels: moved(labels, (3, 0, 0)), losses=("dice",), noise=(0.4,))
    assert build_report(study).references == ReferenceCheck(checked=0)


def test_the_verdict_without_doubtful_references_is_stated(tmp_path):
    """As it is where they do not matter, and in words where they decide."""
    study = study_with(tmp_path / "same", lambda labels: moved(labels, (3, 0, 0)))
    assert build_report(study).references.without == "Without them the verdict is the same."
    assert "Without them the verdict is the same." in page_of(study)
    study = study_with(
        tmp_path / "other", lambda labels: moved(labels, (3, 0, 0)), losses=("dice", "ce"), noise=(0.4, 0.4), seeds=2
    )
    for path in study.root.glob("runs/*/*/cases.csv"):
        table = read_table(path)
        scatter = 0.001 * table["case"].str[-1].astype(int)
        gain = np.where(table["case"] == "case_03", 0.4, 0.02 + scatter) * (table["loss"] == "ce")
        table["value"] = np.where(table["metric"] == "dice", 0.5 + gain, table["value"])
        write_table(path, table)
    verdict = build_report(study)
    assert verdict.references.without.startswith("Without them: Use ce: on 7 cases")
