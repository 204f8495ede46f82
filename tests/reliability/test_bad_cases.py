"""A study with bad cases reports all of them at once; `--skip-bad` continues with the rest."""

import sys
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "study"))

from test_killed_studies import request

from pipeline.errors import DatasetError
from pipeline.study import run
from pipeline.study.progress import SilentProgress
from pipeline.study.run import run_study


class RecordingProgress(SilentProgress):
    def __init__(self):
        self.messages = []

    def message(self, text):
        self.messages.append(text)


class ScanPassed(Exception):
    pass


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """A study of four cases, two of them bad, that ends when its plan would be made."""
    asked = request(tmp_path)
    image = asked.dataset / "imagesTr" / "ball_0.nii.gz"
    image.write_bytes(image.read_bytes()[:-20])
    label = asked.dataset / "labelsTr" / "ball_2.nii.gz"
    volume = nib.load(label)
    nib.save(nib.Nifti1Image(np.asarray(volume.dataobj) * np.float32(0.5), volume.affine), label)

    def stop(dataset, *_):
        raise ScanPassed([case.id for case in dataset.cases])

    monkeypatch.setattr(run, "make_plan", stop)
    return asked


def test_all_bad_cases_are_reported_before_the_study_is_refused(asked):
    progress = RecordingProgress()
    with pytest.raises(DatasetError, match=r"2 of 4 cases cannot be used: .* or use --skip-bad to continue without"):
        run_study(asked, progress)
    assert len(progress.messages) == 2
    assert "ball_0.nii.gz" in progress.messages[0]
    assert "ball_2.nii.gz" in progress.messages[1]
    assert not [line for line in progress.messages if "\n" in line]


def test_with_skip_bad_the_study_continues_with_the_rest(asked):
    progress = RecordingProgress()
    with pytest.raises(ScanPassed) as passed:
        run_study(replace(asked, skip_bad=True), progress)
    assert passed.value.args[0] == ["ball_1", "ball_3"]
    assert len(progress.messages) == 2
