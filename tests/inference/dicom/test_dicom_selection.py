"""Selection of a series, notes about the others, and refusals with numbers."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_series import AXIAL, REAL_STUDY, enhanced, pixels, slices, uid, write
from pydicom.fileset import FileSet
from pydicom.uid import SegmentationStorage

from pipeline.errors import ConfigError, DatasetError
from pipeline.inference.dicom import DicomCase, DicomError, find_series, to_nifti

HIPPOCAMPUS = [
    {
        "name": "hippocampus crop",
        "conditions": {"Modality": "MR", "SeriesDescription": "(?i)hippo", "NumberOfSlices": [20, ">="]},
    }
]


def the_case(folder: Path, *rules: dict, **settings: object) -> DicomCase:
    (case,) = find_series(folder, rules, **settings)
    return case


@pytest.mark.skipif(not REAL_STUDY.is_dir(), reason=f"{REAL_STUDY} is absent")
def test_the_crop_of_the_real_study_is_selected_and_a_note_says_why_not_the_other() -> None:
    case = the_case(REAL_STUDY, *HIPPOCAMPUS)
    assert case.problem is None
    assert len(case.files) == 32
    assert {path.parent.name for path in case.files} == {"13_HCropVolume"}
    assert [path.stem for path in case.files] == [str(number) for number in range(1, 33)]
    assert case.spacing_mm == (1.0, 1.0, 1.0)
    taken, left = sorted(case.notes, key=lambda line: line.startswith("not"))
    assert taken.startswith("selected: ")
    assert "32 slices of 35 × 51" in taken
    assert left.startswith("not selected: series 12 (MR, axial, 22 slices of 512 × 512): ")
    assert "SeriesDescription" in left


@pytest.mark.skipif(not REAL_STUDY.is_dir(), reason=f"{REAL_STUDY} is absent")
@pytest.mark.parametrize("series", ["12", "T1post", "t1POST", None])
def test_a_series_is_named_by_number_description_or_uid(series: str | None) -> None:
    first = pydicom.dcmread(next((REAL_STUDY / "12-T1post").iterdir()), stop_before_pixels=True)
    case = the_case(REAL_STUDY, *HIPPOCAMPUS, series=series or first.SeriesInstanceUID)
    assert {path.parent.name for path in case.files} == {"12-T1post"}
    assert case.problem is None


def two_series(folder: Path) -> Path:
    write(folder / "deep" / "er", slices(pixels((9, 7, 6)), series="long", tags={"SeriesNumber": 7}))
    write(folder, slices(pixels((4, 7, 6)), series="short", tags={"SeriesDescription": "T2 volume", "SeriesNumber": 8}))
    return folder


def test_mixed_files_of_any_name_and_depth_are_sorted_and_counted(tmp_path: Path) -> None:
    two_series(tmp_path)
    (tmp_path / "notes.txt").write_text("nothing")
    (tmp_path / "deep" / "empty").touch()
    (tmp_path / "broken").write_bytes(b"\0" * 128 + b"DICM" + b"\x02\x00\x10\x00UI\xff\xff")
    case = the_case(tmp_path, {"name": "T2", "conditions": {"SeriesDescription": "T2"}})
    assert len(case.files) == 4
    assert case.notes[-1] == "2 files are not DICOM"
    assert case.warnings == ("1 damaged DICOM file lies beside the images and may belong to the series",)


def test_the_first_matching_rule_is_used_and_then_the_longest_series(tmp_path: Path) -> None:
    two_series(tmp_path)
    short, both = (
        {"name": "short", "conditions": {"NumberOfSlices": [1, 5]}},
        {"name": "any", "conditions": {"Modality": "MR"}},
    )
    assert len(the_case(tmp_path, short, both).files) == 4
    assert len(the_case(tmp_path, both, short).files) == 9
    assert any("matches the rule too" in line for line in the_case(tmp_path, both).notes)


def test_without_rules_only_a_study_with_one_volume_is_accepted(tmp_path: Path) -> None:
    two_series(tmp_path)
    case = the_case(tmp_path)
    assert "2 candidate volumes" in (case.problem or "")
    assert case.files == ()
    with pytest.raises(DicomError, match="2 candidate volumes"):
        to_nifti(case, tmp_path / "never.nii.gz")
    assert len(the_case(tmp_path / "deep").files) == 9


def test_a_study_without_a_match_is_a_case_with_the_reasons(tmp_path: Path) -> None:
    two_series(tmp_path)
    case = the_case(tmp_path, {"name": "CT", "conditions": {"Modality": "CT"}})
    assert (case.problem or "").count("Modality MR does not match 'CT'") == 2
    assert "series 7" in (case.problem or "")
    assert "series 8" in (case.problem or "")


def test_each_study_is_a_case_and_a_uid_selects_its_own_study_only(tmp_path: Path) -> None:
    for study in ("one", "two"):
        write(tmp_path / study, slices(pixels(), study=study, series=f"{study} series"))
    assert len(find_series(tmp_path)) == 2
    assert len({case.id for case in find_series(tmp_path)}) == 2
    (case,) = find_series(tmp_path, series=uid("two series"))
    assert case.study_uid == uid("two")
    with pytest.raises(DicomError, match="none of 2 studies"):
        find_series(tmp_path, series="1.2.3")


def test_orientation_and_matrix_split_a_series(tmp_path: Path) -> None:
    """Three planes under one series UID, as in scouts, are not stacked."""
    write(tmp_path, slices(pixels((6, 7, 6)), series="one"), names="a{}")
    write(
        tmp_path,
        slices(pixels((3, 7, 6)), series="one", orientation=(0, 1, 0, 0, 0, -1), tags={"InstanceNumber": 50}),
        names="b{}",
    )
    for number, dataset in enumerate(slices(pixels((3, 9, 6)), series="one", origin=(0, 0, 500))):
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = uid("other matrix", number)
        dataset.save_as(tmp_path / f"c{number}")
    case = the_case(
        tmp_path, {"name": "axial", "conditions": {"ImageOrientationPatient": "Axial", "NumberOfSlices": [4, ">"]}}
    )
    assert case.problem is None
    assert len(case.files) == 6
    assert len(case.notes) == 3


def test_a_dicomdir_stands_for_its_files(tmp_path: Path) -> None:
    medium = FileSet()
    for dataset in slices(pixels(), tags={"StudyID": "1", "AccessionNumber": ""}):
        medium.add(dataset)
    medium.write(tmp_path / "medium")
    case = the_case(tmp_path / "medium" / "DICOMDIR")
    assert len(case.files) == 5
    assert case.problem is None
    assert the_case(tmp_path / "medium") == case
    case.files[2].unlink()
    with pytest.raises(DatasetError, match="lists a file that does not exist"):
        find_series(tmp_path / "medium" / "DICOMDIR")


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    with pytest.raises(DatasetError, match="holds no DICOM image \\(1 file is not DICOM\\)"):
        find_series(tmp_path)
    with pytest.raises(DatasetError, match="does not exist"):
        find_series(tmp_path / "nowhere")


def _without(index: int) -> Callable[[list], list]:
    return lambda datasets: [dataset for number, dataset in enumerate(datasets) if number != index]


def _set(index: int, **tags: object) -> Callable[[list], list]:
    def change(datasets: list) -> list:
        for dataset in datasets if index < 0 else [datasets[index]]:
            for keyword, value in tags.items():
                setattr(dataset, keyword, value) if value is not None else delattr(dataset, keyword)
        return datasets

    return change


def _moved(*positions: float) -> Callable[[list], list]:
    def change(datasets: list) -> list:
        for dataset, position in zip(datasets, positions, strict=True):
            dataset.ImagePositionPatient = [0, 0, position]
        return datasets

    return change


def _doubled(datasets: list) -> list:
    again = pydicom.dcmread(_bytes_of(datasets[2]))
    again.SOPInstanceUID = again.file_meta.MediaStorageSOPInstanceUID = uid("another")
    again.set_pixel_data(again.pixel_array + 1, "MONOCHROME2", 16, generate_instance_uid=False)
    return [*datasets, again]


def _bytes_of(dataset: pydicom.Dataset) -> pydicom.filebase.DicomBytesIO:
    stream = pydicom.filebase.DicomBytesIO()
    pydicom.dcmwrite(stream, dataset, enforce_file_format=True)
    stream.seek(0)
    return stream


def _over_time(datasets: list) -> list:
    later = slices(pixels(seed=1), series="later")
    for number, dataset in enumerate(later):
        dataset.SeriesInstanceUID = uid("series")
        dataset.InstanceNumber = 10 + number
    return [*datasets, *later]


REFUSALS = {
    "a missing slice": (_without(2), r"1 slice missing between 33\.00 and 39\.00 mm \(slices are 3\.00 mm apart\)"),
    "two holes": (_moved(0, 2, 6, 8, 14), r"3 slices missing between 2\.00 and 6\.00 mm, between 8\.00 and 14\.00 mm"),
    "a changing distance": (_moved(0, 2, 4, 7, 10), r"changes from 2\.00 to 3\.00 mm \(at 4\.00 mm\)"),
    "slices that differ at one place": (_doubled, r"2 slices at the position \(-10\.00, 20\.00, 36\.00\) mm differ"),
    "a series over time": (_over_time, r"10 slices lie at 5 positions: a series over time"),
    "a missing position": (_set(1, ImagePositionPatient=None), r"1 of 5 slices have no position"),
    "a missing orientation": (_set(3, ImageOrientationPatient=None), r"1 of 5 slices have no position or orientation"),
    "no frame of reference": (_set(-1, FrameOfReferenceUID=None), r"has no frame of reference"),
    "no pixel spacing": (_set(4, PixelSpacing=None), r"1 of 5 slices have no pixel spacing"),
    "changing pixels": (_set(4, PixelSpacing=[1.5, 1.6]), r"size changes from 1\.5 × 1\.[56] to 1\.5 × 1\.[56] mm"),
    "skew cosines": (_set(-1, ImageOrientationPatient=[1, 0, 0, 0.3, 0.95, 0]), r"product of 0\.300"),
    "a localizer": (_set(-1, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), r"is a localizer"),
    "a modality without a picture": (_set(-1, Modality="OT"), r"of modality OT"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSALS)
def test_slices_that_are_not_a_volume_are_refused_with_numbers(tmp_path: Path, name: str) -> None:
    change, words = REFUSALS[name]
    write(tmp_path, change(slices(pixels())))
    case = the_case(tmp_path, series="4")
    assert case.problem is not None
    with pytest.raises(DicomError, match=words) as caught:
        to_nifti(case, tmp_path / "volume.nii.gz")
    assert str(caught.value).startswith(case.id)
    assert caught.value.remedy
    assert not (tmp_path / "volume.nii.gz").exists()


def test_a_single_slice_and_color_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "one", slices(pixels((1, 7, 6))))
    assert "is a single slice" in (the_case(tmp_path / "one", series="4").problem or "")
    datasets = slices(pixels())
    for dataset in datasets:
        dataset.SamplesPerPixel = 3
    write(tmp_path / "colour", datasets)
    assert "in color (3 samples per pixel)" in (the_case(tmp_path / "colour", series="4").problem or "")


def test_a_tilted_gantry_is_refused_with_its_angle_unless_resampling_is_requested(tmp_path: Path) -> None:
    write(tmp_path, slices(pixels((9, 7, 6)), step=(0.0, 3 * np.tan(np.radians(12.5)), 3.0)))
    case = the_case(tmp_path)
    assert "tilted by 12.5°: the last slice lies 5.3 mm beside the first" in (case.problem or "")
    case = the_case(tmp_path, resample_tilt=True)
    assert case.problem is None
    assert case.tilt_degrees == pytest.approx(12.5, abs=0.01)
    assert any("12.5°" in line for line in case.notes)


def test_a_modality_that_the_rules_exclude_is_refused_even_for_a_named_series(tmp_path: Path) -> None:
    write(tmp_path, slices(pixels(), tags={"Modality": "CT"}))
    case = the_case(tmp_path, *HIPPOCAMPUS, series="4")
    assert "is of modality CT; the model is for MR" in (case.problem or "")


def test_copies_of_slices_are_left_out_with_a_note(tmp_path: Path) -> None:
    write(tmp_path / "a", slices(pixels()))
    write(tmp_path / "b", slices(pixels())[1:3])
    case = the_case(tmp_path)
    assert case.problem is None
    assert len(case.files) == 5
    assert "2 slices are copies of another and left out" in case.notes


def test_frames_over_time_and_in_other_planes_are_refused(tmp_path: Path) -> None:
    over_time = enhanced(np.concatenate([pixels(), pixels()]), order=range(10))
    for number, frame in enumerate(over_time.PerFrameFunctionalGroupsSequence):
        frame.PlanePositionSequence[0].ImagePositionPatient = [0, 0, number % 5]
    write(tmp_path / "time", [over_time])
    assert "10 slices lie at 5 positions" in (the_case(tmp_path / "time").problem or "")
    turned = enhanced(pixels(), order=range(5))
    del turned.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence
    for number, frame in enumerate(turned.PerFrameFunctionalGroupsSequence):
        item = pydicom.Dataset()
        item.ImageOrientationPatient = list(AXIAL) if number else [0, 1, 0, 0, 0, -1]
        frame.PlaneOrientationSequence = [item]
    write(tmp_path / "planes", [turned])
    assert "1 of 5 slices are rotated relative to the others" in (the_case(tmp_path / "planes").problem or "")


def test_a_missing_frame_is_refused_with_its_position(tmp_path: Path) -> None:
    dataset = enhanced(pixels(), order=range(5))
    for frame, place in zip(dataset.PerFrameFunctionalGroupsSequence, (0, 2, 4, 8, 10), strict=True):
        frame.PlanePositionSequence[0].ImagePositionPatient = [0, 0, place]
    write(tmp_path, [dataset])
    assert "1 slice missing between 4.00 and 8.00 mm" in (the_case(tmp_path).problem or "")


def test_results_among_the_files_are_never_selected(tmp_path: Path) -> None:
    write(tmp_path, slices(pixels()))
    seg = slices(pixels(), series="seg", tags={"Modality": "SEG", "SeriesNumber": 1004})
    for dataset in seg:
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = SegmentationStorage
    write(tmp_path, seg, names="seg{}")
    case = the_case(tmp_path)
    assert case.series_uid == uid("series")
    assert any("is of modality SEG" in line for line in case.notes)


@pytest.mark.parametrize("kind", ["cut", "gone", "nonsense"])
def test_pixels_that_cannot_be_decoded_are_reported_with_their_slice(tmp_path: Path, kind: str) -> None:
    datasets = slices(pixels((4, 40, 36)))
    if kind == "nonsense":
        datasets[2].compress(pydicom.uid.JPEG2000Lossless, generate_instance_uid=False)
        datasets[2].PixelData = pydicom.encaps.encapsulate([b"\xff\x4f" + b"nothing" * 20])
    write(tmp_path, datasets)
    case = the_case(tmp_path)
    if kind == "cut":
        case.files[2].write_bytes(case.files[2].read_bytes()[:-200])
    if kind == "gone":
        case.files[2].unlink()
    expected = "no longer readable" if kind == "gone" else r"image number 3 cannot be decoded"
    with pytest.raises(DicomError, match=expected):
        to_nifti(case, tmp_path / "volume.nii.gz")


@pytest.mark.parametrize(
    "rules",
    [
        [{"name": "a", "conditions": {"NoSuchKeyword": "x"}}],
        [{"name": "a", "conditions": {"SeriesDescription": "("}}],
        [{"name": "a", "conditions": {"SliceThickness": [3, "~"]}}],
        [{"name": "a", "conditions": {"SliceThickness": [5, 3]}}],
        [{"name": "a", "conditions": {"ImageOrientationPatient": "Oblique"}}],
        [{"name": "a", "conditions": {"Modality": {"is": "MR"}}}],
        [{"name": "a", "conditions": ["MR"]}],
        ["MR"],
    ],
)
def test_a_malformed_rule_is_refused_before_any_file_is_read(tmp_path: Path, rules: list) -> None:
    with pytest.raises(ConfigError, match="series rules"):
        find_series(tmp_path / "nowhere", rules)


def test_screenshots_of_the_same_modality_do_not_win_over_a_volume(tmp_path: Path) -> None:
    """Secondary captures often have the modality of their source, and there may be many."""
    write(tmp_path / "volume", slices(pixels((5, 7, 6))))
    shots = slices(pixels((20, 7, 6)), series="shots", tags={"SeriesNumber": 99})
    for dataset in shots:
        del dataset.ImagePositionPatient, dataset.ImageOrientationPatient
    write(tmp_path / "shots", shots)
    case = the_case(tmp_path, {"name": "MR", "conditions": {"Modality": "MR"}})
    assert case.series_uid == uid("series")
    assert "not selected: series 99 (MR, 20 slices of 6 × 7): has no position in the patient" in case.notes
    assert "has no position in the patient" in (the_case(tmp_path, series="99").problem or "")


def test_frames_without_positions_and_palettes_are_refused(tmp_path: Path) -> None:
    (cine,) = slices(pixels((1, 7, 6)))
    cine.NumberOfFrames = 5
    cine.PixelData = cine.PixelData * 5
    write(tmp_path / "cine", [cine])
    assert "has no position in the patient" in (the_case(tmp_path / "cine", series="4").problem or "")
    write(tmp_path / "palette", slices(pixels(), tags={"PhotometricInterpretation": "PALETTE COLOR"}))
    assert "in color (by a palette)" in (the_case(tmp_path / "palette", series="4").problem or "")


def test_a_series_that_is_present_twice_is_one_series(tmp_path: Path) -> None:
    write(tmp_path / "a", slices(pixels()))
    write(tmp_path / "b", slices(pixels()))
    case = the_case(tmp_path)
    assert case.problem is None
    assert len(case.files) == 5
    assert "5 slices are copies of another and left out" in case.notes


def test_the_name_of_a_case_does_not_depend_on_names_or_locations_of_files(tmp_path: Path) -> None:
    write(tmp_path / "a", slices(pixels()), names="x{}")
    write(tmp_path / "b" / "c", slices(pixels()), names="Doe_Jane_{}.ima")
    assert the_case(tmp_path / "a").id == the_case(tmp_path / "b").id
    assert the_case(tmp_path / "a").id.startswith("dcm-")
