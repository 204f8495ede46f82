"""A batch on a folder of DICOM studies writes SEG, lists refusals and names no patient."""

import json
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
from small_model import head, small_model

sys.path.insert(0, str(Path(__file__).parent / "dicom"))
from dicom_series import slices, uid, write

from pipeline.inference.batch import Batch
from pipeline.inference.options import Options
from pipeline.inference.sources import find_jobs

CANARY = {"PatientName": "Canary^Jane", "PatientID": "CANARY2", "SeriesDescription": "canary3", "StudyID": "CANARY4"}

pytestmark = pytest.mark.usefixtures("quick_pictures")


@pytest.fixture
def studies(tmp_path):
    """Write a good study, one without a slice in the middle, and one with two candidate volumes."""
    array = np.ascontiguousarray(head().transpose(2, 1, 0))
    root = tmp_path / "in"
    grid = {"gap_mm": 1.0, "spacing": (1.0, 1.0), "tags": CANARY}
    write(root / "Canary Jane" / "good", slices(array, study="good", **grid))
    broken = slices(array, study="broken", series="gap", **grid)
    write(root / "Canary Jane" / "broken", [*broken[:7], *broken[8:]])
    for series in ("one", "two"):
        write(root / "twice" / series, slices(array, study="twice", series=series, **grid))
    return root


def test_a_study_with_a_gap_and_one_with_two_candidates_fail_beside_a_good_study(tmp_path, studies):
    model = small_model()
    jobs = find_jobs(studies, model.channels)
    out = tmp_path / "out"
    records = Batch(model, out, Options(quarantine=tmp_path / "quarantine")).run(jobs)
    assert sorted(record.status for record in records) == ["done", "failed", "failed"]
    (done,) = (record for record in records if record.status == "done")
    reasons = " ".join(record.reason for record in records)
    assert "2 candidate volumes" in reasons
    assert "mm" in reasons
    segmentation = pydicom.dcmread(out / done.output)
    assert segmentation.Modality == "SEG"
    assert done.volumes_ml["shell"] > 0
    assert {Path(name).parent.name for name in done.files} == {"masks", "qc", "dicom"}
    kept = [path for path in (tmp_path / "quarantine").rglob("*") if path.is_file()]
    slices_of_one = len(head()[0, 0])
    assert len(kept) == (slices_of_one - 1) + 2 * slices_of_one
    assert not (out / ".work").exists()
    failed = json.loads((out / "manifest.json").read_text())["cases"]
    places = {case["reason"][:20]: (case["place"], case["study_uid"]) for case in failed if case["status"] == "failed"}
    assert sorted(places.values()) == sorted([("*/broken", uid("broken")), ("twice", uid("twice"))])

    for path in [*out.rglob("*"), *kept]:
        assert "canary" not in path.name.lower()
        if path.is_file() and path.suffix != ".dcm":
            assert b"canary" not in path.read_bytes().lower(), path

    again = Batch(model, out).run(find_jobs(studies, model.channels))
    assert [record.status for record in again if record.case == done.case] == ["skipped"]
    other = Batch(model, tmp_path / "other").run(find_jobs(studies, model.channels))
    assert [record.files for record in other if record.case == done.case] == [done.files]


def test_one_folder_may_hold_nifti_and_dicom(tmp_path, studies):
    import nibabel as nib

    nib.save(nib.Nifti1Image(head(), np.eye(4)), studies / "scan.nii.gz")
    jobs = find_jobs(studies, ("MR",))
    assert [job.id for job in jobs if job.dicom is None] == ["scan"]
    assert len(jobs) == 4
