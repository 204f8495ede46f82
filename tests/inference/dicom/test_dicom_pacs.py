"""With a real PACS: Orthanc on the loopback, C-STORE in, SEG and structured report back, seen by REST."""

import importlib.util
import io
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import nibabel as nib
import numpy as np
import pydicom
import pytest
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
    """Segment the brightest twentieth of the series that the rules choose."""
    rule = {"name": "crop", "conditions": {"Modality": "MR", "SeriesDescription": "(?i)hippo|volume"}}
    (case,) = find_series(study, [rule])
    values = np.asarray(nib.load(to_nifti(case, out / "volume.nii.gz")).dataobj)
    mask = (values > np.percentile(values, 95)).astype(np.uint8)
    return write_results(case, mask, MODEL, {"anterior": float(mask.sum() / 1000), "posterior": 0.0}, out)


@pytest.mark.skipif(not REAL_STUDY.is_dir(), reason=f"{REAL_STUDY} is absent")
def test_a_study_goes_in_by_c_store_and_seg_and_report_stand_beside_it(script: ModuleType) -> None:
    said: list[str] = []
    rows = script.round_trip(REAL_STUDY, above_95_percent, said.append)
    assert [(row["modality"], row["instances"]) for row in rows if row["modality"] != "MR"] == [("SEG", 1), ("SR", 1)]
    assert sorted(row["instances"] for row in rows if row["modality"] == "MR") == [22, 32]
    assert all(row["description"].startswith("AI, research use") for row in rows if row["modality"] in ("SEG", "SR"))
    assert not any("Avasarala" in line or "PGBM" in line for line in said)


def test_orthanc_gives_back_the_seg_as_it_was_stored_and_takes_a_repeat_for_the_same(
    script: ModuleType, tmp_path: Path
) -> None:
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
