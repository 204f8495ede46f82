"""Volumes have the voxels and positions that SimpleITK reads from the same files."""

import itertools
import shutil
import subprocess
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicom_series import AXIAL, REAL_STUDY, enhanced, pixels, slices, write
from pydicom.uid import JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless, RLELossless
from scipy.spatial.transform import Rotation

from pipeline.inference.dicom import DicomCase, find_series, to_nifti

AXES = [
    (row, column)
    for first, second in itertools.permutations(range(3), 2)
    for row in (np.eye(3)[first], -np.eye(3)[first])
    for column in (np.eye(3)[second], -np.eye(3)[second])
]


def itk_reads(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return array (columns, rows, slices) and affine in R, A, S, as ITK reads the series."""
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))
    image = sitk.ReadImage(names)
    return sitk.GetArrayFromImage(image).transpose(), _affine(image)


def _affine(image: sitk.Image) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return np.diag([-1, -1, 1, 1]) @ affine


def the_case(folder: Path, **settings: object) -> DicomCase:
    (case,) = find_series(folder, **settings)
    return case


def we_read(folder: Path, **settings: object) -> tuple[np.ndarray, np.ndarray]:
    image = nib.load(to_nifti(the_case(folder, **settings), folder.parent / "volume.nii.gz"))
    assert image.get_data_dtype() == np.float32
    return np.asarray(image.dataobj), image.affine


@pytest.mark.parametrize("is_reversed", [False, True])
@pytest.mark.parametrize("axes", range(len(AXES)))
def test_all_48_axis_orientations_agree_with_itk(tmp_path: Path, axes: int, is_reversed: bool) -> None:
    row, column = AXES[axes]
    step = np.cross(row, column) * (-2.5 if is_reversed else 2.5)
    write(tmp_path / "s", slices(pixels(), orientation=[*row, *column], step=step, spacing=(0.75, 1.25)))
    array, affine = we_read(tmp_path / "s")
    expected, expected_affine = itk_reads(tmp_path / "s")
    np.testing.assert_array_equal(array, expected)
    np.testing.assert_allclose(affine, expected_affine, atol=1e-5)


@pytest.mark.parametrize("seed", range(12))
def test_oblique_series_agree_with_itk(tmp_path: Path, seed: int) -> None:
    turned = Rotation.random(random_state=seed).as_matrix()
    write(tmp_path / "s", slices(pixels(seed=seed), orientation=[*turned[0], *turned[1]], spacing=(0.4297, 0.9)))
    array, affine = we_read(tmp_path / "s")
    expected, expected_affine = itk_reads(tmp_path / "s")
    np.testing.assert_array_equal(array, expected)
    np.testing.assert_allclose(affine, expected_affine, atol=1e-4)


@pytest.mark.skipif(not REAL_STUDY.is_dir(), reason=f"{REAL_STUDY} is absent")
@pytest.mark.parametrize("name", ["12-T1post", "13_HCropVolume"])
def test_the_real_series_agree_with_itk(tmp_path: Path, name: str) -> None:
    image = nib.load(to_nifti(the_case(REAL_STUDY / name), tmp_path / "volume.nii.gz"))
    expected, expected_affine = itk_reads(REAL_STUDY / name)
    np.testing.assert_array_equal(np.asarray(image.dataobj), expected)
    np.testing.assert_allclose(image.affine, expected_affine, atol=1e-3)


def test_pixels_that_are_not_square_keep_the_spacing_of_rows_and_columns(tmp_path: Path) -> None:
    """Spacing is stored as rows, columns: 0.5 mm from row to row is the second axis of a NIfTI file."""
    write(tmp_path / "s", slices(pixels(), spacing=(0.5, 2.0), gap_mm=4.0))
    _, affine = we_read(tmp_path / "s")
    np.testing.assert_allclose(np.linalg.norm(affine[:3, :3], axis=0), [2.0, 0.5, 4.0], atol=1e-6)


def test_each_slice_is_rescaled_by_its_own_slope_and_intercept(tmp_path: Path) -> None:
    array = pixels((4, 3, 5))
    datasets = slices(array)
    scales = [(1.0, 0.0), (0.5, -7.25), (2.0, 100.0), (1 / 3, 0.125)]
    for dataset, (slope, intercept) in zip(datasets, scales, strict=True):
        dataset.RescaleSlope, dataset.RescaleIntercept = f"{slope:.10g}", f"{intercept:.10g}"
    write(tmp_path / "s", datasets)
    read, _ = we_read(tmp_path / "s")
    expected = np.stack([plane * slope + intercept for plane, (slope, intercept) in zip(array, scales, strict=True)])
    np.testing.assert_allclose(read, expected.transpose(), rtol=1e-6)


def test_a_ct_is_read_in_hounsfield_units(tmp_path: Path) -> None:
    tags = {"Modality": "CT", "RescaleSlope": 1, "RescaleIntercept": -1024, "RescaleType": "HU"}
    array = pixels()
    write(tmp_path / "s", slices(array, tags=tags))
    np.testing.assert_array_equal(we_read(tmp_path / "s")[0], array.transpose() - 1024.0)


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless], ids=lambda uid: uid.keyword)
def test_compressed_series_are_the_series_before_compression(tmp_path: Path, syntax: str) -> None:
    array = pixels((3, 40, 36))
    datasets = slices(array)
    for dataset in datasets:
        dataset.compress(syntax, generate_instance_uid=False)
    write(tmp_path / "s", datasets)
    assert pydicom.dcmread(tmp_path / "s" / "f0").file_meta.TransferSyntaxUID == syntax
    np.testing.assert_array_equal(we_read(tmp_path / "s")[0], array.transpose())


@pytest.mark.skipif(shutil.which("dcmcjpeg") is None, reason="dcmtk is absent (Debian package dcmtk)")
def test_lossless_jpeg_of_scanners_is_the_series_before_compression(tmp_path: Path) -> None:
    array = np.abs(pixels((3, 40, 36)))
    for path in sorted(write(tmp_path / "plain", slices(array)).iterdir()):
        (tmp_path / "s").mkdir(exist_ok=True)
        subprocess.run(["dcmcjpeg", "+e1", str(path), str(tmp_path / "s" / path.name)], check=True)
    assert pydicom.dcmread(tmp_path / "s" / "f0").file_meta.TransferSyntaxUID == JPEGLosslessSV1
    np.testing.assert_array_equal(we_read(tmp_path / "s")[0], array.transpose())


@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4), (4, 3, 2, 1, 0), (2, 0, 4, 1, 3)])
def test_frames_of_a_multi_frame_file_are_ordered_by_position_and_rescaled_one_by_one(
    tmp_path: Path, order: tuple[int, ...]
) -> None:
    array = pixels()
    turned = Rotation.from_euler("xyz", [20, -35, 50], degrees=True).as_matrix()
    write(tmp_path / "s", [enhanced(array, order=order, orientation=[*turned[0], *turned[1]])])
    read, affine = we_read(tmp_path / "s")
    expected = np.stack([plane * (1 + place / 4) - 10 * place for place, plane in enumerate(array)])
    np.testing.assert_allclose(read, expected.transpose(), rtol=1e-6)
    columns = np.stack([turned[0] * 1.3, turned[1] * 0.8, turned[2] * 2.0, [5, -6, 7]], axis=1)
    np.testing.assert_allclose(affine[:3], np.diag([-1, -1, 1]) @ columns, atol=1e-4)


def test_a_multi_frame_file_lies_where_itk_puts_it(tmp_path: Path) -> None:
    write(tmp_path / "s", [enhanced(pixels(), order=range(5))])
    _, affine = we_read(tmp_path / "s")
    np.testing.assert_allclose(affine, _affine(sitk.ReadImage(str(tmp_path / "s" / "f0"))), atol=1e-5)


def test_positions_in_another_spelling_make_the_same_volume(tmp_path: Path) -> None:
    """Direction cosines rounded differently from slice to slice are one orientation."""
    turned = Rotation.from_euler("z", 12, degrees=True).as_matrix()
    datasets = slices(pixels(), orientation=[*turned[0], *turned[1]])
    for digits, dataset in zip(itertools.cycle((5, 6, 8)), datasets, strict=False):
        dataset.ImageOrientationPatient = [round(float(value), digits) for value in dataset.ImageOrientationPatient]
    write(tmp_path / "s", datasets)
    np.testing.assert_array_equal(we_read(tmp_path / "s")[0], pixels().transpose())


def tilted(degrees: float) -> tuple[np.ndarray, list[pydicom.FileDataset]]:
    """Return a smooth object sampled on slices that are shifted along the columns, and their datasets."""
    step = np.array([0.0, 3 * np.tan(np.radians(degrees)), 3.0])
    s, r, c = np.meshgrid(np.arange(8), np.arange(40), np.arange(30), indexing="ij")
    y, x, z = r + s * step[1], c * 1.0, s * 3.0
    blob = 1000 * np.exp(-(((x - 14) / 6) ** 2 + ((y - 22) / 7) ** 2 + ((z - 11) / 9) ** 2))
    array = blob.astype(np.int16)
    return array, slices(array, step=step, spacing=(1.0, 1.0), origin=(0, 0, 0), tags={"Modality": "CT"})


@pytest.mark.parametrize("degrees", [-18.0, 18.0])
def test_a_tilted_gantry_is_resampled_where_the_object_is(tmp_path: Path, degrees: float) -> None:
    _, datasets = tilted(degrees)
    write(tmp_path / "s", datasets)
    refused = the_case(tmp_path / "s")
    assert "tilted by 18.0°" in (refused.problem or "")
    array, affine = we_read(tmp_path / "s", resample_tilt=True)
    index = np.stack(np.meshgrid(*map(np.arange, array.shape), indexing="ij"), axis=-1)
    points = index @ affine[:3, :3].T + affine[:3, 3]
    x, y, z = -points[..., 0], -points[..., 1], points[..., 2]
    expected = 1000 * np.exp(-(((x - 14) / 6) ** 2 + ((y - 22) / 7) ** 2 + ((z - 11) / 9) ** 2))
    assert np.abs(affine[:3, :3][~np.eye(3, dtype=bool)]).max() < 1e-6
    inside = array > 20
    assert inside.sum() > 500
    assert np.abs(array - expected)[inside].max() < 12


def test_a_drift_below_half_a_pixel_is_not_a_tilt(tmp_path: Path) -> None:
    write(tmp_path / "s", slices(pixels(), step=(0.0, 0.1, 3.0), spacing=(1.0, 1.0)))
    assert the_case(tmp_path / "s").problem is None


def test_reading_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    write(tmp_path / "s", slices(pixels(), orientation=AXIAL))
    case = the_case(tmp_path / "s")
    first, second = to_nifti(case, tmp_path / "a.nii.gz"), to_nifti(case, tmp_path / "b.nii.gz")
    assert first.read_bytes() == second.read_bytes()
