"""Results with warnings are not in `dicom/` until a person releases them; the report then lists the warnings."""

import json
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.dataset import FileDataset
from pydicom.sr.codedict import codes
from real_crop import SLICES, crop, model_for_the_crop, mutated, needs_the_real_study, save
from small_model import small_model

from pipeline.bundle.model import Model
from pipeline.inference.batch import Batch
from pipeline.inference.case_record import CaseRecord
from pipeline.inference.options import Options
from pipeline.inference.release_policy import ReleasePolicy
from pipeline.inference.sources import find_jobs

pytestmark = pytest.mark.usefixtures("quick_pictures")
INCOMPLETE = "32 images expected, 29 here: the series is not complete"


def predict(source: Path, out: Path, model: Model | None = None, **policy: bool) -> CaseRecord:
    model = model or model_for_the_crop()
    (record,) = Batch(model, out, Options(release=ReleasePolicy(**policy))).run(find_jobs(source, model.channels))
    return record


def lose_the_last_three(datasets: list[FileDataset]) -> list[FileDataset]:
    return datasets[:-3]


def dicom_files(out: Path) -> list[str]:
    return sorted(path.name.split("_")[-1] for path in (out / "dicom").glob("*"))


def comments(path: Path) -> list[str]:
    """Return the comments of a report, which precede its measurements."""
    *before, measurements = hd.sr.srread(path).content[0].ContentSequence
    assert measurements.name == codes.DCM.ImagingMeasurements
    return [str(item.TextValue) for item in before if item.ValueType == "TEXT" and item.name == codes.DCM.Comment]


@needs_the_real_study
def test_a_held_result_is_written_once_it_is_released_and_stays_released(tmp_path: Path) -> None:
    source, out = mutated(tmp_path / "in", lose_the_last_three), tmp_path / "out"
    held = predict(source, out)
    assert (held.status, held.output, held.warnings) == ("held", "", (INCOMPLETE,))
    assert dicom_files(out) == []
    assert (out / "masks" / f"{held.case}.nii.gz").exists()
    journal = (out / "journal.jsonl").read_text()
    again = predict(source, out)
    assert (again.status, again.finished) == ("held", held.finished)
    assert (out / "journal.jsonl").read_text() == journal

    released = predict(source, out, release_warned=True)
    assert (released.status, released.released, released.warnings) == ("done", True, (INCOMPLETE,))
    assert dicom_files(out) == ["seg.dcm", "sr.dcm"]
    assert comments(out / "dicom" / f"{held.case}_sr.dcm") == [f"Warning: {INCOMPLETE}"]
    assert predict(source, out).status == "skipped"
    assert dicom_files(out) == ["seg.dcm", "sr.dcm"]


@needs_the_real_study
def test_a_released_seg_and_report_are_read_by_others(tmp_path: Path) -> None:
    source = mutated(tmp_path / "in", lose_the_last_three)
    record = predict(source, tmp_path / "out", release_warned=True)
    mask = sitk.GetArrayFromImage(sitk.ReadImage(tmp_path / "out" / "masks" / f"{record.case}.nii.gz"))
    seg = hd.seg.segread(tmp_path / "out" / record.output)
    frames = seg.get_volume(combine_segments=True).array
    assert {value: (frames == value).sum() for value in (1, 2)} == {value: (mask == value).sum() for value in (1, 2)}
    report = hd.sr.srread(tmp_path / "out" / "dicom" / f"{record.case}_sr.dcm")
    volumes = [
        group.get_measurements(name=codes.SCT.Volume)[0].value
        for group in report.content.get_volumetric_roi_measurement_groups()
    ]
    assert volumes == pytest.approx(list(record.volumes_ml.values()), abs=1e-4)


@needs_the_real_study
def test_a_result_without_warnings_has_a_report_without_comments(tmp_path: Path) -> None:
    record = predict(save(tmp_path / "in", crop()), tmp_path / "out")
    assert record.status == "done"
    assert comments(tmp_path / "out" / "dicom" / f"{record.case}_sr.dcm") == []


@needs_the_real_study
def test_a_volume_outside_the_training_ranges_is_held_and_its_report_says_so(tmp_path: Path) -> None:
    source = save(tmp_path / "in", crop())
    record = predict(source, tmp_path / "out", small_model())
    assert record.status == "held"
    assert dicom_files(tmp_path / "out") == []
    assert "size back-front 51 voxels, trained on 16 to 32" in record.warnings
    predict(source, tmp_path / "out", small_model(), release_warned=True)
    told = comments(tmp_path / "out" / "dicom" / f"{record.case}_sr.dcm")
    assert told == [f"Warning: {warning}" for warning in record.warnings]


@needs_the_real_study
def test_strict_refuses_before_inference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, out = mutated(tmp_path / "in", lose_the_last_three), tmp_path / "out"
    assert predict(source, out).status == "held"
    monkeypatch.setattr("pipeline.inference.case_steps.score", lambda *_: pytest.fail("the network was asked"))
    record = predict(source, out, strict=True)
    assert record.status == "failed"
    assert record.reason == f"refused by --strict: {INCOMPLETE}"
    assert not list((out / "masks").iterdir())


@needs_the_real_study
def test_a_series_that_loses_slices_later_loses_its_released_files(tmp_path: Path) -> None:
    source, out = save(tmp_path / "in", crop()), tmp_path / "out"
    assert predict(source, out).status == "done"
    for number in range(SLICES - 3, SLICES):
        (source / f"{number:02d}.dcm").unlink()
    assert predict(source, out).status == "held"
    assert dicom_files(out) == []


@needs_the_real_study
def test_a_warned_result_of_an_earlier_version_does_not_count_as_released(tmp_path: Path) -> None:
    source, out = mutated(tmp_path / "in", lose_the_last_three), tmp_path / "out"
    predict(source, out, release_warned=True)
    journal = out / "journal.jsonl"
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    for line in lines:
        del line["released"]
    journal.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert predict(source, out).status == "held"
    assert dicom_files(out) == []


@needs_the_real_study
def test_a_held_study_can_be_located_by_place_and_uid(tmp_path: Path) -> None:
    mutated(tmp_path / "in" / "ward" / "7", lose_the_last_three)
    predict(tmp_path / "in", tmp_path / "out")
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    (case,) = manifest["cases"]
    assert manifest["counts"] == {"done": 0, "held": 1, "failed": 0, "skipped": 0}
    assert (case["place"], case["study_uid"]) == ("ward/7", str(crop()[0].StudyInstanceUID))
    assert case["output"] is None
    page = (tmp_path / "out" / "index.html").read_text()
    assert "1 held" in page
    assert INCOMPLETE in page


@needs_the_real_study
def test_an_odd_result_is_held_although_the_image_is_as_in_training(tmp_path: Path) -> None:
    values = np.concatenate([dataset.pixel_array.ravel() for dataset in crop()])
    ranges = {
        "spacing_mm": [(1.0, 1.0)] * 3,
        "shape": [(30, 60)] * 3,
        "intensity": [(float(values.min()), float(np.percentile(values, 20)))],
    }
    source = save(tmp_path / "in", crop())
    for policy in ({}, {"strict": True}):
        record = predict(source, tmp_path / "out", small_model(fingerprint=ranges), **policy)
        assert record.status == "held"
        assert "median intensity of MR in the result" in record.warnings[0]
    assert pydicom.dcmread(source / "00.dcm").PatientID not in repr(record)
