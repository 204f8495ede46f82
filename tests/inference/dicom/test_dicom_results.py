"""SEG and structured report have the right voxels at the right positions, by readers independent of the writer."""

import shutil
import subprocess
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import highdicom as hd
import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicom_series import AXIAL, MODEL, REAL_STUDY, enhanced, pixels, slices, write
from scipy.spatial.transform import Rotation

from pipeline.inference.dicom import DicomError, ResultSettings, find_series, to_nifti, write_results

VOLUMES = {"anterior": 1.5, "posterior": 0.25}


def some_mask(shape: tuple[int, ...], seed: int = 3) -> np.ndarray:
    """Return a mask of 0, 1 and 2 (columns, rows, slices) without symmetry and with empty slices."""
    mask = np.random.default_rng(seed).choice([0, 0, 0, 1, 2], shape).astype(np.uint8)
    mask[..., 1] = 0
    return mask


def places_in_seg(path: Path) -> dict[int, set[tuple[float, ...]]]:
    """Return for each segment the voxel centers (L, P, S; 0.01 mm) by PS3.3, C.7.6.2.1.1, read by pydicom alone."""
    seg = pydicom.dcmread(path)
    frames = seg.pixel_array.reshape(-1, seg.Rows, seg.Columns)
    shared = seg.SharedFunctionalGroupsSequence[0]
    places: dict[int, set[tuple[float, ...]]] = {item.SegmentNumber: set() for item in seg.SegmentSequence}
    for frame, groups in zip(frames, seg.PerFrameFunctionalGroupsSequence, strict=True):
        orientation = shared.PlaneOrientationSequence[0].ImageOrientationPatient
        rows_mm, columns_mm = shared.PixelMeasuresSequence[0].PixelSpacing
        first = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
        row, column = np.nonzero(frame)
        points = (
            first
            + np.outer(column * columns_mm, np.array(orientation[:3], dtype=float))
            + np.outer(row * rows_mm, np.array(orientation[3:], dtype=float))
        )
        number = groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        places[number] |= {tuple(point) for point in np.round(points, 2) + 0.0}
    return places


def places_by_itk(folder: Path, mask: np.ndarray) -> dict[int, set[tuple[float, ...]]]:
    """Return the same from a mask on the grid of the source series as ITK reads it."""
    image = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
    assert image.GetSize() == mask.shape
    return {
        value: {
            tuple(np.round(image.TransformIndexToPhysicalPoint([int(i) for i in index]), 2) + 0.0)
            for index in np.argwhere(mask == value)
        }
        for value in (1, 2)
    }


def near(first: set[tuple[float, ...]], second: set[tuple[float, ...]], within_mm: float = 0.02) -> bool:
    a, b = np.array(sorted(first)), np.array(sorted(second))
    if a.shape != b.shape:
        return False
    distances = np.linalg.norm(a[:, None] - b[None], axis=-1)
    return bool((distances.min(axis=1) < within_mm).all() and (distances.min(axis=0) < within_mm).all())


def segmented(
    folder: Path, out: Path, mask: np.ndarray | None = None, **settings: object
) -> tuple[np.ndarray, list[Path]]:
    (case,) = find_series(folder)
    shape = nib.load(to_nifti(case, out / "volume.nii.gz")).shape
    mask = some_mask(shape) if mask is None else mask
    return mask, write_results(case, mask, MODEL, VOLUMES, out, ResultSettings(**settings))


@pytest.mark.parametrize("omit_empty_frames", [True, False])
@pytest.mark.parametrize("seed", range(6))
def test_a_seg_lies_where_the_mask_lies_on_oblique_slices(tmp_path: Path, seed: int, omit_empty_frames: bool) -> None:
    turned = Rotation.random(random_state=seed).as_matrix()
    step = turned[2] * (-2.5 if seed % 2 else 2.5)
    folder = write(
        tmp_path / "s", slices(pixels(), orientation=[*turned[0], *turned[1]], step=step, spacing=(0.8, 1.7))
    )
    mask, paths = segmented(folder, tmp_path, omit_empty_frames=omit_empty_frames)
    found, expected = places_in_seg(paths[0]), places_by_itk(folder, mask)
    assert near(found[1], expected[1])
    assert near(found[2], expected[2])
    frames = pydicom.dcmread(paths[0]).NumberOfFrames
    assert frames == (2 * 4 if omit_empty_frames else 2 * 5)


@pytest.mark.parametrize("row_axis", range(3))
@pytest.mark.parametrize("signs", [(1, 1), (1, -1), (-1, 1), (-1, -1)])
def test_a_seg_lies_where_the_mask_lies_in_all_planes(tmp_path: Path, row_axis: int, signs: tuple[int, int]) -> None:
    for column_axis in {0, 1, 2} - {row_axis}:
        orientation = [*np.eye(3)[row_axis] * signs[0], *np.eye(3)[column_axis] * signs[1]]
        folder = write(tmp_path / f"s{column_axis}", slices(pixels(), orientation=orientation))
        mask, paths = segmented(folder, tmp_path / f"out{column_axis}")
        found, expected = places_in_seg(paths[0]), places_by_itk(folder, mask)
        assert near(found[1], expected[1])
        assert near(found[2], expected[2])


@pytest.mark.skipif(not REAL_STUDY.is_dir(), reason=f"{REAL_STUDY} is absent")
def test_the_real_study_gets_a_seg_on_the_crop(tmp_path: Path) -> None:
    rule = {"name": "hippocampus", "conditions": {"Modality": "MR", "SeriesDescription": "(?i)hippo"}}
    (case,) = find_series(REAL_STUDY, [rule])
    image = nib.load(to_nifti(case, tmp_path / "volume.nii.gz"))
    values = np.asarray(image.dataobj)
    mask = (values > np.percentile(values, 95)).astype(np.uint8)
    mask[:, :20][mask[:, :20] > 0] = 2
    seg_path, _ = write_results(case, mask, MODEL, VOLUMES, tmp_path)
    found, expected = places_in_seg(seg_path), places_by_itk(REAL_STUDY / "13_HCropVolume", mask)
    assert found == expected
    assert min(len(found[1]), len(found[2])) > 100
    seg = hd.seg.segread(seg_path)
    again = seg.get_volume(combine_segments=True).match_geometry(
        hd.Volume.from_nibabel(image, frame_of_reference_uid=seg.FrameOfReferenceUID)
    )
    np.testing.assert_array_equal(again.array, mask)
    source = pydicom.dcmread(case.files[0], stop_before_pixels=True)
    assert seg.SeriesInstanceUID != source.SeriesInstanceUID
    assert (seg.StudyInstanceUID, seg.PatientID, seg.PatientName) == (
        source.StudyInstanceUID,
        source.PatientID,
        source.PatientName,
    )
    assert seg.ReferencedSeriesSequence[0].SeriesInstanceUID == source.SeriesInstanceUID
    assert {item.ReferencedSOPInstanceUID for item in seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence} == {
        pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID for path in case.files
    }


def test_a_seg_names_its_classes_model_and_purpose(tmp_path: Path) -> None:
    _, paths = segmented(write(tmp_path / "s", slices(pixels())), tmp_path)
    seg = pydicom.dcmread(paths[0])
    assert seg.SOPClassUID.name == "Segmentation Storage"
    assert seg.SegmentationType == "BINARY"
    assert seg.SeriesDescription.startswith("AI, research use")
    assert seg.SeriesNumber == 1004
    first, second = seg.SegmentSequence
    assert [first.SegmentLabel, second.SegmentLabel] == ["Anterior hippocampus", "Posterior hippocampus"]
    kind, category = first.SegmentedPropertyTypeCodeSequence[0], first.SegmentedPropertyCategoryCodeSequence[0]
    assert (kind.CodeValue, kind.CodingSchemeDesignator) == ("5366008", "SCT")
    assert category.CodeValue == "123037004"
    assert first.SegmentAlgorithmType == "AUTOMATIC"
    algorithm = first.SegmentationAlgorithmIdentificationSequence[0]
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("hippocampus", "1.2.0")
    assert MODEL.sha256 in algorithm.AlgorithmParameters
    color = hd.color.CIELabColor.from_dicom_value(tuple(first.RecommendedDisplayCIELabValue)).to_rgb()
    np.testing.assert_allclose(color, [230, 60, 40], atol=1)


def test_a_report_lists_each_volume_with_its_segment(tmp_path: Path) -> None:
    _, (seg_path, sr_path) = segmented(write(tmp_path / "s", slices(pixels())), tmp_path)
    document = hd.sr.srread(sr_path)
    assert document.SeriesDescription.startswith("AI, research use")
    groups = document.content.get_volumetric_roi_measurement_groups()
    volumes = [group.get_measurements(name=pydicom.sr.codedict.codes.SCT.Volume)[0] for group in groups]
    assert [volume.value for volume in volumes] == [1.5, 0.25]
    assert {volume.unit.value for volume in volumes} == {"mL"}
    seg_uid = pydicom.dcmread(seg_path).SOPInstanceUID
    for number, group in enumerate(groups, start=1):
        reference = group.referenced_segment
        assert reference.referenced_sop_instance_uid == seg_uid
        assert reference[0].referenced_segment_numbers == [number]
    assert document.VerificationFlag == "UNVERIFIED"


def test_an_empty_mask_is_a_valid_result(tmp_path: Path) -> None:
    folder = write(tmp_path / "s", slices(pixels()))
    for omit in (True, False):
        _, paths = segmented(folder, tmp_path / str(omit), mask=np.zeros((6, 7, 5), np.uint8), omit_empty_frames=omit)
        assert places_in_seg(paths[0]) == {1: set(), 2: set()}


def test_equal_results_have_equal_bytes_and_different_ones_have_different_uids(tmp_path: Path) -> None:
    folder = write(tmp_path / "s", slices(pixels()))
    mask, first = segmented(folder, tmp_path / "a")
    _, again = segmented(folder, tmp_path / "b")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]
    other = mask.copy()
    other[0, 0, 0] = 1 if other[0, 0, 0] != 1 else 2
    _, changed = segmented(folder, tmp_path / "c", mask=other)
    for before, after in zip(first, changed, strict=True):
        one, two = pydicom.dcmread(before), pydicom.dcmread(after)
        assert one.SOPInstanceUID != two.SOPInstanceUID
        assert one.SeriesInstanceUID == two.SeriesInstanceUID


def test_outputs_have_the_date_of_the_source_or_the_requested_one(tmp_path: Path) -> None:
    folder = write(tmp_path / "s", slices(pixels()))
    _, paths = segmented(folder, tmp_path / "a")
    for path in paths:
        assert pydicom.dcmread(path).ContentDate == "20240102"
        assert "2026" not in str(pydicom.dcmread(path))
    _, paths = segmented(folder, tmp_path / "b", made_at=datetime(2025, 5, 6, 7, 8, 9))
    assert pydicom.dcmread(paths[0]).ContentDate == "20250506"
    assert pydicom.dcmread(paths[0]).ContentTime == "070809"


@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4), (3, 0, 4, 2, 1)])
def test_a_seg_on_a_multi_frame_file_lies_on_its_frames(tmp_path: Path, order: tuple[int, ...]) -> None:
    turned = Rotation.from_euler("xyz", [10, -25, 40], degrees=True).as_matrix()
    folder = write(tmp_path / "s", [enhanced(pixels(), order=order, orientation=[*turned[0], *turned[1]])])
    mask, paths = segmented(folder, tmp_path)
    first = np.array([5, -6, 7])
    expected = {
        value: {
            tuple(np.round(first + turned[0] * 1.3 * i + turned[1] * 0.8 * j + turned[2] * 2.0 * k, 2) + 0.0)
            for i, j, k in np.argwhere(mask == value)
        }
        for value in (1, 2)
    }
    found = places_in_seg(paths[0])
    assert near(found[1], expected[1])
    assert near(found[2], expected[2])


@pytest.mark.parametrize("degrees", [-15.0, 15.0])
def test_a_seg_of_tilted_slices_lies_on_the_slices_as_stored(tmp_path: Path, degrees: float) -> None:
    step = (0.0, 3 * np.tan(np.radians(degrees)), 3.0)
    folder = write(tmp_path / "s", slices(pixels((8, 40, 30)), step=step, spacing=(1.0, 1.0), origin=(0, 0, 0)))
    (case,) = find_series(folder, resample_tilt=True)
    image = nib.load(to_nifti(case, tmp_path / "volume.nii.gz"))
    index = np.stack(np.meshgrid(*map(np.arange, image.shape), indexing="ij"), axis=-1)
    points = (index @ image.affine[:3, :3].T + image.affine[:3, 3]) * [-1, -1, 1]
    mask = (np.linalg.norm(points - [14, 20, 10], axis=-1) < 9).astype(np.uint8)
    paths = write_results(case, mask, MODEL, VOLUMES, tmp_path)
    found = np.array(sorted(places_in_seg(paths[0])[1]))
    assert len(found) == pytest.approx(mask.sum(), rel=0.03)
    assert np.linalg.norm(found - [14, 20, 10], axis=-1).max() < 9 + 0.75
    seg = pydicom.dcmread(paths[0])
    stored = {tuple(np.round(d.ImagePositionPatient, 3)) for d in map(pydicom.dcmread, case.files)}
    positions = {
        tuple(np.round(g.PlanePositionSequence[0].ImagePositionPatient, 3))
        for g in seg.PerFrameFunctionalGroupsSequence
    }
    assert positions <= stored


def test_label_values_with_gaps_become_consecutive_segments(tmp_path: Path) -> None:
    folder = write(tmp_path / "s", slices(pixels()))
    (case,) = find_series(folder)
    model = SimpleNamespace(**vars(MODEL) | {"classes": {0: "background", 3: "cyst", 7: "tumour"}, "segments": {}})
    mask = np.zeros((6, 7, 5), np.uint8)
    mask[1, 2, 3], mask[4, 5, 0] = 7, 3
    paths = write_results(case, mask, model, {"cyst": 0.1, "tumour": 0.1}, tmp_path)
    seg = pydicom.dcmread(paths[0])
    assert [(item.SegmentNumber, item.SegmentLabel) for item in seg.SegmentSequence] == [(1, "cyst"), (2, "tumour")]
    assert {number: len(places) for number, places in places_in_seg(paths[0]).items()} == {1: 1, 2: 1}


def test_a_mask_of_another_grid_or_with_unknown_values_is_refused(tmp_path: Path) -> None:
    (case,) = find_series(write(tmp_path / "s", slices(pixels())))
    with pytest.raises(DicomError, match="the mask has 5 × 7 × 6 voxels, the series 6 × 7 × 5"):
        write_results(case, np.zeros((5, 7, 6), np.uint8), MODEL, VOLUMES, tmp_path)
    with pytest.raises(DicomError, match=r"values without a class: \[3\]"):
        write_results(case, np.full((6, 7, 5), 3, np.uint8), MODEL, VOLUMES, tmp_path)
    assert not list(tmp_path.glob("*.dcm"))


def test_names_in_other_alphabets_and_malformed_headers_survive(tmp_path: Path) -> None:
    tags = {
        "SpecificCharacterSet": "ISO_IR 100",
        "PatientName": "Müller^Jörg",
        "PatientSex": "unknown",
        "StudyTime": "noon",
    }
    pydicom.config.settings.writing_validation_mode = pydicom.config.IGNORE
    try:
        folder = write(tmp_path / "s", slices(pixels(), tags=tags, orientation=AXIAL))
    finally:
        pydicom.config.settings.writing_validation_mode = pydicom.config.RAISE
    _, paths = segmented(folder, tmp_path)
    for path in paths:
        output = pydicom.dcmread(path)
        assert output.PatientName == "Müller^Jörg"
        assert output.PatientSex == ""
        assert output.SpecificCharacterSet == "ISO_IR 192"


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy is absent (Debian package dicom3tools)")
def test_an_independent_validator_finds_no_error(tmp_path: Path) -> None:
    _, paths = segmented(write(tmp_path / "s", slices(pixels())), tmp_path)
    for path in paths:
        done = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
        assert "Error" not in done.stderr, done.stderr


@pytest.mark.skipif(shutil.which("dsrdump") is None, reason="dsrdump is absent (Debian package dcmtk)")
def test_dcmtk_reads_the_volumes_from_the_report(tmp_path: Path) -> None:
    _, (_, sr_path) = segmented(write(tmp_path / "s", slices(pixels())), tmp_path)
    text = subprocess.run(["dsrdump", str(sr_path)], capture_output=True, text=True, check=True).stdout
    assert 'NUM:(,,"Volume")="1.5" (mL,UCUM,"milliliter")' in text
    assert 'NUM:(,,"Volume")="0.25" (mL,UCUM,"milliliter")' in text


def test_itk_reads_the_seg_itself_as_the_mask_on_the_source_grid(tmp_path: Path) -> None:
    """With one segment and all frames, ITK reads a SEG as a volume, which is then resampled on the source."""
    turned = Rotation.random(random_state=1).as_matrix()
    folder = write(
        tmp_path / "s", slices(pixels((5, 24, 16)), orientation=[*turned[0], *turned[1]], spacing=(0.8, 1.7))
    )
    (case,) = find_series(folder)
    mask = (some_mask((16, 24, 5)) == 1).astype(np.uint8)
    model = SimpleNamespace(**vars(MODEL) | {"classes": {1: "hippocampus"}})
    seg_path, _ = write_results(
        case, mask, model, {"hippocampus": 1.0}, tmp_path, ResultSettings(omit_empty_frames=False)
    )
    source = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
    seg = sitk.Resample(sitk.ReadImage(str(seg_path)), source, sitk.Transform(), sitk.sitkNearestNeighbor)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(seg).transpose() > 0, mask > 0)
