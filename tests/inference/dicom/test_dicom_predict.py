"""A batch on DICOM writes SEG and report for a complete study and refuses an incomplete one."""

import json
import sys
from pathlib import Path

import pydicom
import pytest
from dicom_series import ROOT, pixels, slices, write

from pipeline.inference.batch import Batch
from pipeline.inference.options import Options
from pipeline.inference.release_policy import ReleasePolicy
from pipeline.inference.sources import find_jobs

sys.path.append(str(ROOT / "tests" / "inference"))
from small_model import CLASSES, small_model

RULES = [{"name": "MR", "conditions": {"Modality": "MR", "NumberOfSlices": [4, ">="]}}]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a complete study and one with a missing slice."""
    array = pixels((14, 18, 16))
    tags = {"PatientName": "Canary^Nightingale"}
    write(tmp_path / "in" / "whole", slices(array, study="whole", series="whole", tags=tags), names="Canary{}")
    gap = slices(array, study="gap", series="gap", tags=tags)
    del gap[5]
    write(tmp_path / "in" / "gap", gap, names="Canary{}")
    return tmp_path / "in"


@pytest.mark.parametrize("empty_frames", [False, True])
def test_a_complete_study_gets_results_and_an_incomplete_one_a_reason(
    folder: Path, tmp_path: Path, empty_frames: bool
) -> None:
    model = small_model()
    jobs = find_jobs(folder, model.channels, RULES)
    options = Options(empty_frames=empty_frames, release=ReleasePolicy(release_warned=True))
    Batch(model, tmp_path / "out", options).run(jobs)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    by_status = {case["status"]: case for case in manifest["cases"]}
    assert sorted(by_status) == ["done", "failed"]
    assert "1 slice missing between" in by_status["failed"]["reason"]
    seg, sr = (tmp_path / "out" / "dicom" / f"{by_status['done']['case']}_{kind}.dcm" for kind in ("seg", "sr"))
    assert by_status["done"]["output"] == f"dicom/{seg.name}"
    segmentation = pydicom.dcmread(seg)
    assert [item.SegmentLabel.casefold() for item in segmentation.SegmentSequence] == list(CLASSES.values())
    if empty_frames:
        assert segmentation.NumberOfFrames == 14 * len(CLASSES)
    assert pydicom.dcmread(sr).Modality == "SR"
    left = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert not [path for path in left if path.suffix != ".dcm" and b"anary" in path.read_bytes()]
    assert not [path for path in left if "anary" in path.relative_to(tmp_path / "out").as_posix()]
