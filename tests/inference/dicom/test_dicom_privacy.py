"""Canaries in tags appear in the DICOM outputs only, which belong to the patient's record."""

import gzip
import logging
import subprocess
import sys
from pathlib import Path

import pydicom
import pytest
from dicom_series import MODEL, pixels, slices, write

from pipeline.errors import SeglossError
from pipeline.inference.dicom import find_series, to_nifti, write_results
from pipeline.system import files

CANARIES = {
    "PatientName": "Canary1^Nightingale",
    "PatientID": "CANARY2",
    "PatientBirthDate": "19530303",
    "OtherPatientIDs": "CANARY4",
    "OtherPatientNames": "Canary5^Other",
    "PatientBirthName": "Canary6^Birth",
    "PatientMotherBirthName": "Canary7^Mother",
    "PatientAddress": "Canary8 Street",
    "PatientTelephoneNumbers": "CANARY9",
    "PatientComments": "Canary10 comment",
    "EthnicGroup": "CANARY11",
    "Occupation": "CANARY12",
    "AdditionalPatientHistory": "Canary13 history",
    "ReferringPhysicianName": "Canary14^Referring",
    "PerformingPhysicianName": "Canary15^Performing",
    "OperatorsName": "Canary16^Operator",
    "InstitutionName": "CANARY17",
    "AccessionNumber": "CANARY18",
    "StudyID": "CANARY19",
    "StudyDescription": "CANARY20 study",
    "SeriesDescription": "CANARY21 series",
    "ProtocolName": "CANARY22",
    "RequestedProcedureDescription": "CANARY23",
    "DeviceSerialNumber": "CANARY24",
    "ImageComments": "Canary25",
}
RULES = [
    {"name": "all", "conditions": {keyword: "nothing like it" for keyword in CANARIES if keyword != "PatientBirthDate"}}
]


def sings(text: str) -> bool:
    return "canary" in text.lower() or "19530303" in text


@pytest.fixture
def temporary_names(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    names: list[str] = []
    make = files.tempfile.mkstemp

    def spy(*arguments: object, **settings: object) -> tuple[int, str]:
        made = make(*arguments, **settings)
        names.append(made[1])
        return made

    monkeypatch.setattr(files.tempfile, "mkstemp", spy)
    return names


def test_tags_that_name_a_patient_appear_in_dicom_outputs_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], temporary_names: list[str]
) -> None:
    assert len(CANARIES) >= 20
    caplog.set_level(logging.DEBUG)
    folder = write(tmp_path / "in", slices(pixels(), tags=CANARIES), names="Canary_Nightingale_{}.dcm")
    (case,) = find_series(folder)
    image = to_nifti(case, tmp_path / "out" / f"{case.id}.nii.gz")
    mask = (pixels().transpose() > 1000).astype("uint8")
    paths = write_results(case, mask, MODEL, {"anterior": 1.0, "posterior": 0.0}, tmp_path / "out")

    assert not sings(case.id)
    assert not any(sings(line) for line in case.notes)
    assert not any(sings(path.name) for path in [image, *paths])
    assert len(temporary_names) == 3
    assert not any(sings(Path(name).name) for name in temporary_names)
    assert not sings(caplog.text)
    assert not sings("".join(capfd.readouterr()))
    assert not sings(gzip.decompress(image.read_bytes()).decode("latin-1"))
    assert pydicom.dcmread(paths[0]).PatientName == CANARIES["PatientName"]


def test_no_refusal_repeats_a_tag_or_a_file_name(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    gap = slices(pixels(), tags=CANARIES)
    del gap[2]
    write(tmp_path / "gap", gap, names="Canary_{}.dcm")
    cut = write(tmp_path / "cut", slices(pixels(), tags=CANARIES), names="Canary_{}.dcm")
    for path in cut.iterdir():
        path.write_bytes(path.read_bytes()[:-40])
    told = []
    for folder, settings in (("gap", {}), ("cut", {}), ("gap", {"rules": RULES})):
        (case,) = find_series(tmp_path / folder, **settings)
        with pytest.raises(SeglossError) as caught:
            to_nifti(case, tmp_path / "volume.nii.gz")
        told += [str(caught.value), *case.notes]
    assert len(told) >= 6
    assert not any(sings(line) for line in told)
    assert not sings(caplog.text)


MALFORMED = {
    "PatientName": "Canary=1=2=3=4^^^^^^^^Nightingale",
    "PatientBirthDate": "Canary born",
    "PatientSex": "canary",
    "PatientAge": "canary old",
    "PatientWeight": "canary kg",
    "StudyDate": "canary day",
    "StudyTime": "canary hour",
    "SeriesDate": "canary day",
    "AccessionNumber": "canary" * 20,
    "InstanceCreationDate": "canary",
    "SpecificCharacterSet": "CANARY_SET",
}

PROGRAM = """
import logging, sys, warnings
from pathlib import Path
import numpy as np
sys.path.insert(0, sys.argv[2])
logging.basicConfig(level=logging.DEBUG)
from dicom_series import MODEL
from pipeline.inference.dicom import find_series, to_nifti, write_results
(case,) = find_series(Path(sys.argv[1]))
print(case.notes, to_nifti(case, Path(sys.argv[1]).parent / "v.nii.gz").name)
print(write_results(case, np.ones((6, 7, 5), np.uint8), MODEL, {"anterior": 1.0}, Path(sys.argv[1]).parent))
"""


def test_malformed_tags_are_not_repeated_by_the_libraries_beneath(tmp_path: Path) -> None:
    """The test runs a whole process with all logging and all warnings of Python enabled."""
    datasets = slices(pixels())
    for dataset in datasets:
        for keyword, value in MALFORMED.items():
            tag = pydicom.datadict.tag_for_keyword(keyword)
            dataset.add(pydicom.dataelem.RawDataElement(
                pydicom.tag.Tag(tag), pydicom.datadict.dictionary_VR(tag), len(value), value.encode(), 0, False, True
            ))  # fmt: skip
    write(tmp_path / "in", datasets)
    raw = (tmp_path / "in" / "f0").read_bytes()
    assert raw.count(b"anary") >= len(MALFORMED) - 1
    command = [sys.executable, "-W", "always", "-c", PROGRAM, str(tmp_path / "in"), str(Path(__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "selected: series 4" in done.stdout, done.stderr
    assert "_seg.dcm" in done.stdout, done.stderr
    assert not sings(done.stdout)
    assert not sings(done.stderr)
