import json

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from pipeline.data.datalists import read_dataset
from pipeline.data.phantoms import make_phantoms
from pipeline.data.phantoms.anatomy import Head
from pipeline.data.phantoms.geometry import VOXEL_MM, draw_grid
from pipeline.data.scan import scan_dataset
from pipeline.errors import ConfigError
from pipeline.system.files import sha256_of_file
from pipeline.system.random_streams import stream

SMALL = (24, 28, 20)


def volumes(folder, kind):
    return [nib.load(path) for path in sorted((folder / kind).glob("*.nii.gz"))]


def labels(folder):
    return [np.asarray(image.dataobj) for image in volumes(folder, "labelsTr")]


@pytest.fixture(scope="module")
def five(tmp_path_factory):
    return make_phantoms(tmp_path_factory.mktemp("phantoms"), 5, seed=3, foreground_fraction=0.05, shape=SMALL)


def hashes(folder):
    return {str(p.relative_to(folder)): sha256_of_file(p) for p in sorted(folder.rglob("*")) if p.is_file()}


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(five, tmp_path):
    again = make_phantoms(tmp_path / "again", 5, seed=3, foreground_fraction=0.05, shape=SMALL)
    other = make_phantoms(tmp_path / "other", 5, seed=4, foreground_fraction=0.05, shape=SMALL)
    assert hashes(again) == hashes(five)
    assert not set(hashes(other).values()) & set(hashes(five).values())


def test_a_case_does_not_depend_on_how_many_there_are(five, tmp_path):
    # Sizes are scaled to the mean over cases; everything else of a case is its own.
    fewer = make_phantoms(tmp_path, 2, seed=3, foreground_fraction=0.05, shape=SMALL)
    for few, many in zip(volumes(fewer, "imagesTr"), volumes(five, "imagesTr"), strict=False):
        np.testing.assert_array_equal(few.affine, many.affine)


@pytest.mark.parametrize(
    ("fraction", "shape", "tolerance"),
    [(0.1, SMALL, 0.01), (0.03, SMALL, 0.01), (0.01, SMALL, 0.02), (0.001, (32, 32, 24), 0.05), (1e-4, (48,) * 3, 0.1)],
)
def test_the_foreground_has_the_requested_size(fraction, shape, tolerance, tmp_path):
    found = labels(make_phantoms(tmp_path, 4, seed=1, foreground_fraction=fraction, shape=shape))
    shares = [float((label > 0).mean()) for label in found]
    assert np.mean(shares) == pytest.approx(fraction, rel=tolerance)
    assert all(0.7 * fraction < share < 1.35 * fraction for share in shares)
    for label in found:
        large, small, lesions = np.bincount(label.ravel(), minlength=4)[1:]
        assert large > small >= lesions >= 1


def test_structures_are_a_pair_a_small_body_and_scattered_lesions(tmp_path):
    folder = make_phantoms(tmp_path, 1, seed=0, foreground_fraction=0.01, shape=(48, 48, 40))
    (label,) = labels(folder)
    everywhere = np.ones((3, 3, 3))
    # The first case lies in RAS on a grid around the origin.
    left, right = (label[:24] == 1).sum(), (label[24:] == 1).sum()
    assert 0.5 < left / right < 2
    assert ndimage.label(label == 2, everywhere)[1] == 1
    lesions, count = ndimage.label(label == 3, everywhere)
    assert count >= 2
    assert max(np.bincount(lesions.ravel())[1:]) < 0.2 * (label == 2).sum() + 30


def test_grids_are_reversed_permuted_oblique_and_anisotropic(five):
    images = volumes(five, "imagesTr")
    orientations = {"".join(nib.aff2axcodes(image.affine)) for image in images}
    assert orientations == {"RAS", "LPS", "PSR", "LIA"}
    edges = [image.header.get_zooms() for image in images]
    assert sum(max(edge) > 2 * min(edge) for edge in edges) == 2
    turned = [np.abs(image.affine[:3, :3] / np.array(edge)) for image, edge in zip(images, edges, strict=True)]
    assert [bool(np.isclose(turn, np.round(turn), atol=1e-6).all()) for turn in turned] == [
        True,
        True,
        True,
        False,
        False,
    ]
    for image, label in zip(images, volumes(five, "labelsTr"), strict=True):
        np.testing.assert_array_equal(image.affine, label.affine)
        assert image.header["sform_code"] == image.header["qform_code"] == 1
        np.testing.assert_allclose(image.get_qform(), image.get_sform(), atol=1e-4)


def test_every_grid_sees_the_same_person_in_the_same_place():
    """The head's middle, in millimeters, is where it was put, whatever the axes of the grid."""
    head = Head.draw(stream(0, "a head"), 1)
    half_mm = np.array(SMALL) * VOXEL_MM / 2
    middles, volumes_ml = [], []
    for index in range(5):
        grid = draw_grid(index, SMALL, 0)
        points = grid.points_mm()
        np.testing.assert_allclose(points[2, 3, 4], nib.affines.apply_affine(grid.affine, (2, 3, 4)))
        inside = head.fields(points / half_mm).head < 1
        middles.append(points[inside].mean(axis=0))
        volumes_ml.append(inside.sum() * abs(np.linalg.det(grid.affine[:3, :3])) / 1000)
    np.testing.assert_allclose(middles, np.broadcast_to(middles[0], (5, 3)), atol=1.0)
    np.testing.assert_allclose(volumes_ml, volumes_ml[0], rtol=0.05)


def test_images_have_noise_everywhere_and_mixed_voxels_at_borders(five):
    image, label = volumes(five, "imagesTr")[0], labels(five)[0]
    values = np.asarray(image.dataobj).astype(float)
    corner = values[:3, :3, :3]
    assert 0 < corner.mean() < 0.12 * np.percentile(values, 99.5)
    assert corner.std() > 0
    nucleus = label == 2
    core = ndimage.binary_erosion(nucleus)
    # A border voxel holds some of the darker tissue around the nucleus.
    assert values[core].mean() > values[nucleus & ~core].mean()


def test_sensitivity_varies_smoothly_over_one_tissue(five):
    from pipeline.data.phantoms.intensities import sensitivity

    grid = draw_grid(0, SMALL, 0)
    points = grid.points_mm() / (np.array(SMALL) * VOXEL_MM / 2)
    field = sensitivity(points, stream(0, "bias"))
    assert field.max() / field.min() > 1.15
    assert max(np.abs(np.diff(field, axis=axis)).max() for axis in range(3)) < 0.1


def test_the_folder_is_a_valid_decathlon_dataset(five):
    dataset = read_dataset(five)
    assert len(dataset.cases) == 5
    assert list(dataset.classes.values())[-3:] == ["deep_grey", "nucleus", "lesions"]
    result = scan_dataset(dataset)
    assert not [problem for problem in result.problems if problem.severity == "error"]
    described = json.loads((five / "dataset.json").read_text())
    assert described["phantoms"] == {"seed": 3, "foreground_fraction": 0.05, "shape": list(SMALL)}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"cases": 0}, "must be at least 1"),
        ({"foreground_fraction": 0.0}, "must be above 0"),
        ({"foreground_fraction": 0.2}, "at most 0.1"),
        ({"foreground_fraction": 1e-6}, "too few for 3 structures"),
        ({"shape": (4, 24, 24)}, "too small for a head"),
    ],
)
def test_impossible_phantoms_are_refused_before_anything_is_written(arguments, says, tmp_path):
    with pytest.raises(ConfigError, match=says):
        make_phantoms(tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()
