"""A round trip through Orthanc on the loopback: C-STORE of a study, SEG and report, checked by REST."""

import importlib.util
import io
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicom_series import MODEL, REAL_STUDY, ROOT, pixels, slices, write

from pipeline.inference.dicom import find_series, to_nifti, write_results

ORTHANC = shutil.which("Orthanc", path="/usr/sbin:/usr/local/sbin:/usr/bin")

pytestmark = [
    pytest.mark.pacs,
    pytest.mark.skipif(ORTHANC is None or shutil.which("storescu") is None, reason="no Orthanc or dcmtk here"),
]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("orthanc_roundtrip", ROOT / "scripts" / "orthanc_roundtrip.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def above_95_percent(study: Path, out: Path) -> Sequence[Path]:
    """Segment the brightest twentieth of the voxels of the selected series."""
    rule = {"name": "crop", "conditions": {"Modality": "MR", "SeriesDescription": "(?i)hippo|volume"}}
    (case,) = find_series(study, [rule])
    values = np.asarray(nib.load(to_nifti(case, out / "volume.nii.gz")).dataobj)
    mask = (values > np.percentile(values, 95)).astype(np.uint8)
    return write_results(case, mask, MODEL, {"anterior": float(mask.sum() / 1000), "posterior": 0.0}, out)


def voxels_of_seg(seg: pydicom.Dataset, grid: sitk.Image, values: dict[str, int]) -> np.ndarray:
    """Return the mask (X, Y, Z) of a SEG on a grid, by pydicom and ITK alone.

    Each pixel is placed by PS3.3, C.7.6.2.1.1, and must lie on the centre of a voxel. `values` are the label values by
    the label of the segment, lower case.
    """
    mask = np.zeros(grid.GetSize(), np.uint8)
    shared = seg.SharedFunctionalGroupsSequence[0]
    along_row, along_column = np.reshape(shared.PlaneOrientationSequence[0].ImageOrientationPatient, (2, 3)).astype(
        float
    )
    rows_mm, columns_mm = map(float, shared.PixelMeasuresSequence[0].PixelSpacing)
    axes_mm = np.reshape(grid.GetDirection(), (3, 3)) * grid.GetSpacing()
    by_number = {item.SegmentNumber: values[item.SegmentLabel.casefold()] for item in seg.SegmentSequence}
    frames = seg.pixel_array.reshape(-1, seg.Rows, seg.Columns)
    for frame, groups in zip(frames, seg.PerFrameFunctionalGroupsSequence, strict=True):
        value = by_number[groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber]
        first = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
        row, column = np.nonzero(frame)
        points = first + np.outer(column * columns_mm, along_row) + np.outer(row * rows_mm, along_column)
        places = (points - grid.GetOrigin()) @ np.linalg.inv(axes_mm).T
        index = tuple(np.round(places).astype(int).T)
        assert np.abs(places.T - index).max(initial=0) < 0.02
        assert not mask[index].any()
        mask[index] = value
    return mask


def volumes_in(item: pydicom.Dataset) -> list[float]:
    """Return all numbers in mL below an item of a structured report, in their order."""
    found = [volume for part in item.get("ContentSequence", ()) for volume in volumes_in(part)]
    for measured in item.get("MeasuredValueSequence", ()):
        assert measured.MeasurementUnitsCodeSequence[0].CodeValue == "mL"
        found.append(float(measured.NumericValue))
    return found


@pytest.fixture(scope="module")
def real_or_made_up_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study of the hippocampus; where it is absent, one of the same two sizes with bright balls in the smaller."""
    if REAL_STUDY.is_dir():
        return REAL_STUDY
    root = tmp_path_factory.mktemp("study")
    grid = np.stack(np.meshgrid(*map(np.arange, (32, 51, 35)), indexing="ij"), -1)
    crop = pixels((32, 51, 35)) // 8
    for centre, added in (((16, 20, 17), 600), ((16, 34, 17), 1200)):
        crop[np.linalg.norm(grid - centre, axis=-1) < 7] += added
    write(root / "crop", slices(crop, series="crop", gap_mm=1.0, spacing=(1.0, 1.0)), names="crop{}.dcm")
    write(root / "whole", slices(pixels((22, 64, 64)), series="whole", gap_mm=7.0), names="whole{}.dcm")
    return root


def test_the_command_segments_a_study_of_a_pacs_and_both_results_join_their_study(
    script: ModuleType, bundle: Path, real_or_made_up_study: Path, tmp_path: Path
) -> None:
    (source,) = {
        str(header.SeriesInstanceUID)
        for header in (pydicom.dcmread(path, stop_before_pixels=True) for path in real_or_made_up_study.rglob("*.dcm"))
        if (header.Rows, header.Columns) == (51, 35)
    }
    kept = tmp_path / "kept"
    study = str(real_or_made_up_study)
    assert script.main([str(bundle), study, "--keep", str(kept), "--", "--series", source, "--release-warned"]) == 0

    (case,) = json.loads((kept / "results" / "manifest.json").read_text())["cases"]
    assert case["status"] == "done"
    shown = {row["modality"]: row for row in json.loads((kept / "series.json").read_text()) if row["made_here"]}
    assert {kind: row["instances"] for kind, row in shown.items()} == {"SEG": 1, "SR": 1}
    assert shown["SEG"]["refers_to"] == [source]
    assert shown["SR"]["refers_to"] == sorted([source, shown["SEG"]["uid"]])

    mask = sitk.ReadImage(kept / "results" / "masks" / f"{case['case']}.nii.gz")
    on_disk = sitk.GetArrayFromImage(mask).T
    assert set(np.unique(on_disk)) == {0, 1, 3}
    stored = pydicom.dcmread(kept / "stored" / "seg_0.dcm")
    np.testing.assert_array_equal(voxels_of_seg(stored, mask, {"ball": 1, "small ball": 3}), on_disk)
    report = pydicom.dcmread(kept / "stored" / "sr_0.dcm")
    voxel_ml = float(np.prod(mask.GetSpacing())) / 1000
    assert volumes_in(report) == pytest.approx([(on_disk == value).sum() * voxel_ml for value in (1, 3)], abs=1e-3)


@pytest.mark.skipif(not REAL_STUDY.is_dir(), reason=f"{REAL_STUDY} is absent")
def test_a_study_is_sent_by_c_store_and_gets_seg_and_report(script: ModuleType) -> None:
    said: list[str] = []
    rows = script.round_trip(REAL_STUDY, above_95_percent, said.append)
    assert [(row["modality"], row["instances"]) for row in rows if row["modality"] != "MR"] == [("SEG", 1), ("SR", 1)]
    assert sorted(row["instances"] for row in rows if row["modality"] == "MR") == [22, 32]
    assert all(row["description"].startswith("AI, research use") for row in rows if row["modality"] in ("SEG", "SR"))
    assert not any("Avasarala" in line or "PGBM" in line for line in said)


def test_orthanc_returns_the_stored_seg_and_stores_a_repetition_once(script: ModuleType, tmp_path: Path) -> None:
    folder = write(tmp_path / "in", slices(pixels((6, 20, 20)), tags={"StudyID": "1", "AccessionNumber": "2"}))
    (tmp_path / "pacs").mkdir()
    with script.running_orthanc(tmp_path / "pacs") as orthanc:
        orthanc.store([folder])
        study, _ = orthanc.wait_for_study()
        fetched = orthanc.fetch_study(study, tmp_path / "study")
        assert (fetched / "DICOMDIR").is_file()
        assert not any("Doe" in str(path) or "12345" in str(path) for path in fetched.rglob("*"))
        for run in ("once", "again"):
            orthanc.store(above_95_percent(fetched, tmp_path / run))
        (seg,) = [row for row in orthanc.series_of(study) if row["modality"] == "SEG"]
        assert seg["instances"] == 1
        stored = pydicom.dcmread(io.BytesIO(orthanc.get(f"/instances/{seg['orthanc_ids'][0]}/file")))
        (written,) = (tmp_path / "once").glob("*_seg.dcm")
        assert stored == pydicom.dcmread(written)
        port = orthanc.http_port
    with pytest.raises(OSError, match=r"refused|reset|timed out"):
        script.Orthanc(port, 0).json("/system")
