"""The real study with mutated identifiers is refused; values are counted and never repeated."""

import json
from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest
from dicom_series import pixels, slices, uid, write
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import FileDataset
from real_crop import SLICES, crop, model_for_the_crop, mutated, needs_the_real_study, save

from pipeline.inference.batch import Batch
from pipeline.inference.dicom import find_series
from pipeline.inference.sources import find_jobs

pytestmark = pytest.mark.usefixtures("quick_pictures")

CANARY = "Canary"


@pytest.fixture(autouse=True)
def _write_what_is_not_valid() -> object:
    before = pydicom.config.settings.writing_validation_mode
    pydicom.config.settings.writing_validation_mode = pydicom.config.IGNORE
    yield
    pydicom.config.settings.writing_validation_mode = before


def setting(keyword: str, value: object, first: int = 0) -> Callable[[list[FileDataset]], None]:
    def change(datasets: list[FileDataset]) -> None:
        for dataset in datasets[first:]:
            setattr(dataset, keyword, value)

    return change


def both(*changes: Callable[[list[FileDataset]], None]) -> Callable[[list[FileDataset]], None]:
    def change(datasets: list[FileDataset]) -> None:
        for one in changes:
            one(datasets)

    return change


def sharing_a_sop_uid(datasets: list[FileDataset]) -> None:
    for dataset in datasets[3:5]:
        dataset.SOPInstanceUID = datasets[2].SOPInstanceUID


def without_a_sop_uid(datasets: list[FileDataset]) -> None:
    del datasets[7].SOPInstanceUID


MUTATIONS = {
    "two patients": (setting("PatientID", f"{CANARY}-7", 17), "2 different values of PatientID"),
    "two birth dates": (
        both(setting("PatientBirthDate", "19530303"), setting("PatientBirthDate", "19540404", 20)),
        "2 different values of PatientBirthDate",
    ),
    "a patient and slices of nobody": (setting("PatientID", "", 17), "a PatientID and images without one"),
    "a birth date in some slices": (setting("PatientBirthDate", "19530303", 30), "a PatientBirthDate and images"),
    "no study": (setting("StudyInstanceUID", ""), "Study Instance UID is empty"),
    "no series": (setting("SeriesInstanceUID", ""), "Series Instance UID is empty"),
    "slices without a UID": (setting("SOPInstanceUID", "", 29), f"3 of {SLICES} images have no SOP Instance UID"),
    "a slice whose UID is absent": (without_a_sop_uid, f"1 of {SLICES} images have no SOP Instance UID"),
    "an illegal study": (setting("StudyInstanceUID", f"{CANARY}^Jane"), "Study Instance UID is invalid"),
    "an illegal series": (setting("SeriesInstanceUID", f"1.2.{CANARY}"), "Series Instance UID is invalid"),
    "a leading zero": (setting("SeriesInstanceUID", "1.2.03.4"), "Series Instance UID is invalid"),
    "a UID that is too long": (setting("StudyInstanceUID", "1." + "2" * 63), "Study Instance UID is invalid"),
    "illegal slices": (setting("SOPInstanceUID", CANARY, 31), f"1 of {SLICES} images have an invalid SOP Instance UID"),
    "an illegal frame of reference": (setting("FrameOfReferenceUID", CANARY), "frame of reference is invalid"),
    "shared UIDs": (sharing_a_sop_uid, f"3 of {SLICES} images share one SOP Instance UID"),
}  # fmt: skip
WITHOUT_A_STUDY_UID = {"no study", "an illegal study", "a UID that is too long"}


@needs_the_real_study
@pytest.mark.parametrize("name", MUTATIONS)
def test_images_whose_identity_is_in_doubt_are_refused_without_repeating_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    change, words = MUTATIONS[name]
    mutated(tmp_path / "in" / "study", change)
    model = model_for_the_crop()
    (record,) = Batch(model, tmp_path / "out").run(find_jobs(tmp_path / "in", model.channels))
    assert record.status == "failed"
    assert words in record.reason
    assert not list((tmp_path / "out").rglob("*.dcm"))
    (case,) = json.loads((tmp_path / "out" / "manifest.json").read_text())["cases"]
    assert case["place"] == "study"
    assert (case["study_uid"] is None) == (name in WITHOUT_A_STUDY_UID)
    written = "".join(path.read_text() for path in (tmp_path / "out").rglob("*") if path.suffix in (".json", ".csv"))
    for shown in (written, (tmp_path / "out" / "index.html").read_text(), *capfd.readouterr(), repr(record)):
        assert CANARY not in shown
        assert "19530303" not in shown


@needs_the_real_study
def test_the_unchanged_study_is_accepted(tmp_path: Path) -> None:
    mutated(tmp_path / "in", lambda datasets: None)
    model = model_for_the_crop()
    (record,) = Batch(model, tmp_path / "out").run(find_jobs(tmp_path / "in", model.channels))
    assert (record.status, record.warnings) == ("done", ())
    assert len(list((tmp_path / "out" / "dicom").iterdir())) == 2


@needs_the_real_study
def test_two_patients_with_empty_uids_are_two_failed_cases_and_none_is_dropped(tmp_path: Path) -> None:
    for folder, patient in (("a", "first"), ("b", "second")):

        def without_study(datasets: list[FileDataset], patient: str = patient) -> None:
            for dataset in datasets:
                dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.PatientID = "", "", patient

        mutated(tmp_path / folder, without_study)
    first, second = find_series(tmp_path)
    assert first.id != second.id
    assert {first.location, second.location} == {"a", "b"}
    assert len(first.files) == len(second.files) == SLICES
    assert "UID is empty" in (first.problem or "")
    assert "UID is empty" in (second.problem or "")


@needs_the_real_study
def test_two_patients_with_one_study_uid_are_refused_although_each_has_a_series(tmp_path: Path) -> None:
    save(tmp_path / "in" / "one", crop())
    other = crop()
    for number, dataset in enumerate(other):
        dataset.PatientID = f"{CANARY}-8"
        dataset.SeriesInstanceUID, dataset.SOPInstanceUID = uid("other"), uid("other", number)
    save(tmp_path / "in" / "two", other)
    (case,) = find_series(tmp_path / "in", [{"name": "MR", "conditions": {"Modality": "MR"}}])
    assert "the study holds 2 different values of PatientID" in (case.problem or "")
    assert len(case.study_files) == 2 * SLICES


def test_a_second_patient_in_another_frame_of_reference_is_detected(tmp_path: Path) -> None:
    mine, theirs = slices(pixels()), slices(pixels(seed=1))[3:]
    for number, dataset in enumerate(theirs):
        dataset.PatientID, dataset.FrameOfReferenceUID, dataset.SOPInstanceUID = (
            "other",
            uid("else"),
            uid("else", number),
        )
    write(tmp_path, mine, names="a{}")
    write(tmp_path, theirs, names="b{}")
    (case,) = find_series(tmp_path)
    assert "2 different values of PatientID" in (case.problem or "")


def test_a_series_may_lack_the_birth_date_that_another_series_has(tmp_path: Path) -> None:
    write(tmp_path / "a", slices(pixels((9, 7, 6)), series="a", tags={"PatientBirthDate": "19530303"}))
    write(tmp_path / "b", slices(pixels(), series="b"))
    (case,) = find_series(tmp_path, [{"name": "MR", "conditions": {"Modality": "MR"}}])
    assert case.problem is None


def test_padding_does_not_make_another_patient(tmp_path: Path) -> None:
    datasets = slices(pixels(), tags={"PatientID": "12345"})
    datasets[0].PatientID = "12345 "
    write(tmp_path, datasets)
    (case,) = find_series(tmp_path)
    assert case.problem is None


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=7), st.text("0123456789.x ", max_size=3))
def test_a_uid_is_numbers_without_leading_zeros_between_dots(numbers: list[int], wrong: str) -> None:
    from pipeline.inference.dicom.identity import is_valid_uid

    valid = ".".join(map(str, numbers))
    assert is_valid_uid(valid) == (len(valid) <= 64)
    assert not is_valid_uid(f"{valid}.")
    assert not is_valid_uid(f"{valid}.0{numbers[0]}")
    assert not is_valid_uid(f"{valid} {wrong}")
    assert not is_valid_uid(f"{valid}\n")
