"""Incomplete series, damaged studies, jittered orientations and files without a preamble, on the real study."""

import json
import struct
from collections.abc import Callable
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
from dicom_series import MODEL, enhanced, pixels, slices, uid, write
from pydicom.dataset import FileDataset
from real_crop import SLICES, crop, model_for_the_crop, mutated, needs_the_real_study, save

from pipeline.inference.batch import Batch
from pipeline.inference.dicom import DicomCase, DicomError, find_series, to_nifti, write_results
from pipeline.inference.options import Options
from pipeline.inference.sources import find_jobs

pytestmark = pytest.mark.usefixtures("quick_pictures")
MR = [{"name": "MR", "conditions": {"Modality": "MR", "NumberOfSlices": [2, ">="]}}]


def the_case(folder: Path) -> DicomCase:
    (case,) = find_series(folder, MR)
    return case


def jitter(size: float, only: int | None = None) -> Callable[[list[FileDataset]], None]:
    """Return a change that rotates every slice, or one, about the normal by a multiple of a small angle."""

    def change(datasets: list[FileDataset]) -> None:
        for number, dataset in enumerate(datasets):
            angle = size * (number % 3) if only is None else size * (number == only)
            cosine, sine = round(np.cos(angle), 12), round(np.sin(angle), 12)
            dataset.ImageOrientationPatient = [cosine, sine, 0, -sine, cosine, 0]

    return change


def some_mask(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(1).choice([0, 0, 1, 2], shape).astype(np.uint8)


@needs_the_real_study
@pytest.mark.parametrize("size", [1e-7, 4e-4])
def test_orientations_that_differ_within_the_tolerance_become_uniform(tmp_path: Path, size: float) -> None:
    case = the_case(mutated(tmp_path / "in", jitter(size)))
    assert case.problem is None
    mask = some_mask((35, 51, SLICES))
    to_nifti(case, tmp_path / "volume.nii.gz")
    seg_path, _ = write_results(case, mask, MODEL, {"anterior": 1.0, "posterior": 1.0}, tmp_path)
    seg = hd.seg.segread(seg_path)
    plain = the_case(save(tmp_path / "plain", crop()))
    other, _ = write_results(plain, mask, MODEL, {"anterior": 1.0, "posterior": 1.0}, tmp_path / "of the plain one")
    np.testing.assert_array_equal(seg.pixel_array, hd.seg.segread(other).pixel_array)


@needs_the_real_study
@pytest.mark.parametrize("only", [0, 5, SLICES - 1])
def test_a_slice_rotated_beyond_the_tolerance_is_refused_with_its_angle(tmp_path: Path, only: int) -> None:
    case = the_case(mutated(tmp_path, jitter(np.radians(0.5), only)))
    words = f"1 of {SLICES} slices are rotated relative to the others, by up to 0.50°; direction cosines may differ by"
    assert f"{words} 0.001" in (case.problem or "")
    with pytest.raises(DicomError, match="rotated"):
        to_nifti(case, tmp_path / "v.nii.gz")


@pytest.mark.parametrize("size", [0.0, 1e-7])
def test_a_multi_frame_file_with_an_orientation_for_each_frame_gets_a_seg(tmp_path: Path, size: float) -> None:
    dataset = enhanced(pixels(), order=range(5))
    shared = dataset.SharedFunctionalGroupsSequence[0]
    measures = shared.PixelMeasuresSequence
    del shared.PlaneOrientationSequence, shared.PixelMeasuresSequence
    for number, frame in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        item = pydicom.Dataset()
        item.ImageOrientationPatient = [1, size * (number % 2), 0, 0, 1, 0]
        frame.PlaneOrientationSequence, frame.PixelMeasuresSequence = [item], measures
    case = the_case(write(tmp_path / "in", [dataset]))
    to_nifti(case, tmp_path / "volume.nii.gz")
    mask = some_mask((6, 7, 5))
    seg_path, _ = write_results(case, mask, MODEL, {"anterior": 1.0}, tmp_path)
    assert sorted(np.unique(hd.seg.segread(seg_path).get_volume(combine_segments=True).array)) == [0, 1, 2]


def lose_the_last_three(datasets: list[FileDataset]) -> list[FileDataset]:
    return datasets[:-3]


def move_three_elsewhere(datasets: list[FileDataset]) -> None:
    for dataset in datasets[-3:]:
        dataset.FrameOfReferenceUID = uid("elsewhere")


INCOMPLETE = {
    "missing slices": (lose_the_last_three, "32 images expected, 29 here: the series is not complete"),
    "another frame of reference": (
        move_three_elsewhere,
        "3 images of the series lie in another frame of reference and are left out",
    ),
}


@needs_the_real_study
@pytest.mark.parametrize("name", INCOMPLETE)
def test_an_incomplete_series_is_held_and_every_output_warns(tmp_path: Path, name: str) -> None:
    change, words = INCOMPLETE[name]
    model = model_for_the_crop()
    mutated(tmp_path / "in" / "study", change)
    (record,) = Batch(model, tmp_path / "out").run(find_jobs(tmp_path / "in", model.channels, MR))
    assert (record.status, record.warnings) == ("held", (words,))
    (case,) = json.loads((tmp_path / "out" / "manifest.json").read_text())["cases"]
    assert case["status"] == "held"
    assert case["warnings"] == [words]
    assert not list((tmp_path / "out").rglob("*.dcm"))


def test_copies_and_scouts_of_one_acquisition_are_not_missing(tmp_path: Path) -> None:
    datasets = slices(pixels(), tags={"ImagesInAcquisition": 8})
    scouts = slices(pixels((3, 7, 6)), orientation=(0, 1, 0, 0, 0, -1), tags={"ImagesInAcquisition": 8})
    for number, dataset in enumerate(scouts):
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = uid("scout", number)
    write(tmp_path, datasets, names="a{}")
    write(tmp_path, scouts, names="b{}")
    write(tmp_path, slices(pixels())[1:3], names="copy{}")
    case = the_case(tmp_path)
    assert len(case.files) == 5
    assert case.warnings == ()


def damage(path: Path, kind: str) -> None:
    data = path.read_bytes()
    at = data.index(struct.pack("<HH", 0x0028, 0x0010))  # Rows
    broken = {
        "empty": b"",
        "zeros": b"\0" * len(data),
        "cut within the header": data[: data.index(struct.pack("<HH", 0x0008, 0x0060))],
        "cut before the size": data[:at],
        "overwritten": data[: at + 4] + b"\xff" * 64,
    }
    path.write_bytes(broken[kind])


@needs_the_real_study
@pytest.mark.parametrize("kind", ["empty", "zeros", "cut within the header", "cut before the size", "overwritten"])
def test_a_study_whose_headers_are_all_damaged_is_a_failed_case_with_its_location(tmp_path: Path, kind: str) -> None:
    save(tmp_path / "in" / "good", crop())
    bad = save(tmp_path / "in" / "ward 3" / "bad", [*_of_another_study(crop())])
    for path in bad.iterdir():
        damage(path, kind)
    model = model_for_the_crop()
    records = Batch(model, tmp_path / "out", Options(quarantine=tmp_path / "quarantine")).run(
        find_jobs(tmp_path / "in", model.channels, MR)
    )
    good, failed = sorted(records, key=lambda record: record.status)
    assert (good.status, good.warnings) == ("done", ())
    assert not any("damaged" in note for note in good.notes)
    assert failed.reason == f"{SLICES} DICOM files have damaged headers"
    cases = {case["status"]: case for case in json.loads((tmp_path / "out" / "manifest.json").read_text())["cases"]}
    assert cases["failed"]["place"] == "ward 3/bad"
    behind_the_study_uid = kind in ("cut before the size", "overwritten")
    assert cases["failed"]["study_uid"] == (uid("another") if behind_the_study_uid else None)
    assert len(list((tmp_path / "quarantine" / failed.case).iterdir())) == SLICES


def _of_another_study(datasets: list[FileDataset]) -> list[FileDataset]:
    for number, dataset in enumerate(datasets):
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = uid("another"), uid("its series")
        dataset.SOPInstanceUID = uid("another", number)
    return datasets


@needs_the_real_study
def test_a_folder_of_damaged_files_is_a_failed_case_and_not_an_empty_folder(tmp_path: Path) -> None:
    for path in save(tmp_path / "bad", crop()).iterdir():
        damage(path, "empty")
    (job,) = find_jobs(tmp_path, ("MR",))
    assert "damaged headers" in job.problem
    assert len(job.images) == SLICES


@needs_the_real_study
def test_a_damaged_file_among_the_images_of_one_study_holds_it(tmp_path: Path) -> None:
    damage(save(tmp_path, crop()) / "31.dcm", "empty")
    case = the_case(tmp_path)
    assert "1 damaged DICOM file lies beside the images and may belong to the series" in case.warnings


@needs_the_real_study
def test_a_damaged_file_of_a_study_holds_it_wherever_it_lies(tmp_path: Path) -> None:
    save(tmp_path / "study", crop()[:-1])
    damage(save(tmp_path / "elsewhere", crop()[-1:]) / "00.dcm", "cut before the size")
    case = the_case(tmp_path)
    assert "1 damaged DICOM file lies beside the images and may belong to the series" in case.warnings


@needs_the_real_study
def test_the_location_of_damaged_files_hides_the_patients_of_other_studies(tmp_path: Path) -> None:
    mutated(tmp_path / "good", _named("Canary^Nightingale"))
    for path in save(tmp_path / "ward" / "nightingale, canary" / "bad", crop()).iterdir():
        damage(path, "empty")
    _, damaged = find_series(tmp_path, MR)
    assert damaged.location == "ward/*/bad"


def _named(name: str) -> Callable[[list[FileDataset]], None]:
    def change(datasets: list[FileDataset]) -> None:
        for dataset in datasets:
            dataset.PatientName = name

    return change


def test_a_damaged_file_among_the_images_of_two_studies_is_a_separate_case(tmp_path: Path) -> None:
    for study in ("one", "two"):
        write(tmp_path, slices(pixels(), study=study, series=study), names=study + "{}")
    (tmp_path / "bad.dcm").touch()
    first, second, damaged = find_series(tmp_path)
    assert first.warnings == second.warnings == ()
    assert damaged.location == "bad.dcm"
    assert damaged.problem == (
        "1 DICOM file has a damaged header; the images of 2 studies beside them may be incomplete"
    )


def test_equal_damaged_files_in_two_folders_are_two_cases(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "1.dcm").touch()
    first, second = find_series(tmp_path)
    assert first.id != second.id


def without_a_preamble(path: Path, *, with_meta: bool) -> None:
    dataset = pydicom.dcmread(path)
    data = path.read_bytes()[132:]
    if not with_meta:
        data = data[12 + dataset.file_meta.FileMetaInformationGroupLength :]
    path.write_bytes(data)


@needs_the_real_study
@pytest.mark.parametrize("with_meta", [True, False])
@pytest.mark.parametrize("names", ["{}.dcm", "IM{}"])
def test_files_without_a_preamble_are_read(tmp_path: Path, with_meta: bool, names: str) -> None:
    folder = save(tmp_path / "in", crop())
    for path in sorted(folder.iterdir()):
        without_a_preamble(path, with_meta=with_meta)
        path.rename(folder / names.format(path.stem))
    model = model_for_the_crop()
    (record,) = Batch(model, tmp_path / "out").run(find_jobs(tmp_path / "in", model.channels, MR))
    plain = save(tmp_path / "plain", crop())
    (expected,) = Batch(model, tmp_path / "expected").run(find_jobs(plain, model.channels, MR))
    assert (record.status, record.case) == ("done", expected.case)
    assert record.files == expected.files


def test_implicit_value_representations_without_a_preamble_are_read(tmp_path: Path) -> None:
    for number, dataset in enumerate(slices(pixels())):
        del dataset.file_meta
        dataset.preamble = None
        pydicom.dcmwrite(
            tmp_path / f"{number}", dataset, implicit_vr=True, little_endian=True, enforce_file_format=False
        )
        assert (tmp_path / f"{number}").read_bytes()[128:132] != b"DICM"
    case = the_case(tmp_path)
    assert len(case.files) == 5
    assert to_nifti(case, tmp_path / "volume.nii.gz").exists()


def test_other_files_that_begin_like_dicom_are_not_studies(tmp_path: Path) -> None:
    write(tmp_path, slices(pixels()))
    (tmp_path / "table.bin").write_bytes(b"\x08\0\x05\0\x0a\0\0\0" + b"\x17" * 400)
    case = the_case(tmp_path)
    assert case.warnings == ()
    assert "1 file is not DICOM" in case.notes
